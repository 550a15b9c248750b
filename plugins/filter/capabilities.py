# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The capabilities that a machine has, for playbooks."""

from __future__ import annotations

import sys
from pathlib import Path

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.capabilities import capabilities_of  # noqa: E402

DOCUMENTATION = r"""
name: capabilities
short_description: The Linux capabilities that a process of this machine can have
version_added: "0.1.0"
description:
  - Containers may ask for these. What the machine itself lacks, Docker can neither give nor drop.
options:
  _input:
    description: The content of C(/proc/self/status).
    type: str
    required: true
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
capabilities: "{{ lookup('ansible.builtin.file', '/proc/self/status') | capabilities }}" # [CAP_CHOWN, ...]
"""

RETURN = r"""
_value:
  description: The names of the capabilities.
  type: list
  elements: str
"""


class FilterModule:
    """What containers may ask for."""

    def filters(self) -> dict:
        return {"capabilities": capabilities_of}
