"""A stand-in for the job service, for faults that the real one doesn't give on demand.

It knows the calls of one worker for the jobs it is given, and keeps no rules of its own: lost answers, resets, stalls,
error statuses, answers of older eras and refused characters come as the test orders them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Double:
    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        # (method, end of the path, what happens): an HTTP status, "reset", "lost" (done, but no answer), a number of
        # seconds to stall as float, or a function of the body that gives a status or None; each serves one call,
        # a function every call.
        self.faults: list[tuple[str, str, Any]] = []
        self.token = "token-1"
        self.job_extras: dict[str, Any] = {}
        self.url_root = ""  # the service's view of its own root
        self.retry_after = ""
        double = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_any(self) -> None:
                double.serve(self)

            do_GET = do_PUT = do_DELETE = do_any

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.root = f"{self.url}/rest_api"

    def add(self, job: str, source: str | None = "http://source/x", target: str | None = None) -> dict[str, Any]:
        self.jobs[job] = {"source": source, "target": target, "worker": None, "status": ["AVAILABLE"], "output": []}
        return self.jobs[job]

    def called(self, method: str, end: str) -> int:
        return sum(1 for call in self.calls if call[0] == method and call[1].endswith(end))

    def serve(self, request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers.get("Content-Length", 0))) or "{}")
        path = request.path.partition("?")[0]
        self.calls.append((request.command, request.path))
        self.headers.append(dict(request.headers))
        fault = self._fault(request.command, path, body)
        if isinstance(fault, float):
            time.sleep(fault)
        if fault == "reset":
            request.close_connection = True
            return
        status, answer = (fault, {"error": "ordered"}) if isinstance(fault, int) else self._answer(request, path, body)
        if fault == "lost":
            request.close_connection = True
            return
        data = json.dumps(answer).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        if status in (301, 302, 307):
            request.send_header("Location", "http://127.0.0.1:9/elsewhere")
        if status in (429, 503) and self.retry_after:
            request.send_header("Retry-After", self.retry_after)
        request.end_headers()
        request.wfile.write(data)

    def _fault(self, method: str, path: str, body: dict[str, Any]) -> Any:
        for fault in self.faults:
            if fault[0] == method and path.endswith(fault[1]):
                if callable(fault[2]):
                    return fault[2](body)
                self.faults.remove(fault)
                return fault[2]
        return None

    def _answer(self, request: BaseHTTPRequestHandler, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if path == "/rest_api/token":
            return 200, {"token": self.token, "duration": 600}
        if path.endswith("/jobs/fetch"):
            for name, job in self.jobs.items():
                if job["worker"] is None:
                    base = f"{self.url_root or self.root}/v4/p/jobs/{name}"
                    urls = {"URL-source": job["source"], "URL-target": job["target"]}
                    urls |= {f"URL-{call}": f"{base}/{call}" for call in ("claim", "status", "output")}
                    return 200, {"Version": "v4", "Job": {"JobID": name, "URLS": urls | self.job_extras}}
            return 404, {"error": "No unclaimed jobs available"}
        name, call = path.split("/")[-2:]
        job = self.jobs[name]
        if call == "claim" and request.command == "PUT":
            if job["worker"]:
                return 409, {"error": "The job is already claimed"}
            job["worker"] = body["Worker"]
            job["status"].append("CLAIMED")
        elif call == "claim" and request.command == "DELETE":
            job["worker"] = None
        elif request.command == "PUT":
            job[call].append(body[call.capitalize()])
            job["seconds"] = body.get("ProcessingTime")
        last = {"Status": job["status"][-1], "Output": (job["output"] or [None])[-1]}
        return 200, {"ID": name, "ClaimedByWorker": job["worker"], **last}


@contextmanager
def running_double() -> Iterator[Double]:
    double = Double()
    threading.Thread(target=double.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield double
    finally:
        double.server.shutdown()
        double.server.server_close()


def wait_until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.05)
