"""Fill in what the module qsmr_preflight needs of the control node, and compare the two clocks."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.errors import QsmrError  # noqa: E402
from qsmr.rollout import clock_faults  # noqa: E402
from qsmr.settings import load_settings  # noqa: E402
from qsmr.snapshot import in_words, take_release  # noqa: E402


class ActionModule(ActionBase):
    """Reads the files here, so that they are in no template, and the secret one in no variable."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        config_file, config = arguments.get("config_file", ""), arguments.get("config", {})
        try:
            take_release(arguments)
            if config_file or config:
                arguments["odin_api_root"] = load_settings(config_file or None, config).odin_api_root
        except QsmrError as error:
            raise AnsibleActionFail(str(error)) from error
        asked = time.time()
        answer: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
        if answer.get("differences") or answer.get("faults"):
            answer["faults"] += clock_faults(answer["clock"], asked, time.time())
        return in_words(answer) if self._task.args.get("foretold") else answer
