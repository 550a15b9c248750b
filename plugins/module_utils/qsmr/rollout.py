"""A rollout: which hosts are switched when, what their answers mean, when it stops, and how it ended.

Control node only. Ansible runs the tasks on the hosts, and drops none of them from the play; all decisions are made
here, from every host's answer. A host without one is lost, and a lost host counts as failed. The state is a plain
mapping between two tasks, so it lives in a registered variable.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .canary import canary_fault
from .errors import QsmrError
from .jobapi import JobApi
from .stages import batches

# Seconds that a host's clock may be off: times of workers, claims and logs are compared by people and programs.
CLOCK_LIMIT = 60.0

WAITING, SWITCHED, FINE = "waiting", "switched", "fine"
FAILED, REVERTED, LOST, TAKEN_BACK = "failed", "reverted", "lost", "taken back"
BAD = (FAILED, REVERTED, LOST)


@dataclass(frozen=True)
class Answer:
    """What a task on a host said, whatever became of it. ``data`` is empty unless the module itself answered."""

    problem: str
    """Why the task failed, on one line and more; empty if it did not."""
    lost: bool
    data: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any] | None, key: str) -> Answer:
        """From a registered result; ``key`` is what the module always returns."""
        if not raw:
            return cls("it failed or got lost before, see above", True, {})
        if raw.get("unreachable"):
            said = " ".join(str(raw.get("msg", "")).split()).rpartition("over ssh: ")[2]
            return cls(f"unreachable ({said})", True, {})
        data = raw if key in raw else {}
        if data and not raw.get("failed"):
            return cls("", False, data)
        said = str(raw.get("msg") or raw.get("module_stderr") or "no answer").strip()
        return cls(said.removeprefix("Task failed: "), False, data)

    def of_release(self, release: str, any_will_do: bool) -> Answer:
        """The answer, a problem if the host says that it runs another release than it should."""
        runs = self.data.get("release")
        if self.problem or any_will_do or runs == release:
            return self
        return Answer(f"it runs {runs or 'nothing'} instead of {release}", False, self.data)


def host_faults(answers: Mapping[str, Mapping[str, Any] | None]) -> dict[str, list[str]]:
    """What keeps each host from being used, from the answers of the module qsmr_preflight; fit hosts are left out."""
    found = {}
    for host, raw in answers.items():
        answer = Answer.of(raw, "faults")
        if answer.lost:
            found[host] = [f"{answer.problem}: repair it, or leave it out with -e qsmr_skip_unfit=true"]
        elif "faults" not in answer.data:
            found[host] = [f"it could not be checked: {answer.problem.splitlines()[-1]}"]
        elif answer.data["faults"]:
            found[host] = [str(fault) for fault in answer.data["faults"]]
    return found


def fault_table(faults: Mapping[str, Sequence[str]]) -> list[str]:
    """A line for each fault with the hosts that have it, the first column as wide as it must be."""
    rows: dict[str, list[str]] = {}
    for host, lines in faults.items():
        for line in lines:
            rows.setdefault(line, []).append(host)
    names = {line: ", ".join(hosts) for line, hosts in rows.items()}
    width = min(max(map(len, names.values()), default=0), 40)
    return [f"{hosts:<{width}}  {line}" for line, hosts in names.items()]


def clock_faults(host: float, before: float, after: float) -> list[str]:
    """How wrong a host's clock is that said ``host`` between ``before`` and ``after`` of the control node's."""
    off = host - min(max(host, before), after)
    if abs(off) <= CLOCK_LIMIT:
        return []
    return [f"Its clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's: set it (timedatectl)"]


@dataclass
class Member:
    """A host in a rollout."""

    target: str
    before: str
    back_to: str
    state: str = WAITING
    check: str = ""
    log: list[str] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


@dataclass
class Rollout:
    """``round`` counts the stages, and one more in which all hosts are looked at for the last time."""

    id: str
    what: str
    project: str
    members: dict[str, Member]
    stages: list[list[str]]
    max_failed: int
    revert_all: bool
    canary_jobs: int
    canary_deadline: float
    check_mode: bool = False
    round: int = 0
    open: bool = True
    why: str = ""
    skipped: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Rollout:
        members = {host: Member(**member) for host, member in record["members"].items()}
        names = set(cls.__dataclass_fields__) - {"members"}
        return cls(**{key: value for key, value in record.items() if key in names}, members=members)

    @property
    def record(self) -> dict[str, Any]:
        """The rollout as a mapping, with what the tasks have to know: ``stage`` to ``revert``."""
        return {
            **asdict(self),
            "stage": self.stage,
            "hold": self.hold,
            "mark": self.mark,
            "rounds": len(self.stages) + (0 if self.check_mode else 1),
            "revert": self.to_take_back,
        }

    def hosts(self, *states: str) -> list[str]:
        return [host for host, member in self.members.items() if member.state in states]

    @property
    def targets(self) -> list[str]:
        return sorted({member.target for member in self.members.values() if member.target})

    @property
    def stage(self) -> list[str]:
        """The hosts to be switched in this round."""
        return self.stages[self.round] if self.open and self.round < len(self.stages) else []

    @property
    def hold(self) -> list[str]:
        """The hosts of earlier rounds, which must still be healthy in this one."""
        return self.hosts(SWITCHED) if self.open and not self.check_mode else []

    @property
    def mark(self) -> str:
        """What the hosts in ``hold`` mark their release as: ``stable``, if it has proved itself, or ``none``.

        A rollback's has with the last look at all of them: a mark changes which release the one before is, and to a run
        after one that was broken off it has to be the same.
        """
        return "none" if self.what == "rollback" and self.round < len(self.stages) else "stable"

    @property
    def to_take_back(self) -> list[str]:
        """The hosts to be taken back after all rounds: those that do not do it by themselves."""
        if self.open or self.check_mode:
            return []
        states = (SWITCHED, FAILED) if self.revert_all else (FAILED,)
        members = self.members
        return [
            host
            for host in self.hosts(*states)
            # A host that had nothing before keeps what is healthy, and stops what is not.
            if members[host].workers and (members[host].back_to or members[host].state == FAILED)
        ]

    def judge(self, answers: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Take the hosts' answers in this round, and decide whether there is another one."""
        if not self.open:
            return
        stage = self.stage
        for host in [*stage, *self.hold]:
            self._take(self.members[host], Answer.of(answers.get(host), "differences"))
        bad = self.hosts(*BAD)
        if stage and all(host in bad for host in stage):
            self.stop(f"no host of stage {self.round + 1} got healthy")
        elif len(bad) > self.max_failed:
            limit = f", where {self.max_failed} may be" if self.max_failed else ""
            self.stop(f"{len(bad)} of {len(self.members)} hosts failed or were lost{limit}")
        else:
            self.round += 1

    def _take(self, member: Member, answer: Answer) -> None:
        member.gone += answer.data.get("gone", [])
        answer = answer.of_release(member.target, self.check_mode)
        if not answer.problem:
            member.state = SWITCHED
            member.workers = list(answer.data.get("worker_names", []))
            return
        member.state = LOST if answer.lost else REVERTED if answer.data.get("reverted") else FAILED
        member.check = " ".join(str(answer.data.get("check") or answer.problem).split())
        member.log = [str(line) for line in answer.data.get("log", [])]
        member.workers = []

    def stop(self, why: str) -> None:
        self.open = False
        self.why = why

    def judge_jobs(self, api: JobApi, clock: Callable[[], float] = time.monotonic, sleep: Any = time.sleep) -> None:
        """After the first stage: wait until its workers have ended jobs, and stop if too many of them failed."""
        if not (self.open and self.canary_jobs and self.round == 1) or self.check_mode:
            return
        fault = canary_fault(
            api, self.project, [name for host in self.stages[0] for name in self.members[host].workers],
            self.canary_jobs, self.canary_deadline, clock, sleep,
        )  # fmt: skip
        if fault:
            for host in self.stages[0]:
                self.members[host].state, self.members[host].check = FAILED, fault
            self.stop("the canary's jobs went wrong")

    def taken_back(self, answers: Mapping[str, Mapping[str, Any] | None]) -> None:
        """Take the answers of the hosts that were taken back."""
        for host in self.to_take_back:
            member = self.members[host]
            answer = Answer.of(answers.get(host), "differences")
            member.gone += answer.data.get("gone", [])
            answer = answer.of_release(member.back_to, not member.back_to)
            if not answer.problem:
                member.state = TAKEN_BACK if member.state == SWITCHED else REVERTED
            else:
                said = " ".join(str(answer.data.get("check") or answer.problem).split())
                member.state = LOST if answer.lost else FAILED
                member.check = f"it could not be taken back to {member.back_to}: {said}"

    def ended(self, host: str) -> str:
        """How it ended for a host, in the words of the audit."""
        member = self.members[host]
        return {WAITING: "not begun", SWITCHED: "switched", FINE: "was there"}.get(member.state, member.state)

    def runs(self, host: str) -> str:
        """The release that the host runs now, as far as is known; empty if none or nobody knows."""
        member = self.members[host]
        if member.state in (SWITCHED, FINE):
            return member.target
        if member.state in (REVERTED, TAKEN_BACK):
            return member.back_to
        return member.before if member.state == WAITING else ""

    @property
    def succeeded(self) -> bool:
        return self.open and not self.hosts(*BAD)

    def summary(self) -> str:
        """What the user reads at the end: the evidence first, then all that matters in one line."""
        target = " and ".join(self.targets) or "the release"
        lines = []
        for host in self.hosts(*BAD):
            member = self.members[host]
            lines += [f"{host}: {member.check}", *(f"    {line}" for line in member.log)]
        lines += [f"Left out: {line}" for line in fault_table(self.skipped)]
        done, fine = self.hosts(SWITCHED), self.hosts(FINE)
        if self.check_mode:
            return "\n".join([*lines, f"Check mode: {target} would be started on {', '.join(done) or 'no host'}."])
        if self.succeeded:
            workers = sum(len(member.workers) for member in self.members.values())
            was = f", and ran on {_hosts(fine)} already" if fine else ""
            left = f"; left out: {', '.join(self.skipped)}" if self.skipped else ""
            now = f"{_hosts(done)} now ({workers} workers, all healthy){was}" if done else f"{_hosts(fine)}"
            lines.append(f"{target} runs on {now}{left}.")
            return "\n".join(lines)
        bad = self.hosts(*BAD)
        how = "Stopped" if not self.open else "Not everywhere"
        parts = [f"{how}: {self.why}"] if not self.open else [f"{how}: {target} runs on {_hosts(done + fine)}"]
        parts += [f"{host} {self._fate(host)}" for host in bad[:3]] + ([f"and {len(bad) - 3} more"] if bad[3:] else [])
        taken, waiting = self.hosts(TAKEN_BACK), self.hosts(WAITING)
        parts += [f"{', '.join(taken)} taken back"] if taken else []
        parts += [f"{', '.join(done)} kept on {target}"] if done and not self.open else []
        parts += [f"{', '.join(waiting)} not touched"] if waiting else []
        return "\n".join([*lines, "; ".join(parts) + "."])

    def _fate(self, host: str) -> str:
        member = self.members[host]
        if member.state == LOST:
            return f"is lost ({member.check})"
        back = f"is back on {member.back_to}" if member.back_to else "its workers were stopped"
        return f"failed ({member.check}), and {back if member.state == REVERTED else 'needs a look'}"


def _hosts(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} hosts"


def hosts_to_send_to(looks: Mapping[str, Mapping[str, Any]], what: str) -> list[str]:
    """The hosts that lack the image of a rollout. A rollback sends nothing: without its image a host fails."""
    return [host for host, data in looks.items() if what == "rollout" and data["differences"] and not data["has_image"]]


def plan(
    found: Mapping[str, Mapping[str, Any] | None],
    locks: Mapping[str, Mapping[str, Any] | None],
    resumed: Sequence[str],
    sizes: object,
    rollout: Rollout,
) -> Rollout:
    """Fill in the members and stages of a rollout.

    ``found`` is what the hosts have, of the module qsmr_preflight under the lock; ``locks`` the answers of qsmr_lock;
    ``resumed`` the hosts that an earlier run of the same rollout, which was broken off, has switched.
    """
    locked = []
    for host, raw in found.items():
        answer, lock = Answer.of(raw, "differences"), Answer.of(locks.get(host), "taken_from")
        data = answer.data
        target, before, back_to = (str(data.get(key, "")) for key in ("target", "release", "back_to"))
        member = Member(target, before, back_to)
        rollout.members[host] = member
        if not rollout.check_mode and lock.problem and not answer.lost:
            member.state, member.check = FAILED, lock.problem
            locked += [f"{host}: {lock.problem}"] if (locks.get(host) or {}).get("locked") else []
        elif answer.problem:
            member.state, member.check = LOST if answer.lost else FAILED, answer.problem
        elif not data["differences"]:
            member.state = SWITCHED if host in resumed and member.back_to else FINE
        elif data["faults"]:
            member.state, member.check = FAILED, "; ".join(data["faults"])
        elif not data["has_image"] and not rollout.check_mode:
            member.state, member.check = FAILED, "the image did not get there, see above"
    # First those that run it already and have to prove it, so that a bad release stays where it is.
    members = rollout.members
    waiting = sorted(rollout.hosts(WAITING), key=lambda host: members[host].before != members[host].target)
    rollout.stages = batches(waiting, sizes)
    bad = rollout.hosts(*BAD)
    if locked:
        rollout.stop(f"somebody else is at work ({locked[0]}); wait, or break the lock with -e qsmr_break_lock=true")
    elif len(bad) > rollout.max_failed:
        rollout.stop(f"nothing was switched, since {', '.join(bad)} failed or were lost before")
    return rollout


def require(value: object, name: str, least: int = 0) -> int:
    """A setting that is a number. Raises QsmrError."""
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if number < least:
        raise QsmrError(f"{name} is {value}: give a number, {least} or more")
    return number
