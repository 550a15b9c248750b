# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why a project does not move, from the wait and the hosts."""

from __future__ import annotations

import sys
from pathlib import Path

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.status import read_host  # noqa: E402
from qsmr.verdict import Ending, Tally, explain_stall  # noqa: E402

DOCUMENTATION = r"""
name: stall_verdict
short_description: Why a project does not move
version_added: "0.1.0"
description:
  - Puts what M(qsmr_watch) returned and what M(qsmr_worker_info) found on the hosts together.
positional: _input
options:
  _input:
    description: What M(qsmr_watch) returned.
    type: dict
    required: true
  probes:
    description: What M(qsmr_worker_info) registered, by the host's name. Empty if no host was asked.
    type: dict
    required: true
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
- name: Reason is told
  ansible.builtin.debug:
    msg: "{{ (watched | stall_verdict({})).message }}"
"""

RETURN = r"""
_value:
  description: >-
    How waiting ended as C(ending), the reason as C(message), the code that stands for it as C(exit_code), and the
    outcome in a line of 80 columns as C(last_line).
  type: dict
"""


def stall_verdict(watched, probes):
    hosts = [read_host(host, probe) for host, probe in sorted(probes.items())]
    tally = Tally(*(watched[key] for key in ("finished_jobs", "failed_jobs", "running", "available")))
    return explain_stall(Ending(watched["ending"], tally, watched["msg"]), hosts).record


class FilterModule:
    def filters(self):
        return {"stall_verdict": stall_verdict}
