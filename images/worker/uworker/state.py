"""What the worker keeps in files: its state for `uworker-health`, and the job it owes the job service a report on."""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from .client import Job
from .health import STATE_FILE

log = logging.getLogger("uworker")

BEAT_INTERVAL = 5.0  # s


class StateFile:
    """The state that `uworker-health` judges; written when it changes, and at least every few seconds.

    If it can't be written (a full disk) the work goes on, and health gets bad as the sign of life gets old.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / STATE_FILE
        self._lock = threading.RLock()  # uploads report their contact, too
        self._written = 0.0
        self._contact: float | None = None
        self._service_problem = ""
        self._problem = "no contact with the job service yet"
        self.activity = "starting"
        self._write()

    def set(self, activity: str, problem: str = "", write: bool = True) -> None:
        """Tell what the worker does, and what keeps it from doing its work, if anything does.

        Without `write` a new activity gets into the file with the next sign of life.
        """
        with self._lock:
            changed = problem != self._problem or (write and activity != self.activity)
            self.activity, self._problem = activity, problem
            self._write() if changed else self.beat()

    def contact(self, problem: str = "") -> None:
        """Tell how a call of the job service ended: without a problem, or with this one."""
        with self._lock:
            if not problem:
                self._contact = time.time()
            changed = problem != self._service_problem
            self._service_problem = problem
            self._write() if changed else self.beat()

    def beat(self) -> None:
        """Give a sign of life."""
        with self._lock:
            if time.monotonic() - self._written >= BEAT_INTERVAL:
                self._write()

    def _write(self) -> None:
        contact = "never"
        if self._contact:
            contact = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._contact))
        self._written = time.monotonic()
        problem = self._problem or self._service_problem
        state = {"activity": self.activity, "problem": problem, "contact": contact, "beat": self._written}
        try:
            _replace(self._path, "".join(f"{key}={' '.join(str(value).split())}\n" for key, value in state.items()))
        except OSError as error:
            log.warning("%s can't be written: %s", self._path, error.strerror)


@dataclass
class Report:
    """What the job service must be told about a job: its final status, or AVAILABLE to give the claim back.

    Without an output the job's worker was killed while the job ran.
    """

    job: Job
    status: str
    output: str | None = None
    seconds: float | None = None


class Journal:
    """The report that is owed, also in a file, so that neither an outage nor the worker's death loses it.

    The file says what the next worker of this container has to report, `owed` what this one has to. A report to
    another job service than the one at `root` is not this worker's, nor is its account meant for that one.
    """

    def __init__(self, directory: Path, root: str) -> None:
        self._path = directory / "job.json"
        self.owed: Report | None = None
        try:
            data = json.loads(self._path.read_text(encoding="utf-8"))
            report = Report(**{**data, "job": Job(**data["job"])})
            if all(url.startswith(f"{root}/") for url in (report.job.claim, report.job.status, report.job.output)):
                self.owed = report
        except FileNotFoundError:
            pass
        except (ValueError, TypeError, KeyError):
            self._path.unlink()

    def begin(self, job: Job) -> None:
        """Note the job before it is claimed: until more is known it is to be given back, or failed by a kill.

        Raises OSError if it can't be noted.
        """
        _replace(self._path, json.dumps(asdict(Report(job, "FAILED"))))
        self.owed = Report(job, "AVAILABLE")

    def save(self) -> None:
        """Note in the file what is owed, as it can't be reported now."""
        if self.owed:
            with suppress(OSError):  # it is still in memory
                _replace(self._path, json.dumps(asdict(self.owed)))

    def settled(self) -> None:
        """Forget the report: the job service has it."""
        self.owed = None
        self._path.unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text, encoding="utf-8", errors="backslashreplace")
    new.replace(path)
