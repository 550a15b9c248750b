"""What the action plugins for a whole fleet do alike: options, lock, audit, and jobs of workers that are gone."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from .audit import Audit, operator
from .claims import free_jobs_of
from .errors import QsmrError
from .files import limit_umask
from .hostpaths import STATE_SETTING, why
from .jobapi import JobApi
from .libraries import check_libraries
from .names import check_project_name
from .rolloutlock import ControlLock
from .settings import CONFIG, load_settings

display = Display()

# What the roles tell each other for each host and stage. Given with -e it would hold for all of them.
INNER = ("worker_release", "worker_revert", "worker_mark", "worker_hold")


class FleetAction(ActionBase):  # type: ignore[misc] # Ansible has no types
    """Runs once for all hosts, on the control node only. The option ``step`` names the method that answers."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    OPTIONS: ClassVar[dict[str, dict[str, Any]]] = {
        "project": {"type": "str", "required": True},
        "state_dir": {"type": "path", "required": True},
        "hosts": {"type": "list", "elements": "str", "default": []},
        "break_lock": {"type": "bool", "default": False},
        "config_file": {"type": "path"},
        "config": CONFIG,
    }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, self.given = self.validate_argument_spec(self.OPTIONS)
        self.vars = task_vars or {}
        self.directory = Path(self.given["state_dir"]) / self.given["project"]
        self.audit = Audit(self.directory)
        try:
            check_libraries()
            check_project_name(self.given["project"])
            limit_umask()
            if given := [name for name in INNER if name in load_extra_vars(self._loader)]:
                raise QsmrError(
                    f"{', '.join(given)} is not for -e: set qsmr_release for a release, the rest is by stage"
                )
            return {"changed": False, **getattr(self, f"_{self.given['step']}")()}
        except QsmrError as error:
            raise AnsibleActionFail(str(error)) from error
        except OSError as error:
            if error.filename is None:
                raise  # not a file's
            raise AnsibleActionFail(f"{error.filename} cannot be used: {why(error, STATE_SETTING)}") from error

    def take_lock(self, seconds: float) -> dict[str, Any]:
        """Take the control node's lock for so long at most; the answer is what the hosts get. Raises QsmrError."""
        lock = {
            "who": operator(),
            "since": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "what": f"{self.given['what']} of project {self.given['project']}",
            "expires": time.time() + seconds,
        }
        # The playbook's process is the parent of the one that runs this task.
        return ControlLock(self.directory).take(lock, os.getppid(), self.given["break_lock"])

    def end(self, run: str, lock: dict[str, Any], text: str, events: Sequence[dict[str, Any]]) -> None:
        """Write the last events of a run to the audit, and give back the lock that ``take_lock`` returned.

        Raises QsmrError where a disk is full, say, which begins with ``text``: how it ended all the same.
        """
        try:
            for event in events:
                self.audit.add(run, **event)
        except QsmrError as error:
            raise QsmrError(f"{text}\n{error}") from None
        finally:
            self.give_back(lock)

    def give_back(self, lock: dict[str, Any]) -> None:
        if lock:
            ControlLock(self.directory).release(lock)

    def api(self) -> JobApi:
        """The job service of the settings."""
        settings = load_settings(self.given["config_file"], self.given["config"])
        return JobApi(settings.job_api_root, settings.job_api_username, settings.job_api_password)

    def free_jobs(self, workers: list[str]) -> int:
        """Make the jobs available that workers hold which are no more. What was asked for does not depend on it."""
        if not workers or not (self.given["config_file"] or any(self.given["config"].values())):
            return 0
        freed = 0
        try:
            with self.api() as api:
                freed, faults = free_jobs_of(api, self.given["project"], workers)
        except QsmrError as error:
            faults = [str(error)]
        if faults:
            display.warning(f"Jobs of workers that are no more may still be claimed, run retry.yml later: {faults[0]}")
        return freed


def summary(text: str) -> dict[str, Any]:
    """The part of an answer that ends the run with this text, see the callback qsmr_story."""
    return {"ansible_stats": {"data": {"qsmr_summary": [text]}, "aggregate": True, "per_host": False}}
