"""The worker's loop: fetch, claim, run, report (worker contract, section 4)."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from . import executor
from .client import Backoff, DockerProject, Job, JobService, ServiceError
from .output import Output
from .settings import Settings
from .signals import Interrupted, Stop, reap
from .state import BEAT_INTERVAL, Journal, Report, StateFile

log = logging.getLogger("uworker")

IDLE_WAIT = (1.0, 2.5)  # s between two looks into an empty queue
GIVE_BACK_TIME = 10.0  # s for giving a claim back after the job was killed
FIRST_UPLOAD = 6.0  # s after the start of a job
UPLOAD_INTERVAL = 10.0  # s


class Unfit(Exception):
    """The worker can't take jobs; the message is the reason in one line."""


class Worker:
    """Works on the jobs of one project until it is asked to stop."""

    def __init__(self, settings: Settings, stop: Stop) -> None:
        self._settings = settings
        self._stop = stop
        self._state = StateFile(settings.state_dir)
        self._journal = Journal(settings.state_dir, settings.root)
        self._lost_races = Backoff(first=0.05, most=2.0)
        self._service = JobService(
            settings.root,
            settings.project,
            settings.username,
            settings.password,
            settings.worker,
            settings.job_type,
            pause=self._pause,
            contact=self._state.contact,
        )

    def run(self) -> None:
        """Work until a signal asks to stop; what is owed to the job service is reported before the end."""
        failures = Backoff()
        while not self._stop.requested:
            try:
                wait = self._round()
                failures.reset()
            except Interrupted:
                break
            except (ServiceError, Unfit, DockerProject, executor.CommandError) as error:
                wait = max(failures.next(), getattr(error, "retry_after", 0.0))
                self._state.set("waiting", str(error))
                log.warning("%s; next look in %.0f s", error, wait)
            except Exception as error:
                wait = failures.next()
                self._state.set("waiting", f"error in the worker: {error!r}")
                log.exception("error in the worker; next look in %.0f s", wait)
            self._wait(wait)
        self._leave()

    def _round(self) -> float:
        """Work on one job if there is one; return the seconds to wait before the next round."""
        self._settle()
        if problem := self._settings.command_problem():
            raise Unfit(problem)
        with self._stop.interruptible():
            job = self._service.fetch()
        if job is None:
            if self._state.activity != "idle":
                log.info("Idle...")
            self._state.set("idle")
            return random.uniform(*IDLE_WAIT)  # noqa: S311 - no secret
        self._state.set(f"working on job {job.id}", write=False)  # a trivial job takes less time than the writing
        try:
            self._journal.begin(job)
        except OSError as error:
            raise Unfit(f"{self._settings.state_dir} can't be written: {error.strerror}") from error
        if not self._service.claim(job):
            self._journal.settled()
            return self._lost_races.next()
        self._lost_races.reset()
        self._work(job)
        return 0.0

    def _work(self, job: Job) -> None:
        log.info("Job %s: claimed", job.id)
        output = Output()
        started = time.monotonic()
        try:
            report = self._run(job, output)
        except Exception as error:
            if isinstance(error, (ServiceError, executor.CommandError)):
                self._give_back(job, str(error))
                raise
            log.exception("Job %s: error in the worker", job.id)
            output.add("EXECUTOR", f"Error in the worker: {error!r}")
            report = Report(job, "FAILED", output.text(), time.monotonic() - started)
        if report is None:
            return self._give_back(job, "the worker stops")
        log.info("Job %s: %s after %.3f s", job.id, report.status, report.seconds)
        self._journal.owed = report
        self._settle()
        return None

    def _run(self, job: Job, output: Output) -> Report | None:
        """Run the job command on the job; None if there was no time for it."""
        if self._stop.requested:
            return None
        self._service.set_status(job, "STARTED")
        if not job.source:
            output.add("EXECUTOR", "The job has no source URL")
            return Report(job, "FAILED", output.text(), 0.0)
        argv = [*self._settings.command, job.source]
        if job.target:
            argv += [job.target, *self._settings.external]
        uploads = Uploads(self._service, job, output)
        try:
            result = executor.run(
                argv,
                self._settings.job_environment,
                self._settings.job_timeout,
                output,
                self._stop,
                tick=lambda: self._tick(uploads),
            )
        finally:
            uploads.finish(self._pause)
        if result.given_up:
            return None
        return Report(job, "FINISHED" if result.succeeded else "FAILED", output.text(), result.seconds)

    def _tick(self, uploads: Uploads) -> None:
        self._state.beat()
        uploads.tick()

    def _give_back(self, job: Job, why: str) -> None:
        log.warning("Job %s: given back: %s", job.id, why)
        self._journal.owed = Report(job, "AVAILABLE")
        if self._stop.requested:
            self._stop.deadline = time.monotonic() + GIVE_BACK_TIME
        self._settle()

    def _settle(self) -> None:
        """Report what is owed. Raises ServiceError if it has to be tried again."""
        report = self._journal.owed
        if report is None:
            return
        try:
            self._report(report)
        except ServiceError as error:
            if error.transient:
                self._journal.save()
                raise
            log.error("Job %s: the job service doesn't take status %s: %s", report.job.id, report.status, error)
        self._journal.settled()

    def _report(self, report: Report) -> None:
        job = report.job
        if report.status == "AVAILABLE":
            return self._service.give_back(job)
        if report.output is None:
            if not self._service.holds(job):
                return None
            log.warning("Job %s: this worker was killed while the job ran", job.id)
            output = Output()
            output.add("EXECUTOR", "The worker was killed while the job ran")
            report.output = self._service.stored_output(job) + output.text()
        try:
            self._service.send_output(job, report.output)
        except ServiceError as error:
            if error.transient and error.status != 500:
                raise
            log.error("Job %s: the job service doesn't take the output: %s", job.id, error)
        return self._service.set_status(job, report.status, report.seconds)

    def _leave(self) -> None:
        self._state.set("stopping")
        while self._journal.owed and self._pause(0.0):
            try:
                self._settle()
            except ServiceError as error:
                log.warning("%s", error)
                self._pause(1.0)
        if report := self._journal.owed:
            log.error("Job %s: status %s is not reported", report.job.id, report.status)

    def _wait(self, seconds: float) -> None:
        """Wait with nothing at hand: a wish to stop ends it."""
        end = time.monotonic() + seconds
        while not self._stop.requested and (left := end - time.monotonic()) > 0:
            self._sleep(left)

    def _pause(self, seconds: float) -> bool:
        """Wait with a report at hand; False if the time for it is over."""
        end = time.monotonic() + seconds
        while (left := min(end, self._stop.deadline) - time.monotonic()) > 0:
            self._sleep(left)
        return time.monotonic() < self._stop.deadline

    def _sleep(self, seconds: float) -> None:
        self._state.beat()
        self._stop.wait(min(seconds, BEAT_INTERVAL))
        reap()


class Uploads:
    """Sends the output of a running job from time to time, without ever holding up the reading of it."""

    def __init__(self, service: JobService, job: Job, output: Output) -> None:
        self._service, self._job, self._output = service, job, output
        self._due = time.monotonic() + FIRST_UPLOAD
        self._sent_lines = 1  # "Starting execution" alone is no news
        self._thread: threading.Thread | None = None

    def tick(self) -> None:
        """Start an upload if it is due, there is something new, and none is under way."""
        now = time.monotonic()
        if now < self._due or self._output.lines == self._sent_lines or (self._thread and self._thread.is_alive()):
            return
        self._due = now + UPLOAD_INTERVAL
        news = (self._output.text(), self._output.lines)
        self._thread = threading.Thread(target=self._upload, args=news, daemon=True)
        self._thread.start()

    def finish(self, pause: Callable[[float], bool]) -> None:
        """Wait for the end of an upload that is under way, so that it can't overwrite the final output."""
        while self._thread and self._thread.is_alive() and pause(0.05):
            pass

    def _upload(self, text: str, lines: int) -> None:
        try:
            self._service.stream_output(self._job, text)
            self._sent_lines = lines
        except ServiceError as error:
            log.warning("Job %s: output is not sent yet: %s", self._job.id, error)
