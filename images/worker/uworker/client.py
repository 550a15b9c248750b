"""Client of the job service (REST contract v4, sections 2 and 6), as far as a worker needs it."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import requests
from requests.auth import HTTPBasicAuth

log = logging.getLogger("uworker")

TIMEOUT = (5.0, 30.0)  # s, for connecting and for each read
TRIES = 6
RENEW_AT = 0.8  # of a token's lifetime
MAX_WAIT = 60.0  # s between two tries

T = TypeVar("T")


class ServiceError(Exception):
    """A call failed; `status` is the HTTP status, None if there was no answer, `retry_after` in seconds."""

    def __init__(self, message: str, status: int | None = None, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    @property
    def transient(self) -> bool:
        """The same call may succeed later (an account can be put right, too)."""
        return self.status is None or self.status in (401, 408, 429) or self.status >= 500


class Backoff:
    """Waits that grow exponentially, with full jitter."""

    def __init__(self, first: float = 1.0, most: float = MAX_WAIT) -> None:
        self._first, self._most, self._tries = first, most, 0

    def next(self) -> float:
        """Return the seconds to wait now."""
        limit = min(self._most, self._first * 2.0 ** min(self._tries, 30))
        self._tries += 1
        return random.uniform(0, limit)  # noqa: S311 - no secret

    def reset(self) -> None:
        """Start again after a success."""
        self._tries = 0


@dataclass(frozen=True)
class Job:
    """A job as fetched; the URLs of the service are below our own root."""

    id: str
    source: str
    target: str
    claim: str
    status: str
    output: str


class DockerProject(Exception):
    """The project's jobs are for workers in docker mode."""


class JobService:
    """Speaks for one worker with one project.

    `pause(seconds)` waits between two tries and returns False if there is no time for another one;
    `contact(problem)` is told how each exchange went.
    """

    def __init__(
        self,
        root: str,
        project: str,
        username: str,
        password: str,
        worker: str,
        job_type: str = "",
        pause: Callable[[float], bool] = lambda seconds: True,
        contact: Callable[[str], None] = lambda problem: None,
        timeout: tuple[float, float] = TIMEOUT,
    ) -> None:
        self._root = root
        self._fetch_url = f"{root}/v4/{project}/jobs/fetch"
        self._project = project
        self._worker = worker
        self._params = {"type": job_type} if job_type else {}
        # As bytes: requests would encode a text as Latin-1, and fail for other characters.
        self._account = HTTPBasicAuth(username.encode(), password.encode())
        self._token: HTTPBasicAuth | None = None
        self._renew_at = 0.0
        self._pause = pause
        self._contact = contact
        self._timeout = timeout
        self._session = requests.Session()
        # Proxies and certificates of the environment, looked up once: per call it costs more than the call itself.
        environment = self._session.merge_environment_settings(root, {}, None, None, None)
        self._session.proxies, self._session.verify = environment["proxies"], environment["verify"]
        self._session.trust_env = False

    def fetch(self) -> Job | None:
        """Return a job that can be claimed, None if there is none. Makes one try only.

        Raises DockerProject for a project whose jobs a worker with a job command must leave alone.
        """
        try:
            answer = self._exchange("GET", self._fetch_url)
        except ServiceError as error:
            if error.status == 404:
                return None
            raise
        try:
            job = answer["Job"]
            urls = job["URLS"]
            if urls.get("URL-image"):
                raise DockerProject(
                    f"project {self._project} has a processing image: its jobs are for workers in docker mode"
                )
            return Job(
                id=str(job["JobID"]),
                source=urls.get("URL-source") or "",
                target=urls.get("URL-target") or "",
                claim=self._own_url(urls["URL-claim"]),
                status=self._own_url(urls["URL-status"]),
                output=self._own_url(urls["URL-output"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ServiceError(f"the job service's answer to fetch is no job: {error!r}") from error

    def claim(self, job: Job) -> bool:
        """Claim the job; False if another worker was faster."""
        failed = False

        def attempt() -> bool:
            nonlocal failed
            try:
                self._exchange("PUT", job.claim, {"Worker": self._worker})
                return True
            except ServiceError as error:
                # An earlier try can have reached the service although its answer never reached us.
                if error.status == 409:
                    return failed and self.holder(job) == self._worker
                failed = True
                raise

        return self._retry(attempt)

    def holder(self, job: Job) -> str | None:
        """Return the worker that holds the job, None if nobody does."""
        holder = self._exchange("GET", job.claim).get("ClaimedByWorker")
        return holder if holder is None else str(holder)

    def holds(self, job: Job) -> bool:
        """Tell whether this worker holds the job."""
        return self._retry(lambda: self.holder(job) == self._worker)

    def give_back(self, job: Job) -> None:
        """Make the job available to others, unless another worker holds it by now."""

        def attempt() -> None:
            holder = self.holder(job)
            if holder == self._worker:
                self._exchange("DELETE", job.claim)
            if holder in (None, self._worker):
                self._exchange("PUT", job.status, {"Status": "AVAILABLE"})

        self._retry(attempt)

    def set_status(self, job: Job, status: str, seconds: float | None = None) -> None:
        """Set the job's status and processing time."""
        failed = False

        def attempt() -> None:
            nonlocal failed
            # A final status that is sent twice counts twice.
            if failed and self._exchange("GET", job.status).get("Status") == status:
                return
            failed = True
            self._exchange("PUT", job.status, {"Status": status, "ProcessingTime": seconds})

        self._retry(attempt)

    def stored_output(self, job: Job) -> str:
        """Return the job's output as the service has it."""
        return str(self._retry(lambda: self._exchange("GET", job.output)).get("Output") or "")

    def stream_output(self, job: Job, text: str) -> None:
        """Send the output so far, with one try only; characters that the service can't store are replaced."""
        plain = re.sub("[^\0-\uffff]", "?", text)
        forms = list(dict.fromkeys((text, plain, plain.encode("ascii", "replace").decode())))
        while True:
            try:
                self._exchange("PUT", job.output, {"Output": forms.pop(0)})
                return
            except ServiceError as error:
                if error.status != 500 or not forms:
                    raise

    def send_output(self, job: Job, text: str) -> None:
        """Send the whole output of a job that has ended."""
        self._retry(lambda: self.stream_output(job, text))

    def _own_url(self, url: str) -> str:
        """Return the service's URL below our root: the service may know itself by another name.

        So the credentials go nowhere else, whatever an answer says.
        """
        if url.startswith(f"{self._root}/"):
            return url
        _, found, path = url.partition("/rest_api/")
        if not found:
            raise ServiceError(f"the job service sent the URL {url}, which is not below /rest_api")
        return f"{self._root}/{path}"

    def _retry(self, attempt: Callable[[], T]) -> T:
        backoff = Backoff()
        tries = 1
        while True:
            try:
                return attempt()
            except ServiceError as error:
                wait = max(backoff.next(), error.retry_after)
                if not error.transient or tries == TRIES or not self._pause(wait):
                    raise
                log.warning("%s; try %d", error, tries + 1)
            tries += 1

    def _exchange(self, method: str, url: str, body: dict[str, Any] | None = None) -> Any:
        """Make one call with a valid token and return the JSON of its answer."""
        if self._token is None or time.monotonic() >= self._renew_at:
            self._renew_token()
        response = self._send(method, url, self._token, body)
        if response.status_code == 401:
            self._renew_token()
            response = self._send(method, url, self._token, body)
        return self._json(response, method, url)

    def _renew_token(self) -> None:
        url = f"{self._root}/token"
        try:
            answer = self._json(self._send("GET", url, self._account), "GET", url)
            token, duration = str(answer["token"]), float(answer.get("duration", 600))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ServiceError(f"the answer of {url} holds no token: is UWORKER_JOB_API_ROOT right?") from error
        except ServiceError as error:
            if error.transient:
                raise
            # A 404 of this call must not be taken for one that says "no jobs".
            raise ServiceError(f"{error}: is UWORKER_JOB_API_ROOT right?") from error
        self._token = HTTPBasicAuth(token.encode(), b"")
        self._renew_at = time.monotonic() + RENEW_AT * duration

    def _send(
        self, method: str, url: str, auth: HTTPBasicAuth | None, body: dict[str, Any] | None = None
    ) -> requests.Response:
        try:
            return self._session.request(
                method,
                url,
                params=self._params if url == self._fetch_url else None,
                json=body,
                auth=auth,
                timeout=self._timeout,
                # A redirect must not carry the credentials away, nor turn a PUT into a GET.
                allow_redirects=False,
            )
        except requests.RequestException as error:
            problem = f"the job service at {self._root} can't be reached: {_reason(error)}"
            self._contact(problem)
            raise ServiceError(problem) from error

    def _json(self, response: requests.Response, method: str, url: str) -> Any:
        status = response.status_code
        if status < 300:
            try:
                answer = response.json()
            except ValueError as error:
                problem = f"the answer to {method} {url} is no JSON: is UWORKER_JOB_API_ROOT right?"
                self._contact(problem)
                raise ServiceError(problem) from error
            self._contact("")
            return answer
        if status == 401:
            problem = "the job service refuses the account (401): check UWORKER_JOB_API_USERNAME and _PASSWORD"
        elif status < 400:
            location = response.headers.get("Location")
            problem = f"{method} {url} is redirected to {location}: set UWORKER_JOB_API_ROOT to it"
        else:
            problem = f"{method} {url} answered {status}: {_error_text(response)}"
        # A refusal of one call (no job there, claimed by another) is a contact as good as any.
        self._contact("" if 400 <= status < 500 and status not in (401, 429) else problem)
        raise ServiceError(problem, status, _retry_after(response))


def _error_text(response: requests.Response) -> str:
    try:
        text = str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        text = response.text
    return " ".join(text.split())[:200]


def _retry_after(response: requests.Response) -> float:
    value = response.headers.get("Retry-After", "")
    try:
        seconds = float(value) if value.isdigit() else parsedate_to_datetime(value).timestamp() - time.time()
    except (TypeError, ValueError):
        return 0.0
    return min(max(seconds, 0.0), MAX_WAIT)


def _reason(error: BaseException) -> str:
    """Return the innermost reason of a failed request in a few words."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    *_, cause = _causes(error)
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    return " ".join(reason.split())[:200]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        reason = getattr(error, "reason", None)  # of an error of ssl, that is a text
        error = reason if isinstance(reason, BaseException) else error.__cause__ or error.__context__
