"""What the modules on the control node do alike: take their arguments, read the settings, and answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from .errors import QsmrError
from .files import limit_umask
from .hostpaths import STATE_SETTING, why
from .libraries import check_libraries
from .names import check_project_name
from .settings import CONFIG, KEYS, Settings, load_settings, readable_by_others

SERVICES: dict[str, dict[str, Any]] = {
    "config_file": {"type": "path"},
    "config": CONFIG,
    "project": {"type": "str", "required": True},
}
"""The options that the document fragment ``qsmr`` describes."""

ODIN_PROJECT: dict[str, dict[str, Any]] = {"odin_project": {"type": "str"}}
"""The option that the document fragment ``qsmr.odin_project`` describes."""


class ControlModule(AnsibleModule):  # type: ignore[misc] # Ansible has no types
    """A module with the option ``config``, of which a failure shows no value whose key Ansible does not know.

    Such a value may be a secret with a misspelt key.
    """

    def fail_json(self, msg: str, **answer: Any) -> None:
        if "config" in self.params:
            given = self.params["config"]
            known = given if isinstance(given, dict) else {}
            self.params["config"] = {key: value for key, value in known.items() if key in KEYS}
        super().fail_json(msg, **answer)


def run_module(run: Callable[[AnsibleModule], dict[str, Any]], options: dict[str, dict[str, Any]]) -> None:
    """Answer with what ``run`` returns; a QsmrError is the user's, and fails with its line, as do faults of files."""
    module = ControlModule(argument_spec=options, supports_check_mode=True)
    limit_umask()
    try:
        check_libraries()
        module.exit_json(**run(module))
    except QsmrError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        if error.filename is None:
            raise  # not a file's
        module.fail_json(msg=f"{error.filename} cannot be used: {why(error, STATE_SETTING)}")


def settings_of(module: AnsibleModule) -> Settings:
    """The settings that the options SERVICES name.

    Sets ``odin_project`` to the project where it is not given. Raises QsmrError for a name that no project can have,
    and for settings that are missing or wrong.
    """
    parameters = module.params
    check_project_name(parameters["project"])
    if "odin_project" in parameters:
        parameters["odin_project"] = parameters["odin_project"] or parameters["project"]
        check_project_name(parameters["odin_project"], "Odin project")
    return load_settings(parameters["config_file"], parameters["config"])


def warn_of_readers(module: AnsibleModule) -> None:
    """Warn of a settings file that others can read."""
    file = module.params["config_file"]
    if file and readable_by_others(file):
        module.warn(f"Others can read {file}, which holds secrets: chmod 600 {file}")
