"""Find a project's snapshot, in Ansible's own process, which is quicker: see library/qsmr_snapshot_info.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.errors import QsmrError  # noqa: E402
from qsmr.names import docker_name  # noqa: E402
from qsmr.signature import TrustedKeys  # noqa: E402
from qsmr.snapshot import NoSnapshot, choose_snapshot, read_snapshot  # noqa: E402


class ActionModule(ActionBase):
    """Runs on the control node only."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, given = self.validate_argument_spec(
            {
                "project": {"type": "str", "required": True},
                "directory": {"type": "path", "required": True},
                "source": {"type": "path"},
                "trusted_keys": {"type": "list", "elements": "str", "default": []},
                "foretold": {"type": "dict", "default": {}},
            }
        )
        source = Path(given["source"]) if given["source"] else None
        foretold = given["foretold"]
        answer: dict[str, Any] = {"changed": False, "directory": "", "manifest": {}, "foretold": {}}
        try:
            trusted = TrustedKeys(given["trusted_keys"])
            if foretold and not (source and read_snapshot(source).project == given["project"]):
                if trusted:
                    trusted.check_signer(foretold["signer"])
                answer |= {"manifest": foretold["snapshot"], "foretold": foretold}
            else:
                found = choose_snapshot(given["project"], Path(given["directory"]), source)
                if trusted:
                    trusted.check(found)
                answer |= {"directory": str(found.directory), "manifest": found.manifest}
        except NoSnapshot as error:
            if not self._task.check_mode:
                raise AnsibleActionFail(str(error)) from error
            Display().warning(f"{error}. Until then nobody can say what it would change on the hosts")
        except QsmrError as error:
            raise AnsibleActionFail(str(error)) from error
        return {**answer, "compose_project": f"qsmr-{docker_name(given['project'])}"}
