"""Jobs that another snapshot did become available for the one that runs now, each once.

A job that is finished or failed is taken from its worker, if its result is not by that snapshot. The ledger has each of
them before the first request and after the last one: a run that is killed is completed by the next, and what was made
available for a snapshot is not made so for it again, whatever becomes of it. Jobs that are being worked on stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .claims import is_as_listed
from .errors import QsmrError
from .jobapi import JobApi
from .jobdoc import JobMaker
from .jobstates import DONE, canonical, parse_time, state_of
from .ledger import Ledger
from .madeby import LISTS, comment_of
from .odinapi import OdinApi
from .progress import Progress

# Jobs between two entries in the ledger.
_AT_ONCE = 100
# No satellite has made it: for asking the Odin API what it does with a second delivery.
_NO_SCAN = 1

Job = Mapping[str, Any]


@dataclass
class Again:
    """What became of the jobs. In check mode ``finished`` and ``failed`` are what would be made available."""

    snapshot: str
    finished: int = 0
    failed: int = 0
    before: int = 0
    """Jobs that were made available for this snapshot by an earlier run."""
    behind: int = 0
    """Those of them that another snapshot did again."""
    at_work: int = 0
    """Jobs that are being worked on."""
    tidied: int = 0
    """Jobs that were free already, and needed their status only."""
    deletes: bool = False
    """Whether level 2 has to be deleted, because the Odin API takes no second delivery."""
    check: bool = False

    @property
    def changed(self) -> bool:
        return bool(self.finished or self.failed or self.tidied)

    def summary(self) -> str:
        """The outcome in a sentence or two."""
        verb = "would be made" if self.check else "made"
        said = f"{self.finished} finished and {self.failed} failed jobs {verb} available again for {self.snapshot}"
        said += f", {self.before} were before" if self.before else ""
        said += f"; {self.at_work} are being worked on and stay as they are" if self.at_work else ""
        if self.behind:
            said += (
                f". {self.behind} that were made available before are by another snapshot nevertheless, of a host"
                " that was behind: they become available with the next snapshot"
            )
        if self.deletes:
            said += ". Their old level 2 was deleted, as this Odin API takes no second delivery"
        elif self.check and self.changed:
            said += ". Their old level 2 would be deleted where the Odin API takes no second delivery"
        return f"{said}."

    def count(self, jobs: Iterable[Job]) -> None:
        """Count jobs that became available."""
        for job in jobs:
            if state_of(job) == "failed":
                self.failed += 1
            else:
                self.finished += 1


@dataclass(frozen=True)
class Knowledge:
    """What tells whether a snapshot did a job."""

    results: Mapping[int, set[int]] = field(default_factory=dict)
    """The scans of each frequency mode whose level 2 says that the snapshot made it."""
    everywhere: str | None = None
    """Since when all hosts run the snapshot, as far as is known (UTC in ISO 8601)."""

    @classmethod
    def of(cls, odin: OdinApi, project: str, freq_modes: Iterable[int], snapshot: str, since: str | None) -> Knowledge:
        """Ask the Odin API. Raises QsmrError if it gives no answer."""
        said = comment_of(snapshot)
        return cls(
            {
                mode: {scan for listed in LISTS for scan in odin.level2_scans(project, mode, listed, said)}
                for mode in freq_modes
            },
            since,
        )

    def did(self, job: Job) -> bool:
        """Whether the snapshot did this job, which is finished or failed.

        The level 2 of a finished job says so, unless the retrieval says nothing; else the time of the claim tells.
        """
        scan = scan_of(job)
        if state_of(job) == "finished" and any(self.results.values()):
            return scan is not None and scan[1] in self.results.get(scan[0], ())
        claimed, since = parse_time(job.get("Claimed")), parse_time((self.everywhere or "").removesuffix("Z"))
        return bool(claimed and since and claimed >= since)


def scan_of(job: Job) -> tuple[int, int] | None:
    """Frequency mode and scan id of a job; None if it is of no scan."""
    mode, _colon, scan = str(job.get("Id")).partition(":")
    return (int(mode), int(scan)) if mode.isdecimal() and scan.isdecimal() else None


def _claim_of(job: Job) -> str:
    """Who has, or had, the job since when: another claim of it is another text."""
    return f"{job['Claimed']} {job['Worker']}"


@dataclass(frozen=True)
class Reprocessing:
    """One run for one project. ``connections`` are as many requests as are under way at once."""

    api: JobApi
    odin: OdinApi
    make: JobMaker
    project: str
    ledger: Ledger
    progress: Progress
    connections: int = 8

    def run(self, snapshot: str, known: Knowledge, check: bool = False) -> Again:
        """Make available what ``snapshot`` has not done; with ``check`` only say what.

        Raises QsmrError where a service gives no usable answer; the next run goes on then.
        """
        again = Again(snapshot, check=check)
        self.progress.say("asking")
        jobs, freed = self._plan(again, known)
        again.tidied = sum(canonical(job["Status"]) != "available" for job in freed if job["IsClaimed"] is False)
        if check:
            again.count(jobs)
            return again
        if jobs:
            again.deletes = self.odin.refuses_second_delivery(self._target(jobs[0], _NO_SCAN))
        with ThreadPoolExecutor(self.connections) as threads:
            for job, _none in zip(freed, threads.map(self._tidy, freed), strict=True):
                self.ledger.freed_for(snapshot).record([job["Id"]])
            self.progress.say("freeing", total=len(jobs))
            for start in range(0, len(jobs), _AT_ONCE):
                self._free(threads, again, jobs[start : start + _AT_ONCE])
                self.progress.say("freeing", done=start + _AT_ONCE)
        return again

    def _plan(self, again: Again, known: Knowledge) -> tuple[list[Job], list[Job]]:
        """The jobs to be made available, and those that an earlier run made so and that it could not record."""
        begun = self.ledger.freed_for(again.snapshot).jobs()
        jobs: list[Job] = []
        freed: list[Job] = []
        for listed in self.api.each_job(self.project):
            job = {key: listed.get(key) for key in ("Id", "Status", "IsClaimed", "Worker", "Claimed")}
            state, claimed = state_of(job), begun.get(str(job["Id"]))
            again.at_work += state not in ("available", *DONE)
            if claimed == "":
                again.before += 1
                again.behind += state == "finished" and not known.did(job)
            elif claimed is not None and (state == "available" or _claim_of(job) != claimed):
                freed.append(job)
            elif claimed is not None or (scan_of(job) and state in DONE and not known.did(job)):
                jobs.append(job)
        return jobs, freed

    def _free(self, threads: ThreadPoolExecutor, again: Again, jobs: Sequence[Job]) -> None:
        """Make jobs available, and have the ledger say so before and after."""

        def free(job: Job) -> bool:
            # Whoever has taken it since works on it with the snapshot that runs now.
            if not is_as_listed(self.api, self.project, job):
                return False
            if again.deletes:
                self.odin.delete_level2(self._target(job))
            self.api.unclaim(self.project, job["Id"])
            self.api.set_status(self.project, job["Id"], "AVAILABLE")
            return True

        freed = self.ledger.freed_for(again.snapshot)
        freed.intend([(job["Id"], _claim_of(job)) for job in jobs])
        under_way = [(job, threads.submit(free, job)) for job in jobs]
        settled, fault = [], None
        for job, answer in under_way:
            try:
                again.count([job] if answer.result() else [])
                settled.append(job["Id"])
            except QsmrError as error:
                fault = fault or error
        freed.record(settled)
        if fault:
            raise QsmrError(f"{fault}. {again.summary()} Run it again to go on: no job is made available twice")

    def _tidy(self, job: Job) -> None:
        if job["IsClaimed"] is False and canonical(job["Status"]) != "available":
            self.api.set_status(self.project, job["Id"], "AVAILABLE")

    def _target(self, job: Job, scan_id: int = 0) -> str:
        """Where level 2 of a job is delivered to, or that of another scan in its frequency mode."""
        mode, own = scan_of(job) or (0, 0)
        return self.make(mode, scan_id or own)["target_url"]
