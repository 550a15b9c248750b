"""Spare the host the module qsmr_image where the push has seen the image there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.hostimage import made  # noqa: E402
from qsmr.snapshot import TO_BE_MADE, in_words  # noqa: E402


class ActionModule(ActionBase):
    """With ``loaded`` it answers what the module would; without, the module does it all."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        given = self._task.args
        if boolean(given.get("loaded", False)):
            name = given["snapshot"]["image"]["name"]
            return {"changed": True, "image": name, **made(name, int(given.get("sent", 0)))}
        answer: dict[str, Any] = self._execute_module(task_vars=task_vars)
        if given["snapshot"]["snapshot_id"] == TO_BE_MADE:
            answer["actions"] = in_words(answer.get("actions", []))
        return answer
