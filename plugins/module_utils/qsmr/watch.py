"""Wait for a project: until it is done or far enough, or until waiting has become pointless, and say why it ended."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from .errors import QsmrError
from .jobapi import JobApi, JobApiError
from .jobstates import Jobs, parse_time, rate_of, read_ended, read_jobs
from .verdict import ENOUGH, Ending, Tally, check_share, stalled, too_many_failed

POLL = 2.0  # seconds between two looks, at least; a service that is slow to answer is asked less often
PACE_WINDOW = 300.0  # seconds: the rate is that of the last minutes
RECENT = 900.0  # seconds: jobs that ended before this wait tell its rate at first if they ended so lately
ALIVE = timedelta(minutes=5)
WORKERS_EVERY = 20.0  # seconds between two looks at who claims

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
        check_share("qsmr_watch_share", self.share)
        check_share("qsmr_max_failed_share", self.max_failed_share)


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
                tally = Tally.of(jobs.states)
                if tally != seen:
                    seen, moved = tally, began
                if ending := self._judge(tally, began - moved, jobs):
                    return ending
                self._pace.look(began, tally.ended)
                self._ask_claimers(began)
            if self._goal.deadline and self._now() >= self._goal.deadline:
                return Ending("deadline", tally, f"The deadline has come with {tally}. Everything is left running.")
            held = {job["worker"] for job in jobs.held if job["worker"]} if not trouble else set()
            self._report(self._view(tally, held | self._claimers, trouble, began - moved))
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
        goal = self._goal
        if not tally.total:
            raise QsmrError(f"Project {self._project} has no jobs: add some with playbooks/jobs.yml.")
        if fault := too_many_failed(tally, goal.max_failed_share):
            return Ending("failures", tally, f"{fault}: {tally}. See why with playbooks/status.yml.")
        if tally.ended == tally.total:
            return Ending("done", tally, f"All jobs have ended: {tally}.")
        if goal.share < 1 and tally.ended >= goal.share * tally.total:
            return Ending("share", tally, f"{goal.share:.0%} of the jobs have ended: {tally}.")
        return stalled(tally, f"for {still:.0f} s", jobs.held) if still > goal.stall_timeout else None

    def _ask_claimers(self, began: float) -> None:
        """Who claimed a job in the last minutes; and how fast jobs ended before this wait."""
        if self._asked_claimers is not None and began - self._asked_claimers < WORKERS_EVERY:
            return
        now = self._now()
        try:
            if self._asked_claimers is None:
                before = rate_of(*read_ended(self._api, self._project, now), now)
                # How fast it went long ago says nothing about now.
                self._pace.before = before.per_minute / 60 if before and before.seconds <= RECENT else None
            start = (now - ALIVE).strftime("%Y-%m-%dT%H:%M:%S")
            claimed = self._api.each_job(self._project, status="claimed", start=start)
            self._claimers = {job["Worker"] for job in claimed if job.get("Worker") and parse_time(job.get("Claimed"))}
        except JobApiError:
            pass  # This only adorns the view, and the next look tells whether the service is in trouble.
        self._asked_claimers = began

    def _view(self, tally: Tally, workers: Iterable[str], trouble: str, still: float) -> dict[str, Any]:
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
            "still": still,
            "trouble": trouble,
        }
