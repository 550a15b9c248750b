"""A stand-in for job services of other ages and in trouble, for what the real one will not do on demand.

It is built from the job service REST contract v4 (sections 2, 4, 5 and 7), and knows only what adding jobs needs.
Faults stand for the network, a proxy or a dying service.
"""

from __future__ import annotations

import base64
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USERNAME, PASSWORD = "ana", "p w"
FIELDS = {"id", "type", "source_url", "target_url", "view_result_url"}


@dataclass
class Fault:
    """What happens to a request instead of, or after, what was asked for."""

    kind: str
    """drop (nothing done, connection reset), lose (done, no answer), cut (done, half an answer), say (not done,
    ``status``), expire (all tokens so far are refused), wait (done, ``seconds`` late)."""
    status: int = 503
    body: str = "<html><title>Bad gateway</title></html>"
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


class QuietServer(ThreadingHTTPServer):
    """A server whose clients may be killed or lose patience without a word on the screen."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class JobServiceDouble:
    """A running double. ``era`` is 2016-09 (one by one, 409 for any id that exists) or 2022 (lists)."""

    def __init__(
        self,
        era: str = "2022",
        largest_list: int = 10**9,
        cost: float = 0.0,
        cost_of_request: float = 0.0,
        processes: int = 100,
    ) -> None:
        """Costs: seconds that the service is busy with each job and each POST; ``processes``: how many at once."""
        self.era = era
        self.largest_list = largest_list
        self.cost, self.cost_of_request = cost, cost_of_request
        self.jobs: dict[str, dict[str, Any]] = {}
        self.project: dict[str, Any] | None = None
        self.posts: list[list[str]] = []
        """The job ids of each POST of jobs that was handled."""
        self.requests: list[str] = []
        self.refused: dict[str, str] = {}
        """Reasons for 400, by job id."""
        self.broken: set[str] = set()
        """Job ids that give a 500, as an over-long field does."""
        self.fault: Callable[[str, str], Fault | None] = lambda method, path: None
        """Asked for each request, before it is handled."""
        self.tokens: set[str] = set()
        self.tokens_given = 0
        self.lock = threading.Lock()
        self.busy = threading.Semaphore(processes)
        double = self

        class Handler(_Handler):
            service = double

        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self.server.server_address[1]}/rest_api"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def __enter__(self) -> JobServiceDouble:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def takes_lists(self) -> bool:
        return self.era != "2016-09"

    def wipe(self) -> None:
        """The project is deleted."""
        self.project, self.jobs = None, {}

    def record(self) -> dict[str, Any]:
        assert self.project
        return {**self.project, "JobStates": {"Available": len(self.jobs)} if self.jobs else {}}

    def listing(self) -> dict[str, Any]:
        jobs = [
            {"Id": job["id"], "URLS": {"URL-Input": job["source_url"], "URL-Result": job.get("view_result_url")}}
            for job in self.jobs.values()
        ]
        return {"End": None, "Jobs": jobs, "Project": "p", "Version": "v4"}

    def create(self, name: str) -> None:
        self.project = {"Id": name, "CreatedAt": str(time.time()), "NrJobsAdded": 0, "LastJobAddedAt": None}

    def add(self, name: str, body: Any) -> tuple[int, str]:
        """Answer of a POST of jobs (contract, section 5)."""
        listed = isinstance(body, list)
        jobs = body if listed else [body]
        with self.busy:
            time.sleep(self.cost_of_request + self.cost * len(jobs))
        with self.lock:
            self.posts.append([job["id"] for job in jobs])
            if listed and not self.takes_lists:
                return 500, _error("The server encountered an internal error")
            if len(jobs) > self.largest_list:
                return 413, "<html>Request Entity Too Large</html>"
            bad = [f"Job#{i}: {self.refused[job['id']]}" for i, job in enumerate(jobs) if job["id"] in self.refused]
            bad += [f"Job#{i}: Missing fields" for i, job in enumerate(jobs) if not set(job) <= FIELDS]
            if bad:
                return 400, _error("\n".join(bad) if listed else bad[0].partition(": ")[2])
            if any(job["id"] in self.broken for job in jobs):
                return 500, _error("The server encountered an internal error")
            clashing = [i for i, job in enumerate(jobs) if self.clashes(job)]
            if clashing and not self.takes_lists:
                return 409, _error("Job already exists")
            if clashing and not listed:
                return 500, _error("The server encountered an internal error")
            if clashing:
                lines = [f"Job#{i}: A job with id {jobs[i]['id']} already exists." for i in clashing]
                return 409, _error("\n".join(lines))
            new = [job for job in jobs if job["id"] not in self.jobs]
            for job in new:
                self.jobs[job["id"]] = job
            if new:
                if self.project is None:
                    self.create(name)
                assert self.project
                self.project["NrJobsAdded"] += len(new)
                self.project["LastJobAddedAt"] = str(time.time())
            return 201, "" if self.takes_lists else json.dumps({"Version": "v4", "ID": jobs[0]["id"]})

    def clashes(self, job: dict[str, Any]) -> bool:
        stored = self.jobs.get(job["id"])
        if stored is None:
            return False
        return not self.takes_lists or any(stored.get(key) != value for key, value in job.items())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    service: JobServiceDouble

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.handle_with_faults()

    do_PUT = do_POST = do_GET

    def handle_with_faults(self) -> None:
        service = self.service
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if len(body) < length:  # the client was killed while it wrote
            return self.reset()
        path = self.path.removeprefix("/rest_api").partition("?")[0]
        service.requests.append(f"{self.command} {path}")
        fault = service.fault(self.command, path)
        if fault and fault.kind == "drop":
            return self.reset()
        if fault and fault.kind == "say":
            return self.answer(fault.status, fault.body, fault.headers)
        if fault and fault.kind == "expire":
            service.tokens.clear()
        status, text = self.handle_request(path, body)
        if fault and fault.kind == "lose":
            return self.reset()
        if fault and fault.kind == "wait":
            time.sleep(fault.seconds)
        self.answer(status, text, {}, cut=bool(fault and fault.kind == "cut"))
        return None

    def handle_request(self, path: str, body: bytes) -> tuple[int, str]:
        service = self.service
        user = self.user()
        if path == "/token":
            if user != f"{USERNAME}:{PASSWORD}":
                return 401, _error("Unauthorized access")
            service.tokens_given += 1
            service.tokens.add(token := f"token{service.tokens_given}")
            return 200, json.dumps({"token": token, "duration": 600})
        _, _, name, *rest = path.split("/")
        if self.command != "GET" and user.partition(":")[0] not in service.tokens:
            return 401, _error("Unauthorized access")
        if self.command == "GET":
            if rest == ["jobs"]:
                return 200, json.dumps(service.listing())
            return (200, json.dumps(service.record())) if service.project else (404, _error("no such project"))
        if self.command == "PUT":
            service.create(name)
            return 201, json.dumps({"Version": "v4", "ID": name})
        return service.add(name, json.loads(body))

    def user(self) -> str:
        return base64.b64decode(self.headers.get("Authorization", "Basic ").removeprefix("Basic ")).decode()

    def answer(self, status: int, text: str, headers: dict[str, str], cut: bool = False) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        if cut:
            # Also an answer without a body is cut: in its headers.
            if not data:
                self._headers_buffer = self._headers_buffer[:1]
                self.flush_headers()
            else:
                self.end_headers()
                self.wfile.write(data[: len(data) // 2])
            return self.reset()
        self.end_headers()
        self.wfile.write(data)
        return None

    def reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


def _error(text: str) -> str:
    return json.dumps({"error": text})
