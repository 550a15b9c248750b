"""Makes the job service have every job of a list: compares, sends what is missing, and asks whether it is there.

"Added" means that the service lists it. Whatever is killed and whenever, running it again leads to the same end: what
is sent is recorded in the ledger first, and what got no answer is asked for again.
"""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from .errors import QsmrError
from .hostpaths import database_why
from .jobapi import JobApi, JobApiError
from .jobdoc import JobMaker
from .ledger import Counts, Fault, Ledger, Outcome, Scan, run_lock
from .pace import Pace
from .progress import Progress
from .sender import FIRST_PAUSE, Sender, Stopped

MOST_SHOWN = 20
_LARGEST_NUMBER = 2**63 - 1
# How a job of the service can differ from ours, and which settings can be the reason. The service never shows a target.
_ONLY_TARGET = "only its target_url differs"
_REASONS = {
    "its source_url": ("ODIN_API_ROOT",),
    "its view_result_url": ("qsmr_odin_project",),
    "it has no view_result_url": ("qsmr_target_version",),
    "it has a view_result_url": ("qsmr_target_version",),
    _ONLY_TARGET: ("ODIN_SECRET", "qsmr_target_cipher"),
}
_JOB_ID = re.compile(r"([1-9][0-9]{0,8}):([1-9][0-9]{0,18})")
# A service that does not answer the first question is down or not where it is said to be: no use in waiting long.
_FIRST_PATIENCE = 10.0

T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """How a run ended. In check mode ``counts.added`` is what would be added, and nothing remains."""

    counts: Counts
    new_project: bool = False
    repeated: int = 0
    """Rows that name a scan again."""
    gone: int = 0
    """Jobs that were added before, and that the service had no more."""
    answers: dict[str, int] = field(default_factory=dict)
    """HTTP statuses of the answers, by number of jobs."""
    retries: int = 0
    stopped: str = ""
    """Why the run ended early."""
    on_conflict: str = "fail"
    """What to do about a job that the service has with another document, as the module qsmr_jobs says."""
    other_targets: int = 0
    """Jobs that were there with an EAX target that is not ours: other programs make random ones."""
    suspects: list[str] = field(default_factory=list)
    """The settings that can be the reason of the conflicts."""
    check: bool = False
    unsure: int = 0
    """Jobs that were there, and that only the service can tell from ours, when it is sent them."""
    faults: list[Fault] = field(default_factory=list)
    """The first jobs of the list that are not there."""

    @property
    def changed(self) -> bool:
        """Whether the service has something that it did not have before."""
        return bool(self.counts.added or self.new_project)

    @property
    def failed(self) -> bool:
        """Whether there is a job of the list that the service does not have."""
        conflict = self.counts.conflict and self.on_conflict != "keep"
        return bool(self.stopped or conflict or self.counts.refused or self.counts.remain)

    @property
    def actions(self) -> list[str]:
        """What was done, or in check mode would be."""
        done = ["project: created"] if self.new_project else []
        return done + ([f"jobs: {self.counts.added} added"] if self.counts.added else [])

    @property
    def differences(self) -> list[str]:
        """In what the service differed from the list."""
        there = self.counts.were_there
        found = ["project: absent \u2192 present"] if self.new_project else []
        if self.counts.added:
            found.append(f"jobs of the list: {there} \u2192 {there + self.counts.added}")
        if self.gone:
            found.append(f"jobs that had been added and were gone: {self.gone}")
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """The run as a module returns it."""
        there = self.counts.were_there
        return {
            "changed": self.changed,
            **asdict(self.counts),
            "repeated": self.repeated,
            "gone": self.gone,
            "answers": self.answers,
            "repeated_requests": self.retries,
            "summary": self.summary(),
            "actions": self.actions,
            "differences": self.differences,
            "diff": {"before": {"jobs": there}, "after": {"jobs": there + self.counts.added}},
        }

    def summary(self) -> str:
        """The run in a line."""
        counts = self.counts
        unsure = f" ({self.unsure} of them show no difference, but hide their target)" if self.unsure else ""
        if self.other_targets:
            unsure = f" ({self.other_targets} of them with another EAX target, which is random)"
        added = "jobs to be added" if self.check else "jobs added"
        parts = [f"{counts.added} {added}", f"{counts.were_there} were there{unsure}"]
        kept = " (kept)" if self.on_conflict == "keep" else ""
        parts += [f"{counts.conflict} conflict{kept}"] if counts.conflict else []
        parts += [f"{counts.refused} refused"] if counts.refused else []
        parts += [f"{counts.remain} remain"] if counts.remain else []
        parts += ["the project is to be made"] if self.check and self.new_project else []
        return ", ".join(parts)

    def complaint(self, listed_in: str = "the list") -> str:
        """Which jobs of a list are not there and why, in as many lines as a screen holds."""
        counts = self.counts
        missing = counts.conflict + counts.refused + counts.remain
        lines = [f"{missing} of {counts.wanted} jobs are not as {listed_in} has them: {self.summary()}"]
        if self.stopped:
            lines.append(f"The run was ended: {self.stopped}")
        # What was not sent needs no reason for each.
        named = [fault for fault in self.faults if fault.state in ("conflict", "refused", "gone")]
        lines += [str(fault) for fault in named]
        if len(named) < counts.conflict + counts.refused:
            lines.append(f"and {counts.conflict + counts.refused - len(named)} more")
        if counts.conflict:
            lines.append(
                "A conflict is a job of the same scan with another document: was it added with another"
                f" {' or '.join(self.suspects)}? Where it may stay, set qsmr_on_conflict to keep"
            )
            if self.on_conflict == "strict" and "qsmr_target_cipher" in self.suspects:
                lines.append(
                    "EAX targets of other programs are random: with qsmr_on_conflict set to fail they may differ"
                )
        lines.append("Run it again to go on: nothing is added twice")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Seen:
    """How the service describes the project: ``mark`` changes when jobs come or go, but not when they are worked on."""

    jobs: int | None
    mark: str | None

    @classmethod
    def of(cls, record: dict[str, Any]) -> _Seen:
        states = record.get("JobStates")
        jobs = sum(states.values()) if isinstance(states, dict) else None
        facts = [record.get(key) for key in ("CreatedAt", "NrJobsAdded", "LastJobAddedAt")]
        return cls(jobs, json.dumps([jobs, *facts]) if jobs is not None and None not in facts[:2] else None)


class Adding:
    """One run for one project."""

    def __init__(
        self,
        api: JobApi,
        make: JobMaker,
        project: str,
        directory: Path,
        connections: int = 8,
        patience: float = 300.0,
        on_conflict: str = "fail",
        lock_patience: float = 0.0,
        check_scans: Callable[[Iterable[Scan], Callable[[int, int], None]], None] | None = None,
    ) -> None:
        """``directory`` keeps the project's state; ``patience`` (seconds): how long to bear trouble.

        ``check_scans`` raises QsmrError if new scans are not to be added; it is given what to tell its progress.
        """
        self._api = api
        self._make = make
        self._project = project
        self._directory = directory
        self._connections = connections
        self._patience = patience
        self._on_conflict = on_conflict
        self._lock_patience = lock_patience
        self._check_scans = check_scans
        self._progress = Progress(None, project)

    def run(self, scans: Iterable[tuple[int, int, int]], check: bool = False) -> Result:
        """Add the jobs of ``scans``: frequency mode, scan id, and line in the user's list, which messages name.

        With ``check`` nothing is sent or written. Raises QsmrError if nothing could be done at all.
        """
        with ExitStack() as stack:
            if not check:
                stack.enter_context(run_lock(self._directory, self._lock_patience))
                self._progress = Progress(self._directory / "progress.json", self._project)
            ledger = Ledger(self._directory, self._make.digest, throwaway=check)
            stack.callback(ledger.close)
            try:
                result = self._run(ledger, scans, check)
            except BaseException as error:
                with suppress(QsmrError):  # a full disk, say, which must not hide what went wrong
                    self._progress.say("failed")
                if isinstance(error, sqlite3.Error):
                    raise QsmrError(f"The ledger in {self._directory} cannot be used: {database_why(error)}") from None
                raise
            result = replace(
                result,
                on_conflict=self._on_conflict,
                other_targets=ledger.number("added", _ONLY_TARGET) if self._make.has_random_targets else 0,
                suspects=self._suspects(ledger) if result.counts.conflict else [],
            )
            with suppress(*([QsmrError] if result.failed else [])):
                self._progress.say("failed" if result.failed else "done")
            return result

    def _run(self, ledger: Ledger, scans: Iterable[tuple[int, int, int]], check: bool) -> Result:
        repeated = ledger.want(scans)
        for scan in ledger.largest():
            self._make.check_lengths(*scan)

        self._progress.say("asking", total=ledger.wanted())
        patience = min(self._patience, _FIRST_PATIENCE)
        before = self._look(patience)
        if before and ledger.agrees_with(before.mark) and not ledger.unknown():
            return Result(Counts(ledger.wanted(), were_there=ledger.wanted()), repeated=repeated)
        gone = 0
        if before is None:
            gone = ledger.reconcile([])
        elif check or before.jobs != ledger.added() or (before.jobs and not ledger.agrees_with(before.mark)):
            gone = self._compare(ledger, patience)
        planned, new = ledger.plan()
        if new and self._check_scans:
            self._check_scans(
                ledger.new_scans(), lambda done, total: self._progress.say("looking", done=done, total=total)
            )
            self._progress.say("asking", done=0, total=ledger.wanted())
        if check:
            counts = ledger.counts()
            there = counts.wanted - counts.conflict - new
            counts = Counts(counts.wanted, new, there, counts.conflict)
            # What is not there would be sent: only what is there with another document is at fault.
            faults = ledger.faults(MOST_SHOWN, "conflict")
            return Result(counts, before is None, repeated, gone, check=True, unsure=planned - new, faults=faults)
        if not planned and before:
            ledger.agree(before.mark)
            return Result(ledger.counts(), repeated=repeated, gone=gone, faults=ledger.faults(MOST_SHOWN))

        if before is None:
            self._patiently(lambda: self._api.put_project(self._project, name=self._project), patience)
        sender = Sender(self._api, self._project, self._make, self._patience)
        stopped, unsure = self._send_all(ledger, sender, planned)
        answers = ledger.answers()
        if not stopped:
            self._settle_conflicts(ledger)
            self._confirm(ledger, before.jobs if before else 0, unsure)
        return Result(
            ledger.counts(),
            new_project=before is None,
            repeated=repeated,
            gone=gone,
            answers=answers,
            retries=sender.retries,
            stopped=stopped,
            faults=ledger.faults(MOST_SHOWN),
        )

    def _send_all(self, ledger: Ledger, sender: Sender, planned: int) -> tuple[str, bool]:
        """Send what is planned. Returns why that ended early, and whether only the service's list tells the outcome."""
        pace = Pace(self._connections)
        place, stopped, unsure = 0, "", False
        counts = ledger.counts()
        done = counts.were_there + counts.conflict
        under_way: dict[Future[list[Outcome]], tuple[int, float, int]] = {}
        with ThreadPoolExecutor(self._connections) as threads, _halting(sender):
            while True:
                while not stopped and len(under_way) < pace.connections:
                    size = pace.share(planned - place)
                    place, batch = ledger.batch(place, min(size, sender.largest or size))
                    if not batch:
                        break
                    ledger.intend(batch)
                    request = threads.submit(sender.send, batch)
                    under_way[request] = (len(batch), time.monotonic(), len(under_way) + 1)
                self._progress.say("adding", done=done, retries=sender.retries)
                if not under_way:
                    return stopped, unsure
                for answered in wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED).done:
                    size, since, beside = under_way.pop(answered)
                    try:
                        outcomes = answered.result()
                    except Stopped as why:
                        stopped = str(why)
                        continue
                    ledger.record(outcomes)
                    pace.follow(size, time.monotonic() - since, beside)
                    unsure = unsure or any(outcome.state == "exists" for outcome in outcomes)
                    done += size

    def _settle_conflicts(self, ledger: Ledger) -> None:
        """Find out in what the jobs differ that the service refused as other ones.

        What differs in an EAX target alone is there, unless the user is strict: whoever else adds it has random ones.
        """
        if ledger.conflicts_to_look_up():
            self._compare(ledger, self._patience)
        random_targets = self._make.has_random_targets and self._on_conflict != "strict"
        ledger.settle_conflicts(_ONLY_TARGET, accept=random_targets)

    def _suspects(self, ledger: Ledger) -> list[str]:
        """The settings that can be the reason of the conflicts."""
        found = [name for said, names in _REASONS.items() if ledger.number("conflict", said) for name in names]
        if "ODIN_SECRET" in found and not self._make.view_result_url(1, 1):
            found.append("qsmr_odin_project")
        return list(dict.fromkeys(found)) or ["recipe"]

    def _confirm(self, ledger: Ledger, jobs_before: int | None, unsure: bool) -> None:
        """Ask the service whether what it took is there: its number of jobs tells, and if not, its list."""
        self._progress.say("checking")
        after = self._look(self._patience)
        expected = None if jobs_before is None or unsure else jobs_before + ledger.counts().added
        if after is None or after.jobs is None or after.jobs != expected:
            self._compare(ledger, self._patience)
        ledger.agree(after.mark if after else None)

    def _look(self, patience: float) -> _Seen | None:
        """The project as the service describes it; None if there is none."""
        try:
            record = self._patiently(lambda: self._api.project(self._project), patience)
        except JobApiError as error:
            if error.status != 500:
                raise
            # One job with a null status is enough for that (REST contract v4, section 4); the list of jobs still works.
            return _Seen(None, None)
        return None if record is None else _Seen.of(record)

    def _compare(self, ledger: Ledger, patience: float) -> int:
        """Compare the ledger with the service's list; returns how many jobs are gone."""
        return self._patiently(lambda: ledger.reconcile(self._listed()), patience)

    def _listed(self) -> Iterator[tuple[int, int, str | None]]:
        for job in self._api.each_job(self._project):
            name = _JOB_ID.fullmatch(str(job.get("Id")))
            if name and (scan := Scan(int(name[1]), int(name[2]))).scan_id <= _LARGEST_NUMBER:
                yield (*scan, self._difference(scan, job.get("URLS") or {}))

    def _difference(self, scan: Scan, urls: dict[str, str | None]) -> str | None:
        """How a listed job differs from ours, as far as the service shows it: never its target."""
        ours = self._make.source_url(*scan), self._make.view_result_url(*scan)
        theirs = urls.get("URL-Input"), urls.get("URL-Result")
        for name, own, other in zip(("source_url", "view_result_url"), ours, theirs, strict=True):
            if own and other and own != other:
                return f"its {name} is {other}, ours {own}"
        if "URL-Result" in urls and bool(ours[1]) != bool(theirs[1]):
            return f"it has no view_result_url, ours is {ours[1]}" if ours[1] else "it has a view_result_url, ours none"
        return None

    def _patiently(self, call: Callable[[], T], patience: float) -> T:
        """The result of a request that may be repeated; the last error after so many seconds of trouble."""
        pause, end = FIRST_PAUSE, time.monotonic() + patience
        while True:
            try:
                return call()
            except JobApiError as error:
                wait_for = error.retry_after or pause
                if not error.temporary or time.monotonic() + wait_for > end:
                    raise
                time.sleep(wait_for)
                pause *= 2


@contextmanager
def _halting(sender: Sender) -> Iterator[None]:
    """Don't wait for threads that send when the run is broken off."""
    try:
        yield
    except BaseException:
        sender.halt()
        raise
