"""Jobs that nobody works on any more become available again: failed ones, and those of workers that are gone.

The job service never does that by itself, and taking a job from its worker leaves the old status text, with which the
service would go on to count it (job service REST contract v4, section 6): the text is tidied afterwards. A run that is
killed in between is completed by the next one.

A worker is dead when its host answers and does not run it. Of a host that does not answer nothing is concluded: its
workers may go on, and only the user can know that it is lost. Losing its worker counts as a failure of the job, so that
a job that kills its workers is set aside like one that fails.
"""

from __future__ import annotations

import glob
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from .jobapi import JobApi, JobApiError
from .jobstates import parse_time
from .ledger import Ledger
from .names import homes_of

_AT_WORK = ("CLAIMED", "STARTED")
# A worker that was started after its host was asked is not dead: it can only have claims as young as this.
_SETTLED = timedelta(minutes=1)
MOST_NAMED = 10


def running_workers(probe: Mapping[str, Any]) -> list[str] | None:
    """The workers that run on a host, of what qsmr_worker_info registered there; None if it could not tell."""
    if "containers" not in probe:
        return None
    return [found["worker"] for found in probe["containers"] if found["state"] in ("running", "restarting", "paused")]


class _Odd(Exception):
    """Nothing can be concluded of a job; the text says why."""


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

    def fate_of(self, worker: str) -> tuple[str, str]:
        """What has become of a worker: "dead", "alive" or not "known", or "unsure" with the host that could not tell.

        Where several hosts may have it, it is dead if each of them says so.
        """
        homes = homes_of(worker, [*self.running, *self.not_asked])
        if not homes or any(host in self.not_asked for host in homes):
            return "unknown", ""
        if any(worker in (self.running[host] or ()) for host in homes):
            return "alive", ""
        silent = [host for host in homes if self.running[host] is None]
        return ("unsure", silent[0]) if silent else ("dead", "")


@dataclass(frozen=True)
class Released:
    """Job ids by what was done with them."""

    failed: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    tidied: list[str] = field(default_factory=list)
    """These were free already, but had an old status."""
    set_aside: list[str] = field(default_factory=list)
    """These failed, or lost their workers, too often."""
    unsure: dict[str, Counter[str]] = field(default_factory=dict)
    """How many jobs each worker holds, by the host of those that could not tell which it runs."""
    odd: dict[str, str] = field(default_factory=dict)
    """What is the matter with jobs that nothing can be concluded of. They are left as they are."""
    faults: dict[str, str] = field(default_factory=dict)
    """Why jobs could not be made available."""

    @property
    def changed(self) -> bool:
        return bool(self.failed or self.stale or self.tidied)

    def summary(self, rules: Rules) -> str:
        """The outcome in a line, with the first of the jobs that were set aside or are odd."""
        parts = [f"{len(self.failed)} failed and {len(self.stale)} stale jobs made available"]
        if self.tidied:
            parts.append(f"{len(self.tidied)} tidied")
        if self.set_aside:
            parts.append(
                f"{len(self.set_aside)} set aside after {rules.max_attempts} failures: {_first(self.set_aside)}"
            )
        for kind, jobs in (("left alone, as they are odd", self.odd), ("could not be made available", self.faults)):
            if jobs:
                parts.append(f"{len(jobs)} {kind}: {_first(jobs)}")
        return ", ".join(parts)

    def warnings(self) -> list[str]:
        """What only the user can decide, a line for each host and for the first of the odd jobs."""
        lines = []
        for host, workers in sorted(self.unsure.items()):
            # Their names and no pattern: that could fit workers of other hosts.
            names = json.dumps({"qsmr_dead_workers": [glob.escape(name) for name in sorted(workers)]})
            lines.append(
                f"{host} does not tell which workers it runs, and they hold {workers.total()} jobs: if it is lost, run"
                f" this with -e {shlex.quote(names)}"
            )
        return lines + [f"Job {job} is left as it is: {what}" for job, what in list(self.odd.items())[:MOST_NAMED]]


def release(api: JobApi, project: str, ledger: Ledger, rules: Rules, now: datetime, check: bool) -> Released:
    """Make jobs of the project available again; with ``check`` only say which.

    ``now`` is compared with the service's times. ``ledger`` keeps count of the failures.
    """
    released = Released()
    # The list is read to its end first: it would change under our hands.
    for job in api.jobs(project):
        name = str(job.get("Id"))
        try:
            kind = _treat(api, project, job, ledger, rules, now, check)
        except JobApiError as error:
            if error.status in (None, 401) or len(released.faults) == MOST_NAMED:
                raise  # nothing that lies with this job
            released.faults[name] = str(error)
            continue
        except _Odd as error:
            released.odd[name] = str(error)
            continue
        except KeyError as error:
            released.odd[name] = f"the service does not tell its {error}"
            continue
        if kind == "unsure":
            worker = str(job["Worker"])
            released.unsure.setdefault(rules.fate_of(worker)[1], Counter())[worker] += 1
        elif kind:
            getattr(released, kind).append(name)
    return released


def _treat(
    api: JobApi, project: str, job: dict[str, Any], ledger: Ledger, rules: Rules, now: datetime, check: bool
) -> str:
    """Make a job available if it is to be, and return what was done with it, as ``Released`` calls it; empty for
    nothing. Raises _Odd.
    """
    found = _kind(job, rules, now)
    if found not in ("failed", "dead", "stale", "tidied"):
        return found
    failed_at = {"failed": job["Failed"], "dead": job["Claimed"]}.get(found)
    if failed_at and ledger.count_failure(job["Id"], str(failed_at)) >= rules.max_attempts:
        done = check or found == "failed" or _release(api, project, job, "FAILED")
        return "set_aside" if done else ""
    done = check or _release(api, project, job, "AVAILABLE")
    return ("stale" if found == "dead" else found) if done else ""


def _first(jobs: Iterable[str]) -> str:
    names = list(jobs)
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")


def free_jobs_of(api: JobApi, project: str, workers: Iterable[str]) -> tuple[int, list[str]]:
    """Make the jobs available that workers hold which are known to be gone.

    Returns how many they were, and why others could not be made available. Raises JobApiError if there is no answer.
    """
    freed, faults = 0, []
    for worker in workers:
        for job in api.jobs(project, worker=worker):
            try:
                freed += str(job["Status"]).upper() in _AT_WORK and _release(api, project, job, "AVAILABLE")
            except KeyError as error:
                faults.append(f"the service does not tell the {error} of job {job.get('Id')}")
            except JobApiError as error:
                if error.status in (None, 401):
                    raise
                faults.append(str(error))
    return freed, faults


def _kind(job: dict[str, Any], rules: Rules, now: datetime) -> str:
    """What is the matter with a job: "failed", "dead" (its worker), "stale", "tidied", "unsure", or nothing.

    Raises _Odd.
    """
    if job["Status"] is None:
        raise _Odd("it has no status, so that the service cannot tell the state of its project: have it set")
    status = str(job["Status"]).upper()
    if not job["IsClaimed"]:
        return "tidied" if status in (*_AT_WORK, "FAILED") else ""
    if status == "FAILED":
        return "failed" if rules.failed else ""
    if status == "FINISHED":
        return ""
    if status not in _AT_WORK:
        raise _Odd(f"it is claimed, and its status is {job['Status']!r}, which no worker of ours sets")
    worker, claimed = str(job["Worker"]), parse_time(job["Claimed"])
    if any(fnmatchcase(worker, pattern) for pattern in rules.dead_workers):
        return "dead"
    age = now - claimed if claimed else timedelta(0)
    if rules.stale_minutes is not None and claimed and age >= timedelta(minutes=rules.stale_minutes):
        return "stale"
    fate = rules.fate_of(worker)[0]
    if fate == "unsure":
        return "unsure"
    if claimed is None and fate != "alive":
        raise _Odd(f"it is claimed by {worker}, and the service does not say since when")
    # A claim of the future is from before somebody's clock was put right.
    return "dead" if fate == "dead" and abs(age) >= _SETTLED else ""


def is_as_listed(api: JobApi, project: str, job: Mapping[str, Any]) -> bool:
    """Whether a job is still held by the worker, and since the time, that the list had."""
    claim = api.claim(project, job["Id"])
    return bool(claim["ClaimedAtTime"] == job["Claimed"] and claim["ClaimedByWorker"] == job["Worker"])


def _release(api: JobApi, project: str, job: dict[str, Any], status: str) -> bool:
    """Free the job, or keep it as failed, unless it is in other hands or done since the list was read."""
    if job["IsClaimed"]:
        if not is_as_listed(api, project, job) or api.status(project, job["Id"]).upper() == "FINISHED":
            return False
        if status == "AVAILABLE":
            api.unclaim(project, job["Id"])
    api.set_status(project, job["Id"], status)
    return True
