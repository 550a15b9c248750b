"""The decisions of a rollout, made on the control node from what all hosts answered: see library/qsmr_rollout.py."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Ansible finds a project's module_utils for modules, but not for plugins, which run in its own process.
sys.path.append(str(Path(__file__).parents[1] / "module_utils"))
from qsmr.audit import new_run, operator, switched_by  # noqa: E402
from qsmr.errors import QsmrError  # noqa: E402
from qsmr.fleetaction import FleetAction, display, summary  # noqa: E402
from qsmr.machines import check_machines  # noqa: E402
from qsmr.rollout import (  # noqa: E402
    BAD,
    FINE,
    SWITCHED,
    TAKEN_BACK,
    WAITING,
    Answer,
    Rollout,
    fault_table,
    host_faults,
    hosts_to_send_to,
    plan,
    require,
)
from qsmr.stages import batches  # noqa: E402


class ActionModule(FleetAction):
    """Every step takes the state from the one before."""

    OPTIONS = {
        **FleetAction.OPTIONS,
        "step": {"type": "str", "required": True, "choices": ["check", "lock", "begin", "judge", "taken_back", "end"]},
        "what": {"type": "str", "default": "rollout"},
        "answers": {"type": "str", "default": ""},
        "plan": {"type": "dict", "default": {}},
        "rollout": {"type": "dict", "default": {}},
        "lock": {"type": "dict", "default": {}},
        "skip_unfit": {"type": "bool", "default": False},
        "batches": {"type": "raw", "default": 1},
        "max_failed_hosts": {"type": "raw", "default": 0},
        "on_failure": {"type": "str", "choices": ["revert_all", "keep"], "default": "revert_all"},
        "canary_jobs": {"type": "raw", "default": 0},
        "canary_deadline": {"type": "raw", "default": 1800},
        "seconds_per_stage": {"type": "float", "default": 600.0},
    }

    def _answers(self, variable: str) -> dict[str, Mapping[str, Any] | None]:
        """A registered variable of every host; None for hosts that Ansible has dropped from the play."""
        hostvars, there = self.vars["hostvars"], set(self.vars["ansible_play_hosts"])
        return {host: hostvars[host].get(variable) if host in there else None for host in self.given["hosts"]}

    def _check(self) -> dict[str, Any]:
        """Which hosts are fit, what each of them needs, and whether anything is to be done at all."""
        answers = self._answers(self.given["answers"])
        check_machines(answers)
        faults = host_faults(answers)
        if faults and not self.given["skip_unfit"]:
            lines = ["Nothing was changed, because not every host is fit:", *fault_table(faults)]
            raise QsmrError("\n".join(lines))
        fit = {host: Answer.of(raw, "differences").data for host, raw in answers.items() if host not in faults}
        if not fit:
            raise QsmrError("\n".join(["Nothing was changed, because no host is fit:", *fault_table(faults)]))
        work = [host for host, data in fit.items() if data["differences"]]
        push = hosts_to_send_to(fit, self.given["what"])
        found = {"left_out": faults, "work": work, "fit": list(fit)}
        if push and not self._task.check_mode:
            to = ", ".join(sorted({fit[host]["target"] for host in push}))
            self.audit.add(new_run(), "push", by=operator(), to=to, hosts=push)
        answer = {**found, "ansible_facts": {"preflight_fit": list(fit) if work else [], "preflight_push": push}}
        for host in work:
            display.display(f"{host}: {'; '.join(fit[host]['differences'])}")
        if not work:
            targets = sorted({data["target"] for data in fit.values()})
            workers = sum(len(data["workers"]) for data in fit.values())
            left = "".join(f"\nLeft out: {line}" for line in fault_table(faults))
            where = f"all {len(fit)} hosts ({workers} workers, all healthy)"
            text = f"{' and '.join(targets)} runs on {where}: nothing to do."
            answer |= summary(left.lstrip("\n") + "\n" * bool(left) + text)
        return answer

    def _lock(self) -> dict[str, Any]:
        """Take the lock of this control node; the answer is what the hosts get."""
        given = self.given
        stages = len(batches(given["plan"]["work"], given["batches"])) + 2
        seconds = stages * given["seconds_per_stage"]
        seconds += require(given["canary_deadline"], "qsmr_canary_deadline") if str(given["canary_jobs"]) != "0" else 0
        return {"lock": self.take_lock(seconds)}

    def _begin(self) -> dict[str, Any]:
        """Plan the stages from what the hosts have now, under the lock."""
        given, check_mode = self.given, self._task.check_mode
        found, locks = self._answers("worker_found"), self._answers("rollout_locked")
        looks = {host: Answer.of(raw, "differences").data for host, raw in found.items()}
        targets = sorted({str(data["target"]) for data in looks.values() if data.get("target")})
        broken = [] if check_mode else self.audit.unfinished()
        releases = {host: str(data.get("release", "")) for host, data in looks.items()}
        resumes = ""
        resumed: list[str] = []
        if broken:
            self.audit.add(broken[0]["run"], "broken off", by=operator(), found=releases)
            if len(targets) == 1 and broken[0]["to"] == targets[0]:
                resumes, resumed = broken[0]["run"], switched_by(broken, releases, targets[0])
        rollout = Rollout(
            id=new_run(),
            what=given["what"],
            project=given["project"],
            members={},
            stages=[],
            max_failed=require(given["max_failed_hosts"], "qsmr_max_failed_hosts"),
            revert_all=given["on_failure"] == "revert_all",
            canary_jobs=require(given["canary_jobs"], "qsmr_canary_jobs"),
            canary_deadline=require(given["canary_deadline"], "qsmr_canary_deadline"),
            check_mode=check_mode,
            skipped={host: list(faults) for host, faults in given["plan"]["left_out"].items()},
        )
        plan(found, locks, resumed, given["batches"], rollout)
        if not check_mode:
            broke = sorted({str(lock["taken_from"]) for lock in locks.values() if lock and lock.get("taken_from")})
            self.audit.add(
                rollout.id, "begin", by=operator(), what=rollout.what, to=", ".join(targets), stages=rollout.stages,
                resumes=resumes, broke_lock_of=broke, left_out=rollout.skipped,
            )  # fmt: skip
            for host in rollout.hosts(*BAD):
                self._tell(rollout, host)
        return self._next(rollout)

    def _judge(self) -> dict[str, Any]:
        """Take the answers of a round; after the first one, wait for the canary's jobs."""
        rollout = Rollout.from_record(self.given["rollout"])
        if rollout.open:
            stage, hold = rollout.stage, rollout.hold
            rollout.judge(self._answers(self.given["answers"]))
            if rollout.canary_jobs and rollout.open and rollout.round == 1 and not rollout.check_mode:
                display.display(f"Waiting until {rollout.canary_jobs} jobs of {', '.join(stage)} have ended")
                rollout.judge_jobs(self.api())
            if not rollout.check_mode:
                for host in stage:
                    self._tell(rollout, host)
                for host in hold:
                    if rollout.members[host].state in BAD:
                        self._tell(rollout, host)
            if rollout.open and stage and not rollout.check_mode:
                passed = rollout.round
                display.display(f"Stage {passed} of {len(rollout.stages)} is healthy: {', '.join(stage)}")
        return self._next(rollout)

    def _taken_back(self) -> dict[str, Any]:
        """Take the answers of the hosts that had to be taken back."""
        rollout = Rollout.from_record(self.given["rollout"])
        hosts = rollout.to_take_back
        rollout.taken_back(self._answers(self.given["answers"]))
        for host in hosts:
            self._tell(rollout, host)
        return {"rollout": rollout.record}

    def _end(self) -> dict[str, Any]:
        """Tell how it ended, and give back what was held."""
        if not self.given["rollout"]:
            self.give_back(self.given["lock"])
            return {"stopped": False, "bad": {}, "foretold": {}}
        rollout = Rollout.from_record(self.given["rollout"])
        if rollout.open and rollout.hosts(WAITING):
            rollout.stop("an error broke it off, see above")
        text = rollout.summary()
        if not rollout.check_mode:
            gone = [name for member in rollout.members.values() for name in member.gone]
            freed = self.free_jobs(gone)
            if freed:
                text = f"{freed} jobs of workers that are no more were made available.\n{text}"
            ended = "done" if rollout.succeeded else "stopped" if not rollout.open else "done in part"
            runs = {host: rollout.runs(host) for host in rollout.members}
            end = {"event": "end", "ended": ended, "why": rollout.why, "runs": runs}
            self.end(rollout.id, self.given["lock"], text, [end])
        bad = {host: f"{host} {rollout.ended(host)}: {rollout.members[host].check}" for host in rollout.hosts(*BAD)}
        foretold = {host: rollout.runs(host) for host in rollout.hosts(SWITCHED)} if rollout.check_mode else {}
        outcome = {"stopped": not rollout.open, "why": text.splitlines()[-1], "bad": bad, "foretold": foretold}
        return {**outcome, **summary(text)}

    def _next(self, rollout: Rollout) -> dict[str, Any]:
        if rollout.stage and not rollout.check_mode:
            self.audit.add(rollout.id, "stage", stage=rollout.round + 1, hosts=rollout.stage)
        return {"rollout": rollout.record}

    def _tell(self, rollout: Rollout, host: str) -> None:
        """A host's outcome, for the audit."""
        member = rollout.members[host]
        from_, to = member.before, member.target
        if member.state == TAKEN_BACK:
            from_, to = member.target, member.back_to
        fields = {"check": member.check} if member.state not in (SWITCHED, FINE, WAITING, TAKEN_BACK) else {}
        self.audit.add(rollout.id, "host", host=host, **{"from": from_}, to=to, ended=rollout.ended(host), **fields)
