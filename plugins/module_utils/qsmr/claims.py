"""Jobs that nobody works on any more become available again: failed ones, and those of workers that are gone.

The job service never does that by itself, and taking a job from its worker leaves the old status text, with which the
service would go on to count it (job service REST contract v4, section 6): the text is tidied afterwards. A run that is
killed in between is completed by the next one.

A worker is dead when its host answers and does not run it. Of a host that does not answer nothing is concluded: its
workers may go on, and only the user can know that it is lost. Losing its worker counts as a failure of the job, so that
a job that kills its workers is set aside like one that fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from .jobapi import JobApi
from .ledger import Ledger
from .status import parse_time

_AT_WORK = ("CLAIMED", "STARTED")
# A worker that was started after its host was asked is not dead: it can only have claims as young as this.
_SETTLED = timedelta(minutes=1)


def running_workers(probe: Mapping[str, Any]) -> list[str] | None:
    """The workers that run on a host, of what qsmr_worker_info registered there; None if it could not tell."""
    if "containers" not in probe:
        return None
    return [found["worker"] for found in probe["containers"] if found["state"] in ("running", "restarting", "paused")]


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
    running: Mapping[str, Sequence[str] | None] = field(default_factory=dict)
    """The workers that run on each host; None for a host that could not tell."""
    not_asked: Sequence[str] = field(default_factory=tuple)
    """Hosts that were left out: jobs of their workers stay as they are."""

    def host_of(self, worker: str) -> str:
        """The host whose worker that is; empty if it is none of ours."""
        named = [host for host in (*self.running, *self.not_asked) if worker.startswith(f"UWorker_{host}_")]
        return max(named, key=len, default="")


@dataclass(frozen=True)
class Released:
    """Job ids by what was done with them."""

    failed: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    tidied: list[str] = field(default_factory=list)
    """These were free already, but had an old status."""
    set_aside: list[str] = field(default_factory=list)
    """These failed, or lost their workers, too often."""
    unsure: Counter[str] = field(default_factory=Counter)
    """How many jobs are held by the workers of each host that could not tell which it runs."""

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

    def warnings(self) -> list[str]:
        """What only the user can decide, a line for each host."""
        return [
            f"{host} does not tell which workers it runs, and they hold {jobs} jobs: if it is lost, run this with"
            f" -e qsmr_dead_workers=UWorker_{host}_*"
            for host, jobs in sorted(self.unsure.items())
        ]


def release(api: JobApi, project: str, ledger: Ledger, rules: Rules, now: datetime, check: bool) -> Released:
    """Make jobs of the project available again; with ``check`` only say which.

    ``now`` is compared with the service's times. ``ledger`` keeps count of the failures.
    """
    released = Released()
    # The list is read to its end first: it would change under our hands.
    for job in api.jobs(project):
        found = _kind(job, rules, now)
        if found == "unsure":
            released.unsure[rules.host_of(str(job["Worker"]))] += 1
        if found in ("", "unsure"):
            continue
        failed_at = {"failed": job["Failed"], "dead": job["Claimed"]}.get(found)
        set_aside = bool(failed_at) and ledger.count_failure(job["Id"], str(failed_at)) >= rules.max_attempts
        kind = "set_aside" if set_aside else "stale" if found == "dead" else found
        getattr(released, kind).append(job["Id"])
        if not check and not (set_aside and found == "failed"):
            _release(api, project, job, "FAILED" if set_aside else "AVAILABLE")
    return released


def free_jobs_of(api: JobApi, project: str, worker: str) -> int:
    """Make the jobs available that a worker holds which is known to be gone, and return how many they were."""
    held = [job for job in api.jobs(project, worker=worker) if str(job["Status"]).upper() in _AT_WORK]
    for job in held:
        _release(api, project, job, "AVAILABLE")
    return len(held)


def _kind(job: dict[str, Any], rules: Rules, now: datetime) -> str:
    """What is the matter with a job: "failed", "dead" (its worker), "stale", "tidied", "unsure", or nothing."""
    status = str(job["Status"]).upper()
    if not job["IsClaimed"]:
        return "tidied" if status in (*_AT_WORK, "FAILED") else ""
    if status == "FAILED":
        return "failed" if rules.failed else ""
    if status not in _AT_WORK:
        return ""
    worker, claimed = str(job["Worker"]), parse_time(job["Claimed"])
    if any(fnmatchcase(worker, pattern) for pattern in rules.dead_workers):
        return "dead"
    age = now - claimed if claimed else timedelta(0)
    if rules.stale_minutes is not None and claimed and age >= timedelta(minutes=rules.stale_minutes):
        return "stale"
    host = rules.host_of(worker)
    if not host or host in rules.not_asked:
        return ""
    running = rules.running[host]
    if running is None:
        return "unsure"
    # A claim of the future is from before somebody's clock was put right.
    return "dead" if worker not in running and abs(age) >= _SETTLED else ""


def _release(api: JobApi, project: str, job: dict[str, Any], status: str) -> None:
    """Free the job, or keep it as failed, unless it is in other hands or done since the list was read."""
    if job["IsClaimed"]:
        claim = api.claim(project, job["Id"])
        if claim["ClaimedAtTime"] != job["Claimed"] or claim["ClaimedByWorker"] != job["Worker"]:
            return
        if api.status(project, job["Id"]).upper() == "FINISHED":
            return
        if status == "AVAILABLE":
            api.unclaim(project, job["Id"])
    api.set_status(project, job["Id"], status)
