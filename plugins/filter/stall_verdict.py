# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""Why a project does not move, from the wait and the hosts."""

from __future__ import annotations

import sys
from pathlib import Path

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.status import read_host  # noqa: E402
from qsmr.watch import EXIT_CODES, explain_stall  # noqa: E402

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
    msg: "{{ (watched | stall_verdict({})).msg }}"
"""

RETURN = r"""
_value:
  description: The reason as C(msg), and as C(exit_code) the code that stands for it.
  type: dict
"""


def stall_verdict(watched, probes):
    hosts = [read_host(host, probe) for host, probe in sorted(probes.items())]
    how, message = explain_stall(watched["ending"], watched["msg"], hosts)
    return {"msg": message, "exit_code": EXIT_CODES[how]}


class FilterModule:
    def filters(self):
        return {"stall_verdict": stall_verdict}
