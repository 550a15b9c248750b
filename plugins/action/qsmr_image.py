"""Send a snapshot's image to a host that lacks it: the control node's part of the module qsmr_image."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Ask the module, send the archive if it wants it, and ask again."""

    _supports_check_mode = True
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        answer: dict[str, Any] = self._execute_module(module_args=arguments, task_vars=task_vars)
        target = answer.pop("send_to", None)
        if not target:
            return answer
        archive = Path(arguments["archive"])
        try:
            # From disk to disk: an archive of some GB never is in memory.
            self._connection.put_file(str(archive), target)
        except AnsibleConnectionFailure:
            raise
        except AnsibleError as error:
            return {"failed": True, "msg": f"{archive} could not be sent to {target}: {_last_line(error)}"}
        answer = self._execute_module(module_args={**arguments, "received": True}, task_vars=task_vars)
        if answer.pop("damaged", False) and self._is_damaged(archive, arguments["snapshot"]["archive"]["sha256"]):
            answer["msg"] = (
                f"{archive} is not the archive that its snapshot.json names, so that no host loads it: "
                "build the snapshot again"
            )
        return answer

    @staticmethod
    def _is_damaged(archive: Path, sha256: str) -> bool:
        with archive.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() != sha256


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1]
