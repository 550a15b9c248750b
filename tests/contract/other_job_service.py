"""A job service that is not ours: it answers GET as the REST contract v4 says, oddities included, and notes each one.
Of what changes it, it takes claims that are given back, and statuses.

Its counters drift, a client made up a status, a worker is unknown, a job was given back, and what is asked below a
project that does not exist makes a table (sections 1, 4, 6 and 7). ``order`` of lists without times is none.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

STATES = ("available", "claimed", "started", "finished", "failed")
TIMED = ("claimed", "finished", "failed")


def job(number: int, status: str | None, worker: str | None, **times: str) -> dict[str, Any]:
    """An entry of the job list; ``times`` by state."""
    return {
        "Id": f"1:{number}",
        "Type": "qsmr",
        "Status": status,
        "IsClaimed": worker is not None,
        "Worker": worker,
        "Added": "2026-11-24T08:00:00",
        **{state.title(): times.get(state) for state in TIMED},
        "ProcessingTime": 2.5 if status in ("FINISHED", "FAILED") else 0,
        "URLS": {"URL-Result": None},
    }


class OtherJobService:
    """A running one with project ``their``: ``failed`` jobs that failed in hour 9, and a few others."""

    def __init__(self, failed: int) -> None:
        at = {"claimed": "2026-11-24T09:00:00"}
        when = [f"2026-11-24T09:{n // 60:02}:{n % 60:02}" for n in range(failed)]
        self.jobs = [
            *(job(n, "FAILED", "old worker", **at, failed=time) for n, time in enumerate(when)),
            job(9001, "FINISHED", "old worker", **at, finished="2026-11-24T09:30:00"),
            job(9002, "Waiting for disk", "old worker", **at),
            job(9003, "FAILED", None, failed="2026-11-24T09:30:00"),  # given back
            job(9004, "AVAILABLE", None),
        ]  # fmt: skip
        self.asked: list[str] = []
        self.tables: set[str] = {"their"}
        self.refuses: set[str] = set()
        """Paths of changes that are answered with 500, as a job's whose table is damaged."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                service.asked.append(self.path)
                status, body = service.answer(
                    unquote(url.path).removeprefix("/rest_api"),
                    {name: values[0] for name, values in parse_qs(url.query).items()},
                )
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(body if status == 200 else {"error": body}).encode())

            def do_PUT(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._change(lambda job: job.update(Status=body["Status"]))

            def do_DELETE(self) -> None:
                self._change(lambda job: job.update(IsClaimed=False, Worker=None))

            def _change(self, change: Callable[[dict[str, Any]], None]) -> None:
                service.asked.append(f"{self.command} {self.path}")
                number = self.path.split("/")[5]
                if self.path in service.refuses:
                    self.send_error(500)
                    return
                change(next(job for job in service.jobs if job["Id"] == number))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.root = f"http://127.0.0.1:{self._server.server_port}/rest_api"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        if path == "/token":
            return 200, {"token": "t"}
        if path == "/v4/projects":
            drifted = {"NrJobsAdded": len(self.jobs), "NrJobsClaimed": 5, "NrJobsFinished": -1, "NrJobsFailed": 2}
            return 200, {"Version": "v4", "Projects": [{"Id": "their", "Name": "their", "Deadline": None, **drifted}]}
        _, version, name, *rest = path.split("/")
        jobs = self.jobs if name == "their" else []
        if not rest and any(job["Status"] is None for job in jobs):
            return 500, "Internal server error"
        if not rest:
            states = Counter(str(job["Status"]).title() for job in jobs)
            return (
                (200, {"Version": version, "Id": name, "JobStates": states, "Deadline": None}) if jobs else (404, "no")
            )
        self.tables.add(name)
        if rest == ["jobs"]:
            return self._list(jobs, query)
        if rest == ["jobs", "count"]:
            counted = Counter({"JobsClaimed": 0})
            for state in TIMED:
                counted[f"Jobs{state.title()}"] = sum(1 for job in jobs if job[state.title()])
            # Links to what was counted only, and workers that are counted by their jobs' states.
            count = {
                "Period": "2026-11-24 09:00",
                **counted,
                "ActiveWorkers": 4,
                "URLS": {"URL-JobsFailed": "http://x/"},
            }
            return 200, {"PeriodType": "Hourly", "Start": None, "End": None, "Counts": [count] if jobs else []}
        if rest == ["failures"]:
            return 200, self._failures([job for job in jobs if job["Status"] == "FAILED"][:1000])
        found = next((job for job in jobs if job["Id"] == rest[1]), None)
        if found is None:
            return 404, "Not found"
        claim = {"Claimed": found["IsClaimed"], "ClaimedByWorker": found["Worker"], "ClaimedAtTime": found["Claimed"]}
        output = f"09:00:00 - STDOUT: disk 7 is full, scan {found['Id']}"
        return 200, {"claim": claim, "status": {"Status": found["Status"]}, "output": {"Output": output}}[rest[2]]

    def _list(self, jobs: list[dict[str, Any]], query: dict[str, str]) -> tuple[int, Any]:
        state = query.get("status", "").lower()
        if state and state not in STATES:
            return 400, "bad status"
        found = jobs[::-1]
        if "start" in query:
            if state not in TIMED:
                return 400, "bad time"
            # By the time alone, whatever the present status.
            at = state.title()
            found = sorted((job for job in jobs if (job[at] or "") >= query["start"]), key=lambda job: job[at])
        elif state:
            found = [job for job in found if str(job["Status"]).lower() == state]
        found = [job for job in found if query.get("worker") in (None, job["Worker"])]
        echo = {"Status": query["status"].upper() if "status" in query else None, "Start": query.get("start")}
        return 200, {"Version": "v4", "Jobs": found[: int(query.get("limit", len(found)))], **echo}

    def _failures(self, failed: list[dict[str, Any]]) -> dict[str, Any]:
        ids = [job["Id"] for job in failed]
        full = "POST http://odin/v4/level2?d=SECRETTOKEN== failed: disk 7 is full"
        lines = [{"Line": "Starting execution", "Score": 2.5}, {"Line": full, "Score": 1.5}]
        group = {**lines[0], "CommonLines": lines, "Jobs": ids}
        return {"Start": None, "End": None, "Lines": [group], "Jobs": {one: {"Id": one} for one in ids}}
