"""Jobs that nobody works on any more become available again: failed ones, and those of workers that are gone.

The job service never does that by itself, and taking a job from its worker leaves the old status text, with which the
service would go on to count it (job service REST contract v4, section 6): the text is tidied afterwards. A run that is
killed in between is completed by the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from .jobapi import JobApi
from .ledger import Ledger

_AT_WORK = ("CLAIMED", "STARTED")


@dataclass(frozen=True)
class Rules:
    """Which jobs are to become available again."""

    failed: bool = True
    """Those that failed, but not ``max_attempts`` times."""
    max_attempts: int = 3
    stale_minutes: float | None = None
    """Those that were claimed so long ago and are not done; None: however long ago."""
    dead_workers: Sequence[str] = field(default_factory=tuple)
    """Those of these workers, whose names may hold ``*``."""


@dataclass(frozen=True)
class Released:
    """Job ids by what was done with them."""

    failed: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    tidied: list[str] = field(default_factory=list)
    """These were free already, but had an old status."""
    set_aside: list[str] = field(default_factory=list)
    """These failed too often: nothing was done."""

    @property
    def changed(self) -> bool:
        return bool(self.failed or self.stale or self.tidied)

    def summary(self, rules: Rules, most: int = 10) -> str:
        """The outcome in a line, with the first of the jobs that were set aside."""
        parts = [f"{len(self.failed)} failed and {len(self.stale)} stale jobs made available"]
        if self.tidied:
            parts.append(f"{len(self.tidied)} tidied")
        if self.set_aside:
            more = ", ..." if len(self.set_aside) > most else ""
            names = ", ".join(self.set_aside[:most]) + more
            parts.append(f"{len(self.set_aside)} set aside after {rules.max_attempts} failures: {names}")
        return ", ".join(parts)


def release(api: JobApi, project: str, ledger: Ledger, rules: Rules, now: datetime, check: bool) -> Released:
    """Make jobs of the project available again; with ``check`` only say which.

    ``now`` is UTC without a zone, as the service's times are. ``ledger`` keeps count of the failures.
    """
    released = Released()
    # The list is read to its end first: it would change under our hands.
    for job in api.jobs(project):
        found = _kind(job, rules, now)
        if found == "failed" and ledger.count_failure(job["Id"], str(job["Failed"])) >= rules.max_attempts:
            found = "set_aside"
        if not found:
            continue
        getattr(released, found).append(job["Id"])
        if not check and found != "set_aside":
            _release(api, project, job)
    return released


def _kind(job: dict[str, Any], rules: Rules, now: datetime) -> str:
    status = str(job["Status"]).upper()
    if not job["IsClaimed"]:
        return "tidied" if status in (*_AT_WORK, "FAILED") else ""
    if status == "FAILED":
        return "failed" if rules.failed else ""
    if status not in _AT_WORK:
        return ""
    worker = str(job["Worker"])
    if any(fnmatchcase(worker, pattern) for pattern in rules.dead_workers):
        return "stale"
    if rules.stale_minutes is None or not job["Claimed"]:
        return ""
    return "stale" if now - datetime.fromisoformat(job["Claimed"]) >= timedelta(minutes=rules.stale_minutes) else ""


def _release(api: JobApi, project: str, job: dict[str, Any]) -> None:
    """Free the job, unless it is in other hands or done since the list was read."""
    if job["IsClaimed"]:
        claim = api.claim(project, job["Id"])
        if claim["ClaimedAtTime"] != job["Claimed"] or claim["ClaimedByWorker"] != job["Worker"]:
            return
        if api.status(project, job["Id"]).upper() == "FINISHED":
            return
        api.unclaim(project, job["Id"])
    api.set_status(project, job["Id"], "AVAILABLE")
