"""Wait for a project: until it is done or far enough, or until waiting has become pointless, and say why it ended."""

from __future__ import annotations

import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from .errors import QsmrError
from .jobapi import JobApi, JobApiError
from .status import ENOUGH, Jobs, parse_time, rate_of, read_ended, read_jobs

POLL = 2.0  # seconds between two looks, at least; a service that is slow to answer is asked less often
PACE_WINDOW = 300.0  # seconds: the rate is that of the last minutes
ALIVE = timedelta(minutes=5)
WORKERS_EVERY = 20.0  # seconds between two looks at who claims

# How a wait can end, and the exit code that tells. Ansible's own codes are below 10.
EXIT_CODES = {
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
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Goal:
    """When waiting ends.

    ``share`` of the jobs must have ended, finished or failed; of those that ended at most ``max_failed_share`` may have
    failed, which is judged from the first 20 on. ``deadline`` is a time (UTC). After ``stall_timeout`` seconds in which
    nothing moved, or the service gave no answer, waiting is pointless.
    """

    share: float = 1.0
    max_failed_share: float = 1.0
    deadline: datetime | None = None
    stall_timeout: float = 600.0

    def __post_init__(self) -> None:
        for name in ("share", "max_failed_share"):
            if not 0 <= getattr(self, name) <= 1:
                setting = {"share": "qsmr_watch_share"}.get(name, f"qsmr_{name}")
                raise QsmrError(f"{setting} is {getattr(self, name):g}: give a part of the jobs from 0 to 1")


@dataclass(frozen=True)
class Tally:
    """How many jobs of a project are where."""

    finished: int
    failed: int
    running: int
    available: int

    @classmethod
    def of(cls, jobs: Jobs) -> Tally:
        """A state that a client made up counts as running."""
        finished, failed, available = (jobs.states[state] for state in ("finished", "failed", "available"))
        return cls(finished, failed, jobs.total - finished - failed - available, available)

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


@dataclass(frozen=True)
class Ending:
    """How the wait ended: one of EXIT_CODES, where the jobs are, and what to tell the user."""

    how: str
    tally: Tally
    message: str

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.how]


@dataclass
class Pace:
    """Jobs that end a second, over the last minutes of this wait; over those before it while it has none of its own."""

    before: float | None = None
    looks: deque[tuple[float, int]] = field(default_factory=deque)

    def look(self, now: float, ended: int) -> None:
        self.looks.append((now, ended))
        while self.looks[-1][0] - self.looks[1 if len(self.looks) > 1 else 0][0] > PACE_WINDOW:
            self.looks.popleft()

    @property
    def rate(self) -> float | None:
        (begin, first), (end, last) = self.looks[0], self.looks[-1]
        ended = max(last - first, 0)  # jobs that were given back meanwhile count against it
        if ended < ENOUGH and end - begin < PACE_WINDOW and self.before:
            return self.before
        return ended / (end - begin) if ended else None


def parse_deadline(text: str, now: datetime) -> datetime | None:
    """``30m``, ``2h``, ``1d`` from now, or a time in ISO 8601, which is UTC if it names no offset; None if empty."""
    text = text.strip()
    if not text:
        return None
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", text):
        return now + timedelta(**{_UNITS[match[2]]: float(match[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise QsmrError(
            f"qsmr_watch_deadline is {text}: give a time like 2026-11-24T18:00 (UTC), or how long, like 90m or 2h"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


class Watch:
    """One wait for ``project``. ``report`` gets what there is to see after each look."""

    def __init__(
        self,
        api: JobApi,
        project: str,
        goal: Goal,
        report: Callable[[Mapping[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api, self._project, self._goal, self._report = api, project, goal, report
        self._clock, self._sleep, self._now = clock, sleep, now
        self._pace = Pace()
        self._claimers: set[str] = set()
        self._asked_claimers: float | None = None

    def wait(self) -> Ending:
        """Look until there is an ending. Raises QsmrError if there is nothing to wait for."""
        tally = Tally(0, 0, 0, 0)
        seen: Tally | None = None
        moved = self._clock()
        while True:
            began = self._clock()
            trouble = ""
            try:
                jobs = self._look()
            except JobApiError as error:
                if not error.temporary:
                    raise
                trouble = str(error)
                # A service that restarts must not end a wait of hours; one that was never reached is not the right one.
                if seen is None or began - moved > self._goal.stall_timeout:
                    return Ending("service down", tally, trouble)
            else:
                tally = Tally.of(jobs)
                if tally != seen:
                    seen, moved = tally, began
                if ending := self._judge(tally, began - moved, jobs):
                    return ending
                self._pace.look(began, tally.ended)
                self._ask_claimers(began)
            if self._goal.deadline and self._now() >= self._goal.deadline:
                return Ending("deadline", tally, f"The deadline has come with {tally}. Everything is left running.")
            held = {job["worker"] for job in jobs.held if job["worker"]} if not trouble else set()
            self._report(self._view(tally, held | self._claimers, trouble))
            self._sleep(max(POLL, 10 * (self._clock() - began)))

    def _look(self) -> Jobs:
        try:
            record = self._api.project(self._project)
        except JobApiError as error:
            if error.status != 500:
                raise
            # One job with a null status is enough for that (REST contract v4, section 4); the list tells all the same.
            return read_jobs(self._api, self._project, None)
        if record is None:
            raise QsmrError(f"The job service has no project {self._project}: add jobs with playbooks/jobs.yml.")
        return read_jobs(self._api, self._project, record)

    def _judge(self, tally: Tally, still: float, jobs: Jobs) -> Ending | None:
        """The ending that these jobs are; None if waiting goes on."""
        goal, whole = self._goal, tally.ended == tally.total
        if tally.failed > goal.max_failed_share * tally.ended and (whole or tally.ended >= ENOUGH):
            return Ending(
                "failures",
                tally,
                f"{tally.failed} of {tally.ended} jobs that ended have failed, more than qsmr_max_failed_share="
                f"{goal.max_failed_share:g} allows: {tally}. See why with playbooks/status.yml.",
            )
        if whole:
            return Ending("done", tally, f"All jobs have ended: {tally}.")
        if goal.share < 1 and tally.ended >= goal.share * tally.total:
            return Ending("share", tally, f"{goal.share:.0%} of the jobs have ended: {tally}.")
        if still <= goal.stall_timeout:
            return None
        text = f"Nothing moved for {still:.0f} s: {tally}"
        if not tally.running:
            return Ending("no claims", tally, f"{text}. No worker has claimed a job.")
        holders = Counter(str(job["worker"]) for job in jobs.held)
        names = ", ".join(f"{name} ({number})" for name, number in holders.most_common(3))
        return Ending("no ends", tally, f"{text}. None of those that hold jobs has ended one: {names}.")

    def _ask_claimers(self, began: float) -> None:
        """Who claimed a job in the last minutes; and how fast jobs ended before this wait."""
        if self._asked_claimers is not None and began - self._asked_claimers < WORKERS_EVERY:
            return
        now = self._now()
        try:
            if self._asked_claimers is None:
                before = rate_of(*read_ended(self._api, self._project, now), now)
                self._pace.before = before.per_minute / 60 if before else None
            start = (now - ALIVE).strftime("%Y-%m-%dT%H:%M:%S")
            claimed = self._api.each_job(self._project, status="claimed", start=start)
            self._claimers = {job["Worker"] for job in claimed if job.get("Worker") and parse_time(job.get("Claimed"))}
        except JobApiError:
            pass  # This only adorns the view, and the next look tells whether the service is in trouble.
        self._asked_claimers = began

    def _view(self, tally: Tally, workers: Iterable[str], trouble: str) -> dict[str, Any]:
        """What progress.line_of and bar_of draw."""
        rate = self._pace.rate if self._pace.looks else None
        wanted = self._goal.share * tally.total - tally.ended
        return {
            "project": self._project,
            "phase": "watching",
            "total": tally.total,
            "done": tally.ended,
            "finished": tally.finished,
            "failed": tally.failed,
            "running": tally.running,
            "workers": len(set(workers)),
            "rate": rate,
            "eta_seconds": max(wanted, 0) / rate if rate else None,
            "trouble": trouble,
        }


def explain_stall(how: str, message: str, hosts: list[dict[str, Any]]) -> tuple[str, str]:
    """How a wait ended and its message, with what the hosts tell of it; ``hosts`` are rows of status.read_host."""
    if how not in STALLS or not hosts:
        return how, message
    workers = [(host["host"], worker) for host in hosts for worker in host["workers"]]
    alive = [(host, worker) for host, worker in workers if worker["condition"] not in ("created", "exited", "dead")]
    silent = [host for host in hosts if host["state"] != "answers"]
    parts = [message]
    if silent:
        reasons = "; ".join(f"{host['host']}: {host['error'] or host['state']}" for host in silent[:3])
        parts.append(f"{len(silent)} of {len(hosts)} hosts do not tell their workers ({reasons}).")
    if not alive:
        which = "the hosts that answer" if silent else f"any of {len(hosts)} hosts"
        return "no workers", " ".join([*parts, f"No worker runs on {which}: start them with playbooks/workers.yml."])
    ill = [f"{host} is {worker['condition']} ({worker['says']})" for host, worker in alive if worker["says"]]
    parts.append(
        f"{len(alive)} workers run" + (f"; the one on {ill[0]}." if ill else ", and all say that they are well.")
    )
    return how, " ".join([*parts, "Everything is left running; see playbooks/status.yml."])
