# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
"""The five settings of the former scripts, for playbooks."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from ansible.errors import AnsibleFilterError

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.errors import QsmrError  # noqa: E402
from qsmr.settings import load_settings  # noqa: E402

DOCUMENTATION = r"""
name: config_settings
short_description: The settings in a config file of the former scripts
version_added: "0.1.0"
description:
  - Reads the five settings, and names all that is missing or wrong.
positional: overrides
options:
  _input:
    description: Path of the KEY=VALUE file, or empty when the overrides hold all of them.
    type: str
    required: true
  overrides:
    description: The same keys, for values that come from a vault. They win over the file.
    type: dict
    default: {}
author: qsmr-fleet developers (@qsmr-fleet)
"""

EXAMPLES = r"""
root: "{{ ('lab.conf' | config_settings).job_api_root }}"
"""

RETURN = r"""
_value:
  description: The settings by their names in lower case. They hold two secrets.
  type: dict
"""


def config_settings(path: str, overrides: Mapping[str, object] | None = None) -> dict[str, str]:
    """Reads and checks the settings."""
    try:
        return asdict(load_settings(str(path) or None, overrides))
    except QsmrError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """What playbooks may know of the config file."""

    def filters(self) -> dict:
        return {"config_settings": config_settings}
