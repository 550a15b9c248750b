"""Fill in what the module qsmr_worker needs of a snapshot on the control node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.errors import QsmrError  # noqa: E402
from qsmr.snapshot import in_words, take_release  # noqa: E402


class ActionModule(ActionBase):
    """Reads the files here, so that they are in no template, and the secret one in no variable."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        try:
            take_release(arguments)
        except QsmrError as error:
            raise AnsibleActionFail(str(error)) from error
        answer: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
        return in_words(answer) if self._task.args.get("foretold") else answer
