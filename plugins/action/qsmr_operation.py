"""The frame of an operation on a project's hosts, on the control node: see library/qsmr_operation.py."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.audit import new_run, operator  # noqa: E402
from qsmr.fleetaction import FleetAction, summary  # noqa: E402
from qsmr.rollout import Answer  # noqa: E402


class ActionModule(FleetAction):
    """Begins and ends what the tasks between do."""

    OPTIONS = {
        **FleetAction.OPTIONS,
        "step": {"type": "str", "required": True, "choices": ["begin", "end"]},
        "what": {"type": "str", "required": True},
        "seconds": {"type": "float", "default": 900.0},
        "begun": {"type": "dict", "default": {}},
        "answers": {"type": "list", "elements": "str", "default": []},
    }

    def _begin(self) -> dict[str, Any]:
        lock = self.take_lock(self.given["seconds"])
        run = new_run()
        self.audit.add(run, "begin", by=operator(), what=self.given["what"], to="", hosts=self.given["hosts"])
        return {"lock": lock, "run": run}

    def _end(self) -> dict[str, Any]:
        given, begun = self.given, self.given["begun"]
        answers = {host: self._answer(host) for host in given["hosts"]}
        lines = [f"{host}: {_told(answer, self._task.check_mode)}" for host, answer in answers.items()]
        if begun:
            freed = self.free_jobs([name for answer in answers.values() for name in answer.data.get("gone", [])])
            if freed:
                lines.insert(0, f"{freed} jobs of workers that were killed were made available.")
            bad = [host for host, answer in answers.items() if answer.problem]
            end = {"event": "end", "ended": "done in part" if bad else "done", "why": ", ".join(bad)}
            events = [_event(host, answer) for host, answer in answers.items()]
            self.end(begun["run"], begun["lock"], "\n".join(lines), [*events, end])
        return summary("\n".join(lines))

    def _answer(self, host: str) -> Answer:
        known: Mapping[str, Any] = self.vars["hostvars"][host]
        return Answer.of(next((known[name] for name in self.given["answers"] if name in known), None), "differences")


def _event(host: str, answer: Answer) -> dict[str, Any]:
    """What became of a host, for the audit."""
    ended = "lost" if answer.lost else "failed" if answer.problem else "done"
    check = {"check": answer.problem.splitlines()[0]} if answer.problem else {}
    differences = answer.data.get("differences", [])
    return {"event": "host", "host": host, "ended": ended, "differences": differences, **check}


def _told(answer: Answer, check_mode: bool) -> str:
    """What became of a host, in a line."""
    if answer.problem:
        return f"not done: {answer.problem.splitlines()[0]}"
    differences = "; ".join(answer.data["differences"])
    done = f"{'to do: ' if check_mode else ''}{differences}" if differences else "nothing to do"
    return done + (f" ({answer.data['note']})" if answer.data.get("note") else "")
