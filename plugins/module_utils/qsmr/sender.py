"""Sends batches of jobs to a job service of any age, and finds out what became of each job.

A document is the same each time it is sent, and the service takes an identical job as there: so a request that got no
answer is asked again, and the answer to the second one tells. What services answer, and what that means here
(job service REST contract v4, section 5):

* 201: all of them are there. Nothing else is success, not even a 200.
* 409 or 400 that names jobs by their index: those are conflicts or refused; the others are sent again without them.
* 413, 500, or a refusal that names nobody: the batch is halved until the one that is meant is alone. A 500 is asked
  twice first: two clients that add the same jobs at once can cause one.
* 500 to a list when the same job alone is taken: a service from before 2017-04. It gets its jobs one by one; its 409
  says only that the id exists.
* no answer, 429, other 5xx, or something that is no job service: wait and ask again, until there has been no answer of
  use for ``patience`` seconds.
* anything else (wrong password, wrong address): no use in going on.
"""

from __future__ import annotations

import itertools
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from .errors import QsmrError
from .jobapi import BUSY, Answer, Job, JobApi, JobApiError, first_line
from .jobdoc import JobMaker
from .ledger import Outcome, Scan

_NAMED = re.compile(r"^Job#(\d+):\s*(.*)$", re.MULTILINE)
# No answer, or a front end that got none: the batch may be too large to be dealt with in time.
_TOO_MUCH = (0, 502, 504)
# Seconds before a request is made again: at first, and at most after it was doubled a few times.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
# So many jobs in a row that are refused one by one mean that the service, not the jobs, is at fault.
_MOST_ALONE_REFUSED = 25


class Stopped(QsmrError):
    """There is no use in sending more; the text says why."""


class Sender:
    """Sends the jobs of one project. Safe to share between threads."""

    def __init__(self, api: JobApi, project: str, make: JobMaker, patience: float) -> None:
        """``patience``: seconds without an answer of use after which it gives up."""
        self._api = api
        self._project = project
        self._make = make
        self._patience = patience
        self._stop = threading.Event()
        self._why = ""
        self._heard = time.monotonic()
        self._lists: bool | None = None
        self._alone_refused = 0
        self.retries = 0
        # The largest list that the service takes, in jobs; 0 if no limit was met.
        self.largest = 0

    def send(self, scans: Sequence[Scan]) -> list[Outcome]:
        """Send jobs and return what became of each; raises Stopped if that cannot be found out."""
        if self._lists is False:
            return [self._send_alone(scan) for scan in scans]
        if 0 < self.largest < len(scans):
            parts = (scans[start : start + self.largest] for start in range(0, len(scans), self.largest))
            return [outcome for part in parts for outcome in self.send(part)]
        answer = self._post_list([self._make(*scan) for scan in scans])
        if answer.status == 500 and self._lists is None and not self._takes_lists(scans[0]):
            return self.send(scans)
        if answer.status == 201:
            self._lists = True
            return self._added(scans)
        named = {int(index): reason for index, reason in _NAMED.findall(answer.reason)}
        if answer.status in (400, 409) and named and max(named) < len(scans):
            self._lists = True
            said = [(scan, named[index]) for index, scan in enumerate(scans) if index in named]
            if answer.status == 409:
                outcomes = self._conflicts(said)
            else:
                outcomes = [Outcome(scan, "refused", f"400 {reason}") for scan, reason in said]
            others = [scan for index, scan in enumerate(scans) if index not in named]
            return outcomes + (self.send(others) if others else [])
        if len(scans) == 1:
            return [self._verdict(scans[0], answer)]
        half = len(scans) // 2
        if answer.status == 413:
            self.largest = min(self.largest or half, half)
        return self.send(scans[:half]) + self.send(scans[half:])

    def halt(self) -> None:
        """Make all threads that send stop at once."""
        self._stop.set()

    def _send_alone(self, scan: Scan) -> Outcome:
        answer = self._post_one(self._make(*scan))
        if answer.status == 201:
            return self._added([scan])[0]
        if answer.status == 409:
            return Outcome(scan, "exists", _words(answer))
        return self._verdict(scan, answer)

    def _takes_lists(self, scan: Scan) -> bool:
        """Whether the service takes lists: told by one job that it takes alone, or has already."""
        if self._post_one(self._make(*scan)).status not in (201, 409):
            return True  # that does not tell; the halving will
        self._lists = self._post_list([self._make(*scan)]).status != 500
        return self._lists

    def _conflicts(self, said: Sequence[tuple[Scan, str]]) -> list[Outcome]:
        """Which conflicts are real: a job that a Python 2 script made has another document that says the same."""
        differing = dict(enumerate(reason for _scan, reason in said))
        if self._make.has_python2_form:
            answer = self._post_list([self._make(*scan, python2_order=True) for scan, _reason in said])
            if answer.status == 201:
                differing = {}
            elif answer.status == 409:
                differing = {int(index): reason for index, reason in _NAMED.findall(answer.reason)} or differing
        return [
            Outcome(scan, "conflict", f"409 {reason}")
            if index in differing
            else Outcome(scan, "added", "201 as the Python 2 script made it")
            for index, (scan, reason) in enumerate(said)
        ]

    def _verdict(self, scan: Scan, answer: Answer) -> Outcome:
        """What an answer other than 201 means for a job that was sent alone."""
        if answer.status == 409:
            return self._conflicts([(scan, first_line(answer.reason))])[0]
        self._alone_refused += 1
        if self._alone_refused > _MOST_ALONE_REFUSED:
            self._give_up(f"the job service refuses every job: {_words(answer)}")
        return Outcome(scan, "refused", _words(answer))

    def _added(self, scans: Sequence[Scan]) -> list[Outcome]:
        self._alone_refused = 0
        return [Outcome(scan, "added", "201") for scan in scans]

    def _post_list(self, jobs: Sequence[Job]) -> Answer:
        return self._ask(lambda: self._api.add_jobs(self._project, jobs), divisible=len(jobs) > 1)

    def _post_one(self, job: Job) -> Answer:
        return self._ask(lambda: self._api.add_job(self._project, job), divisible=False)

    def _ask(self, post: Callable[[], Answer], divisible: bool) -> Answer:
        """The service's answer once it has one of use; for what can be divided, also that there is none."""
        pause = FIRST_PAUSE
        for attempt in itertools.count(1):
            if self._stop.is_set():
                break
            try:
                answer = post()
            except JobApiError as error:
                if not error.temporary:
                    self._give_up(str(error))
                answer, trouble = Answer(0, "", error.retry_after), str(error)
            else:
                trouble = _words(answer)
                if answer.status in (201, 400, 409, 413):
                    self._heard = time.monotonic()
                    return answer
                if 300 <= answer.status < 500 and answer.status not in BUSY:
                    self._give_up(f"POST of jobs: {trouble}; check JOB_API_ROOT and the project's name")
            silent = time.monotonic() - self._heard
            if silent + (answer.retry_after or 0) > self._patience:
                self._give_up(f"no answer of use for {silent:.0f} s, the last one: {trouble}")
            if (answer.status == 500 and attempt > 1) or (divisible and answer.status in _TOO_MUCH and attempt > 2):
                return answer
            self.retries += 1
            self._stop.wait(answer.retry_after or pause * random.uniform(0.5, 1))  # noqa: S311 only spreads the load
            pause = min(2 * pause, LONGEST_PAUSE)
        raise Stopped(self._why)

    def _give_up(self, why: str) -> NoReturn:
        if not self._stop.is_set():
            self._why = why
            self._stop.set()
        raise Stopped(self._why)


def _words(answer: Answer) -> str:
    return f"{answer.status} {first_line(answer.reason)}"
