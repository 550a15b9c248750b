"""Serve the embedded job service's page for any other job service of the contract: the files, and GETs passed on."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from .libraries import libraries

with libraries():
    import requests


from .websession import web_session

ADDRESS = "127.0.0.1"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
# As the embedded service has it.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
# By these names, with any port of a tunnel's, a browser finds this machine. Scripts of a site whose name was made to
# lead here (DNS rebinding) ask by that name.
_HERE = re.compile(r"(?:127\.0\.0\.1|localhost)(?::[0-9]{1,5})?", re.IGNORECASE)
# What the page asks for (job service REST contract v4, section 3): none of it needs a login.
_PASSED_ON = re.compile(
    r"/rest_api/v4/(?P<project>[^/.]+)(?P<below>/failures|/jobs|/jobs/count|/jobs/[^/]+/(?:claim|status|output))?",
    re.ASCII,
)
_LISTS = ("projects",)
_NO_PROJECTS = (*_LISTS, "auth")
# A project that was there so many seconds ago is not asked for before each question below it.
KNOWN_SECONDS = 10.0
_TIMEOUT = (10.0, 120.0)


class _Service:
    """The job service that is asked, and which projects it was heard to have."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._session = web_session(root)
        self._heard: dict[str, float] = {}

    def ask(self, path: str) -> requests.Response:
        """The beginning of the answer to a GET; close it. Raises RequestException if none comes."""
        return self._session.get(self._root + path, timeout=_TIMEOUT, allow_redirects=False, stream=True)

    def ask_for(self, project: str, query: str = "") -> requests.Response:
        """The same for a project itself."""
        answer = self.ask(f"/v4/{project}?{query}".rstrip("?"))
        # One job with a null status makes it a 500 (REST contract v4, section 4).
        is_there = answer.status_code in (200, 500)
        self._heard[project] = time.monotonic() if is_there else -math.inf
        return answer

    def has(self, project: str) -> bool:
        """Whether there was such a project a moment ago."""
        return time.monotonic() - self._heard.get(project, -math.inf) < KNOWN_SECONDS


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that goes away is nothing to speak of."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def make_server(root: str, files: Path, port: int) -> ThreadingHTTPServer:
    """A server on the loopback address; ``files`` is the page's folder, ``root`` the job service's, with its path."""
    service = _Service(root)

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "dashboard", ""
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            name = "index.html" if path == "/" else path.removeprefix("/dashboard/")
            hosts = self.headers.get_all("Host") or []
            if len(hosts) != 1 or not _HERE.fullmatch(hosts[0].strip()):
                here = f"http://{ADDRESS}:{self.connection.getsockname()[1]}/"
                self._refuse(HTTPStatus.FORBIDDEN, f"this page is at {here} only, by no other name")
            elif not self.path.startswith("/"):
                self._refuse(HTTPStatus.BAD_REQUEST, "the target is no path")
            elif asked := _PASSED_ON.fullmatch(path):
                self._pass_on(asked["project"], asked["below"])
            elif name in _names(files):
                body = (files / name).read_bytes()
                self._begin(HTTPStatus.OK, TYPES[Path(name).suffix], len(body), HEADERS)
                self.wfile.write(body)
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

        def _pass_on(self, project: str, below: str | None) -> None:
            """Pass the question on; one below a project only if that is there, or the service may make a table."""
            if not _can_be(unquote(project)) and (below or project not in _LISTS):
                self._refuse(HTTPStatus.NOT_FOUND, "there can be no such project")
                return
            url = urlsplit(self.path)
            try:
                if not below:
                    answer = service.ask_for(project, url.query)
                elif service.has(project):
                    answer = service.ask(self.path.removeprefix("/rest_api"))
                else:
                    answer = service.ask_for(project)
                    if service.has(project):
                        answer.close()
                        answer = service.ask(self.path.removeprefix("/rest_api"))
            except requests.RequestException as error:
                self._refuse(HTTPStatus.BAD_GATEWAY, f"the job service does not answer ({type(error).__name__})")
                return
            with answer:
                self._relay(answer)

        def _relay(self, answer: requests.Response) -> None:
            kind = answer.headers.get("Content-Type", "application/octet-stream")
            self._begin(answer.status_code, kind, None, {"X-Content-Type-Options": "nosniff"})
            try:
                for chunk in answer.iter_content(1 << 16):
                    self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            except requests.RequestException:
                # It has begun: all that can be said is that this is not its end.
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        def _begin(self, status: int, kind: str, length: int | None, more: dict[str, str]) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header(*(("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))))
            for name, value in more.items():
                self.send_header(name, value)
            self.end_headers()

        def _refuse(self, status: HTTPStatus, reason: str) -> None:
            body = json.dumps({"error": reason}).encode()
            self._begin(status, "application/json", len(body), {})
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a page that looks every few seconds would fill the screen."""

    return _Server((ADDRESS, port), Handler)


def _can_be(project: str) -> bool:
    """Whether a project can have that name (REST contract v4, section 1)."""
    return project[:1].isalpha() and project.isalnum() and project not in _NO_PROJECTS


def _names(files: Path) -> Iterator[str]:
    return (path.name for path in files.iterdir())
