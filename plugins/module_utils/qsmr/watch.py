"""Wait until the job service has no open job of a project left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import QsmrError
from .jobapi import JobApi, JobApiError

POLL = 2.0  # seconds between two looks
REPORT = 10.0  # seconds between two lines


@dataclass(frozen=True)
class Tally:
    """How many jobs of a project are where, by the statuses that workers report."""

    finished: int
    failed: int
    running: int
    available: int

    @classmethod
    def from_project(cls, project: dict[str, Any]) -> Tally:
        """From the answer to ``GET /v4/<project>``, whose ``JobStates`` leaves out a status without jobs."""
        states = {str(status).lower(): count for status, count in project["JobStates"].items()}
        finished, failed, available = (states.pop(status, 0) for status in ("finished", "failed", "available"))
        return cls(finished, failed, sum(states.values()), available)

    @property
    def total(self) -> int:
        return self.finished + self.failed + self.running + self.available

    @property
    def done(self) -> bool:
        return self.running == self.available == 0

    def __str__(self) -> str:
        return (
            f"{self.finished} of {self.total} jobs finished, {self.failed} failed, "
            f"{self.running} running, {self.available} waiting"
        )


def wait_until_done(
    api: JobApi,
    project: str,
    stall_timeout: float,
    report: Callable[[str], None],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Tally:
    """Return once every job of ``project`` is finished or failed; ``report`` gets a line now and then.

    Raises QsmrError when nothing moves for ``stall_timeout`` seconds, or when there is nothing to wait for.
    """
    seen: Tally | None = None
    moved = reported = clock()
    while True:
        try:
            record = api.project(project)
        except JobApiError as error:
            # A service that restarts must not end a wait of hours; one that was never reached is not the right one.
            if seen is None or not error.temporary or clock() - moved > stall_timeout:
                raise
            report(f"{error}; still waiting")
            sleep(REPORT)
            continue
        if record is None:
            raise QsmrError(f"The job service has no project {project}: add jobs with playbooks/jobs.yml.")
        tally = Tally.from_project(record)
        if tally.done:
            return tally
        now = clock()
        if tally != seen:
            seen, moved = tally, now
        elif now - moved > stall_timeout:
            raise QsmrError(
                f"Nothing moved for {stall_timeout:.0f} s: {tally}. "
                "Look at the workers with playbooks/status.yml; everything is left running."
            )
        if now - reported >= REPORT:
            report(str(tally))
            reported = now
        sleep(POLL)
