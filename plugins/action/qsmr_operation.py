"""The frame of an operation on a project's hosts, on the control node: see library/qsmr_operation.py."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.audit import Audit, operator  # noqa: E402
from qsmr.claims import free_jobs_of  # noqa: E402
from qsmr.errors import QsmrError  # noqa: E402
from qsmr.jobapi import JobApi  # noqa: E402
from qsmr.rollout import Answer  # noqa: E402
from qsmr.rolloutlock import ControlLock  # noqa: E402
from qsmr.settings import load_settings  # noqa: E402

display = Display()

OPTIONS = {
    "step": {"type": "str", "required": True, "choices": ["begin", "end"]},
    "project": {"type": "str", "required": True},
    "state_dir": {"type": "path", "required": True},
    "what": {"type": "str", "required": True},
    "seconds": {"type": "float", "default": 900.0},
    "break_lock": {"type": "bool", "default": False},
    "begun": {"type": "dict", "default": {}},
    "hosts": {"type": "list", "elements": "str", "default": []},
    "answers": {"type": "list", "elements": "str", "default": []},
    "config_file": {"type": "path"},
    "config": {"type": "dict", "default": {}, "no_log": True},
}


class ActionModule(ActionBase):
    """Runs once for all hosts, on the control node only."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _result, self.given = self.validate_argument_spec(OPTIONS)
        self.vars = task_vars or {}
        self.directory = Path(self.given["state_dir"]) / self.given["project"]
        self.audit = Audit(self.directory)
        try:
            return {"changed": False, **(self._begin() if self.given["step"] == "begin" else self._end())}
        except QsmrError as error:
            raise AnsibleActionFail(str(error)) from error

    def _begin(self) -> dict[str, Any]:
        what = self.given["what"]
        lock = {
            "who": operator(),
            "since": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "what": f"{what} of project {self.given['project']}",
            "expires": time.time() + self.given["seconds"],
        }
        # The playbook's process is the parent of the one that runs this task.
        taken = ControlLock(self.directory).take(lock, os.getppid(), self.given["break_lock"])
        run = uuid.uuid4().hex[:12]
        self.audit.add(run, "begin", by=operator(), what=what, to="", hosts=self.given["hosts"])
        return {"lock": taken, "run": run}

    def _end(self) -> dict[str, Any]:
        given, begun = self.given, self.given["begun"]
        answers = {host: self._answer(host) for host in given["hosts"]}
        lines = [f"{host}: {_told(answer, self._task.check_mode)}" for host, answer in answers.items()]
        if begun:
            for host, answer in answers.items():
                ended = "lost" if answer.lost else "failed" if answer.problem else "done"
                fields = {"check": answer.problem.splitlines()[0]} if answer.problem else {}
                differences = answer.data.get("differences", [])
                self.audit.add(begun["run"], "host", host=host, ended=ended, differences=differences, **fields)
            freed = self._free([name for answer in answers.values() for name in answer.data.get("gone", [])])
            if freed:
                lines.insert(0, f"{freed} jobs of workers that were killed were made available.")
            bad = [host for host, answer in answers.items() if answer.problem]
            self.audit.add(begun["run"], "end", ended="done in part" if bad else "done", why=", ".join(bad))
            ControlLock(self.directory).release(begun["lock"]["id"])
        stats = {"data": {"qsmr_summary": ["\n".join(lines)]}, "aggregate": True, "per_host": False}
        return {"ansible_stats": stats}

    def _answer(self, host: str) -> Answer:
        known: Mapping[str, Any] = self.vars["hostvars"][host]
        return Answer.of(next((known[name] for name in self.given["answers"] if name in known), None), "differences")

    def _free(self, workers: list[str]) -> int:
        """Make the jobs available that workers hold which are no more. What was asked for does not depend on it."""
        if not workers or not (self.given["config_file"] or self.given["config"]):
            return 0
        try:
            settings = load_settings(self.given["config_file"], self.given["config"])
            api = JobApi(settings.job_api_root, settings.job_api_username, settings.job_api_password)
            return sum(free_jobs_of(api, self.given["project"], worker) for worker in workers)
        except QsmrError as error:
            display.warning(f"Jobs of workers that are no more may still be claimed, run retry.yml later: {error}")
            return 0


def _told(answer: Answer, check_mode: bool) -> str:
    """What became of a host, in a line."""
    if answer.problem:
        return f"not done: {answer.problem.splitlines()[0]}"
    differences = "; ".join(answer.data["differences"])
    done = f"{'to do: ' if check_mode else ''}{differences}" if differences else "nothing to do"
    return done + (f" ({answer.data['note']})" if answer.data.get("note") else "")
