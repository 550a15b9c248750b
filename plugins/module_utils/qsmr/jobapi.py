"""A client of the job service (job service REST contract, v4)."""

from __future__ import annotations

import codecs
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, urlsplit, urlunsplit

from .errors import QsmrError
from .libraries import libraries
from .websession import web_session

with libraries():
    import requests

Job = Mapping[str, Any]
# The service, or what stands before it, has too much to do.
BUSY = (408, 425, 429)


class JobApiError(QsmrError):
    """The service did not do what was asked: ``status`` is its HTTP status, None if no whole answer came."""

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after

    @property
    def temporary(self) -> bool:
        """Whether the same request may be answered better later."""
        return self.status is None or not 300 <= self.status < 500 or self.status in BUSY


@dataclass(frozen=True)
class Answer:
    """What the service said to a POST of jobs, whatever it was."""

    status: int
    text: str
    retry_after: float | None = None

    @property
    def reason(self) -> str:
        """The service's own words: the ``error`` of its answer, else the answer as it is."""
        try:
            return str(json.loads(self.text)["error"])
        except (ValueError, KeyError, TypeError):
            return self.text


class JobApi:
    """One job service. Safe to share between threads.

    The token is fetched with user name and password when it is first needed and renewed once when the service refuses
    it (contract, section 2). Redirects are never followed: they could carry the credentials to another host.
    """

    def __init__(
        self,
        root: str,
        username: str | None = None,
        password: str | None = None,
        connect_timeout: float = 10.0,
        read_timeout: float = 180.0,
        connections: int = 10,
    ) -> None:
        """``root`` is everything up to ``/rest_api``; timeouts in seconds, ``read_timeout`` for each wait for bytes."""
        self.root = root
        self._login = (username or "", password or "") if username else None
        self._timeout = (connect_timeout, read_timeout)
        self._token: str | None = None
        self._token_lock = threading.Lock()
        self._session = web_session(root)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=connections))

    def __enter__(self) -> JobApi:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def project(self, name: str) -> dict[str, Any] | None:
        """The project's record, counters and JobStates (contract, section 4); None if there is no such project."""
        try:
            return self._get(f"/v4/{name}")
        except JobApiError as error:
            if error.status == 404:
                return None
            raise

    def exists(self, name: str) -> bool:
        """Whether there is such a project. Asked for the jobs of one that is not there, the service may make a table.

        A 500 says yes: one job with a null status is enough for that (contract, section 4).
        """
        try:
            return self.project(name) is not None
        except JobApiError as error:
            if error.status != 500:
                raise
            return True

    def put_project(self, name: str, /, **fields: object) -> None:
        """Create or update the project. Give a field: an update without one is an error of the service."""
        self._authorised("PUT", f"/v4/{name}", fields)

    def delete_project(self, name: str) -> None:
        """Remove the project's record and all of its jobs; it need not exist."""
        self._authorised("DELETE", f"/v4/{name}")

    def jobs(
        self, name: str, status: str | None = None, worker: str | None = None, limit: int | None = None
    ) -> list[dict[str, Any]]:
        """The project's jobs (contract, section 7); an unknown project has none."""
        return list(self.each_job(name, status=status, worker=worker, limit=limit))

    def each_job(self, name: str, **query: str | int | None) -> Iterator[dict[str, Any]]:
        """The project's jobs one by one as they arrive, so that a million of them need no room."""
        path = f"/v4/{name}/jobs"
        with self._request("GET", path, params=query, stream=True) as response:
            if response.status_code != 200:
                raise self._error("GET", path, response)
            try:
                yield from _objects_of(response, "Jobs")
            except (requests.RequestException, ValueError) as error:
                raise JobApiError(
                    f"GET {self._shown(path)}: the answer is no whole job list ({first_line(str(error))}); try again"
                ) from None

    def failures(self, name: str) -> dict[str, Any]:
        """The analysis of the failed jobs' output (contract, section 7)."""
        return self._get(f"/v4/{name}/failures")

    def counts(
        self, name: str, period: str = "hourly", start: str | None = None, end: str | None = None
    ) -> dict[str, Any]:
        """Claimed, finished and failed jobs for each period: hourly, daily, monthly, yearly; times in UTC."""
        return self._get(f"/v4/{name}/jobs/count", period=period, start=start, end=end)

    def add_job(self, name: str, job: Job) -> Answer:
        """Post one job and return whatever the service says; JobApiError if it says nothing or knows no such user."""
        return self._add(name, job)

    def add_jobs(self, name: str, jobs: Sequence[Job]) -> Answer:
        """Post jobs as one list, which the service takes as a whole or not at all; else as ``add_job``."""
        return self._add(name, jobs)

    def claim(self, name: str, job_id: str) -> dict[str, Any]:
        """Who has the job, since when: ``Claimed``, ``ClaimedByWorker``, ``ClaimedAtTime`` (contract, section 6)."""
        return self._get(f"/v4/{name}/jobs/{quote(job_id, safe=':')}/claim", has=("ClaimedByWorker", "ClaimedAtTime"))

    def status(self, name: str, job_id: str) -> str:
        """The status text of a job (contract, section 6)."""
        return str(self._get(f"/v4/{name}/jobs/{quote(job_id, safe=':')}/status", has=("Status",))["Status"])

    def output(self, name: str, job_id: str) -> str | None:
        """What the job printed, as its worker sent it (contract, section 6); None before that."""
        found = self._get(f"/v4/{name}/jobs/{quote(job_id, safe=':')}/output").get("Output")
        return None if found is None else str(found)

    def set_status(self, name: str, job_id: str, status: str) -> None:
        """Set the status text of a job (contract, section 6)."""
        self._authorised("PUT", f"/v4/{name}/jobs/{quote(job_id, safe=':')}/status", {"Status": status})

    def unclaim(self, name: str, job_id: str) -> None:
        """Take the job from its worker; its status text stays (contract, section 6)."""
        self._authorised("DELETE", f"/v4/{name}/jobs/{quote(job_id, safe=':')}/claim")

    def _add(self, name: str, body: Job | Sequence[Job]) -> Answer:
        response = self._with_token("POST", f"/v4/{name}/jobs", body)
        return Answer(response.status_code, response.text, _retry_after(response))

    def _get(self, path: str, has: Sequence[str] = (), **params: object) -> dict[str, Any]:
        response = self._request("GET", path, params=params)
        if response.status_code != 200:
            raise self._error("GET", path, response)
        return self._object(path, response, has)

    def _authorised(self, method: str, path: str, body: object = None) -> None:
        response = self._with_token(method, path, body)
        if not response.ok or response.is_redirect:
            raise self._error(method, path, response)

    def _with_token(self, method: str, path: str, body: object = None) -> requests.Response:
        token = self._token or self._fetch_token(None)
        response = self._request(method, path, body, auth=(token, ""))
        if response.status_code == 401:
            response = self._request(method, path, body, auth=(self._fetch_token(token), ""))
            if response.status_code == 401:
                raise self._error(method, path, response)
        return response

    def _fetch_token(self, refused: str | None) -> str:
        """A token that is not the refused one; of many threads that were refused, one fetches it."""
        with self._token_lock:
            if self._token is None or self._token == refused:
                if self._login is None:
                    raise JobApiError(f"{self._shown('/token')}: user name and password of the job service are needed")
                response = self._request("GET", "/token", auth=self._login)
                if response.status_code != 200:
                    raise self._error("GET", "/token", response)
                self._token = str(self._object("/token", response, has=("token",))["token"])
            return self._token

    def _request(
        self,
        method: str,
        path: str,
        body: object = None,
        params: Mapping[str, Any] | None = None,
        auth: tuple[str, str] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        try:
            return self._session.request(
                method,
                self.root + path,
                json=body,
                params=params,
                auth=auth,
                timeout=self._timeout,
                allow_redirects=False,
                stream=stream,
            )
        except requests.RequestException as error:
            raise JobApiError(
                f"{method} {self._shown(path)}: no answer ({_cause(error)});"
                " check JOB_API_ROOT and that the service runs"
            ) from None

    def _object(self, path: str, response: requests.Response, has: Sequence[str] = ()) -> dict[str, Any]:
        """The object that was answered to a GET; JobApiError if it is none or lacks what it has to have."""
        try:
            found = response.json()
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            seen = f', but no JSON object: "{first_line(response.text)}"'
        elif lacking := [name for name in has if name not in found]:
            seen = f" without {', '.join(lacking)}"
        else:
            return cast(dict[str, Any], found)
        raise JobApiError(
            f"GET {self._shown(path)}: {response.status_code}{seen}; check JOB_API_ROOT", response.status_code
        )

    def _error(self, method: str, path: str, response: requests.Response) -> JobApiError:
        status = response.status_code
        seen = Answer(status, response.text).reason
        if response.is_redirect:
            seen = f"redirected to {_public(response.headers['Location'])}"
        advice = {401: "check JOB_API_USERNAME and JOB_API_PASSWORD", 429: "wait and try again"}.get(
            status, "try again, or see the service's log" if status >= 500 else "check JOB_API_ROOT and the names in it"
        )
        return JobApiError(
            f"{method} {self._shown(path)}: {status} {first_line(seen)}; {advice}", status, _retry_after(response)
        )

    def _shown(self, path: str) -> str:
        return _public(self.root + path)


def first_line(text: str, longest: int = 160) -> str:
    """The first line that says something, cut to a length that fits into a message."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line if len(line) <= longest else line[: longest - 3] + "..."


def _public(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _cause(error: Exception) -> str:
    """What happened, without the object addresses and nested names that requests puts around it."""
    if isinstance(error, requests.ConnectTimeout):
        return "connecting took too long"
    if isinstance(error, requests.Timeout):
        return "it took too long"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate does not verify: name the file of its CA in REQUESTS_CA_BUNDLE"
    text = str(error)
    for known in ("Connection refused", "Name or service not known", "No route to host", "Connection reset by peer"):
        if known in text:
            return known
    return first_line(text.rpartition(": ")[2].strip("()'\" "))


def _retry_after(response: requests.Response) -> float | None:
    """Seconds to wait as the Retry-After header says; its date form is rare and not heeded."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() else None


def _objects_of(response: requests.Response, key: str) -> Iterator[dict[str, Any]]:
    """The objects of the array under ``key`` of a JSON object, parsed while it arrives; ValueError if it breaks off."""
    parse = json.JSONDecoder().raw_decode
    chunks = response.iter_content(1 << 16)
    text, position, within = "", 0, False
    for part in codecs.iterdecode(chunks, "utf-8"):
        text, position = text[position:] + part, 0
        if not within:
            opening = re.search(rf'"{key}"\s*:\s*\[', text)
            if not opening:
                continue
            position, within = opening.end(), True
        while True:
            while text[position : position + 1] in (" ", ",", "\n", "\r", "\t"):
                position += 1
            if text.startswith("]", position):
                # The rest, so that a truncated answer is noticed and the connection can be used again.
                for _rest in chunks:
                    pass
                return
            try:
                found, position = parse(text, position)
            except ValueError:
                break
            if not isinstance(found, dict):
                raise ValueError(f'"{key}" has something else than objects')
            yield found
    raise ValueError(f'it ends within "{key}"' if within else f'it has no "{key}"')
