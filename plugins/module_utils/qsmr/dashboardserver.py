"""Serve the embedded job service's page for any other job service of the contract: the files, and GETs passed on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

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
# What the page asks for (job service REST contract v4, section 3): none of it needs a login.
_PASSED_ON = re.compile(
    r"/rest_api/v4/(?:projects|[^/.]+(?:/failures|/jobs|/jobs/count|/jobs/[^/]+/(?:claim|status|output))?)", re.ASCII
)
_TIMEOUT = (10.0, 120.0)


def make_server(root: str, files: Path, port: int) -> ThreadingHTTPServer:
    """A server on the loopback address; ``files`` is the page's folder, ``root`` the job service's, with its path."""
    session = web_session(root)

    class Handler(BaseHTTPRequestHandler):
        server_version, sys_version = "dashboard", ""
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            name = "index.html" if path == "/" else path.removeprefix("/dashboard/")
            if _PASSED_ON.fullmatch(path):
                self._pass_on()
            elif name in _names(files):
                body = (files / name).read_bytes()
                self._begin(HTTPStatus.OK, TYPES[Path(name).suffix], len(body), HEADERS)
                self.wfile.write(body)
            else:
                self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

        def _pass_on(self) -> None:
            url = root + self.path.removeprefix("/rest_api")
            try:
                with session.get(url, timeout=_TIMEOUT, allow_redirects=False, stream=True) as answer:
                    kind = answer.headers.get("Content-Type", "application/octet-stream")
                    self._begin(answer.status_code, kind, None, {"X-Content-Type-Options": "nosniff"})
                    for chunk in answer.iter_content(1 << 16):
                        self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
                    self.wfile.write(b"0\r\n\r\n")
            except requests.RequestException as error:
                self._refuse(HTTPStatus.BAD_GATEWAY, f"the job service does not answer ({type(error).__name__})")

        def _begin(self, status: int, kind: str, length: int | None, more: dict[str, str]) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header(*(("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))))
            for name, value in more.items():
                self.send_header(name, value)
            self.end_headers()

        def _refuse(self, status: HTTPStatus, reason: str) -> None:
            body = f'{{"error": "{reason}"}}'.encode()
            self._begin(status, "application/json", len(body), {})
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing: a page that looks every few seconds would fill the screen."""

    return ThreadingHTTPServer((ADDRESS, port), Handler)


def _names(files: Path) -> Iterator[str]:
    return (path.name for path in files.iterdir())
