"""Whether a project goes as it should: one judgement for status.yml, watch.yml and results.yml, with its exit code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from . import failures
from .errors import QsmrError
from .words import several

# Fewer jobs that ended tell too little, unless there are no others.
ENOUGH = 20
# A release is called bad in one of a thousand fleets where all is well: it ends runs as failures.
RELEASE_SIGNIFICANT = 0.001
BEFORE = "before"
EXAMPLES = 3

# How things can stand, and the exit code that tells. Ansible's own codes are below 10.
EXIT_CODES = {
    "no project": 0,
    "no jobs": 0,
    "going": 0,
    "done": 0,
    "share": 0,
    "failures": 10,
    "deadline": 11,
    "no workers": 12,
    "no claims": 13,
    "no ends": 14,
    "service down": 15,
}
STALLS = ("no workers", "no claims", "no ends")
# What the last line of a run begins with. It fits into 80 columns together with the numbers of 100,000 jobs.
HEADLINES = {
    "no project": "No project",
    "no jobs": "No jobs",
    "going": "At work",
    "done": "Done",
    "share": "Far enough",
    "failures": "Failing",
    "deadline": "Too late",
    "no workers": "No workers",
    "no claims": "No claims",
    "no ends": "Hanging",
    "service down": "No service",
}


@dataclass(frozen=True)
class Tally:
    """How many jobs of a project are where."""

    finished: int
    failed: int
    running: int
    available: int

    @classmethod
    def of(cls, states: Mapping[str, int]) -> Tally:
        """A state that a client made up counts as running."""
        finished, failed, available = (states.get(state, 0) for state in ("finished", "failed", "available"))
        return cls(finished, failed, sum(states.values()) - finished - failed - available, available)

    @property
    def total(self) -> int:
        return self.finished + self.failed + self.running + self.available

    @property
    def ended(self) -> int:
        return self.finished + self.failed

    def __str__(self) -> str:
        return (
            f"{self.finished} of {self.total} jobs finished, {self.failed} failed, "
            f"{self.running} running, {self.available} waiting"
        )


def check_share(setting: str, share: float) -> None:
    """Raise QsmrError unless it is a part of a whole."""
    if not 0 <= share <= 1:
        raise QsmrError(f"{setting} is {share:g}: give a part of the jobs from 0 to 1")


@dataclass(frozen=True)
class Limits:
    """What is still taken for well: that part of the jobs that ended may have failed, so many seconds nothing moves."""

    max_failed_share: float = 0.5
    stall_timeout: float = 600.0

    def __post_init__(self) -> None:
        check_share("qsmr_max_failed_share", self.max_failed_share)


@dataclass(frozen=True)
class Ending:
    """How things stand: one of EXIT_CODES, where the jobs are, and what to tell the user."""

    how: str
    tally: Tally
    message: str

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.how]

    @property
    def last_line(self) -> str:
        """The outcome in 80 columns."""
        numbers = str(self.tally).replace(" jobs", "") if self.tally.total else "no job is known"
        return f"{HEADLINES[self.how]}: {numbers}"

    @property
    def record(self) -> dict[str, Any]:
        """What programs get."""
        return {
            "ending": self.how,
            "exit_code": self.exit_code,
            "message": self.message,
            "last_line": self.last_line,
        }


def too_many_failed(tally: Tally, max_failed_share: float) -> str:
    """Why these are too many failures; empty if they are not, or if too few jobs have ended to tell.

    That none finished is too many, whatever share is allowed.
    """
    if not tally.failed or tally.ended < min(ENOUGH, tally.total):
        return ""
    if not tally.finished:
        which = f"All {tally.failed} jobs that ended have" if tally.failed > 1 else "The only job that ended has"
        return f"{which} failed, and none has finished"
    if tally.failed > max_failed_share * tally.ended:
        return (
            f"{tally.failed} of {tally.ended} jobs that ended have failed, more than qsmr_max_failed_share="
            f"{max_failed_share:g} allows"
        )
    return ""


def bad_releases(jobs: Iterable[Mapping[str, Any]], releases: Mapping[str, str]) -> list[str]:
    """The releases whose jobs fail more than those of all other workers, a sentence for each.

    ``jobs`` are those that ended, with ``Worker`` and whether they ``failed``; ``releases`` has the release of each
    worker that the hosts have now. All other jobs are by workers before them, and are held against, but not judged.
    """
    ended: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for job in jobs:
        release = releases.get(str(job["Worker"]), BEFORE)
        ended[release] += 1
        failed[release] += bool(job["failed"])
    if len(ended) < 2:
        return []
    found = []
    for share in failures.host_shares(ended, failed):
        others = ended.total() - share.ended
        others_failed = failed.total() - share.failed
        worse = share.share > others_failed / others
        if share.host != BEFORE and worse and share.p < RELEASE_SIGNIFICANT / len(ended):
            found.append(
                f"Release {share.host} fails more than what ran before: {share.failed} of its {share.ended} jobs,"
                f" and {others_failed} of {others} others (Fisher's exact test: {failures.chance(share.p)})"
            )
    return found


def explain_stall(ending: Ending, hosts: Sequence[Mapping[str, Any]]) -> Ending:
    """A stall with what the hosts tell of it; ``hosts`` are rows of status.read_host."""
    if ending.how not in STALLS or not hosts:
        return ending
    workers = [(host["host"], worker) for host in hosts for worker in host["workers"]]
    alive = [(host, worker) for host, worker in workers if worker["condition"] not in ("created", "exited", "dead")]
    silent = [host for host in hosts if host["state"] != "answers"]
    if all(host["state"] == "not asked" for host in hosts):
        return ending
    parts = [ending.message]
    if silent:
        reasons = "; ".join(f"{host['host']}: {host['error'] or host['state']}" for host in silent[:3])
        parts.append(f"{len(silent)} of {len(hosts)} hosts do not tell their workers ({reasons}).")
    if not alive:
        which = "the hosts that answer" if silent else f"any of {len(hosts)} hosts"
        said = " ".join([*parts, f"No worker runs on {which}: start them with playbooks/workers.yml."])
        return replace(ending, how="no workers", message=said)
    ill = [f"{host} is {worker['condition']} ({worker['says']})" for host, worker in alive if worker["says"]]
    run = f"{several(len(alive), 'worker')} {'runs' if len(alive) == 1 else 'run'}"
    well = "says that it is well" if len(alive) == 1 else "all say that they are well"
    parts.append(f"{run}; the one on {ill[0]}." if ill else f"{run}, and {well}.")
    return replace(ending, message=" ".join([*parts, "Everything is left running; see playbooks/status.yml."]))


def stalled(tally: Tally, since: str, held: Iterable[Mapping[str, Any]]) -> Ending:
    """Nothing has moved "since ..." or "for ...": nobody claims, or nobody ends; ``held`` are the jobs at work."""
    text = f"Nothing has moved {since}: {tally}"
    if not tally.running:
        return Ending("no claims", tally, f"{text}. No worker has claimed a job.")
    holders = Counter(str(job["worker"]) for job in held)
    names = ", ".join(f"{name} ({number})" for name, number in holders.most_common(EXAMPLES))
    return Ending("no ends", tally, f"{text}. None of those that hold jobs has ended one: {names}.")


def clock(time: datetime) -> str:
    """A time for a sentence."""
    return time.strftime("%Y-%m-%d %H:%M UTC")
