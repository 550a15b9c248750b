"""What the job service bears: hundreds of workers at once, on PostgreSQL and on SQLite.

usage: load_bench.py [--workers 500] [--jobs 20000] [--seconds 30] [--job-seconds 10] [--processes 4]

The workers are simulated, all in this process; each says what a true one says, over a connection that it keeps. On
each database they log in at once (start), look into an empty queue (idle), work on jobs that take a while (steady) and
on jobs that take no time (rush). After each, answers and database must agree: no job claimed twice, none lost. Prints
tables and writes build/bench/load.json.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("tests", "images/worker")]

from contract.job_service import JobService, PostgreSql  # noqa: E402
from figures import Figure, save, wide_console  # noqa: E402
from rich.table import Table  # noqa: E402
from sqlalchemy import create_engine, text  # noqa: E402
from uworker.client import RENEW_AT, TIMEOUT  # noqa: E402
from uworker.loop import FIRST_UPLOAD, IDLE_WAIT, UPLOAD_INTERVAL  # noqa: E402

KINDS = ("login", "fetch", "claim", "update")
OUTPUT = "A line of a job's output, as long as such lines are\n" * 20
TOKEN_SECONDS = 600
# Of a CPU's time, so that requests don't have to queue for long.
MOST_BUSY = 0.6
SIZES = (500, 1_000, 10_000)
# Seconds that a job takes; none: the workers are idle.
DURATIONS = (None, 10, 60, 600)


class Sample(NamedTuple):
    """A request: what it was, its HTTP status, and the seconds until the answer was there."""

    kind: str
    status: int
    seconds: float


class Connection:
    """HTTP/1.1 with one server, by hand: a library would take more of the CPU than the service does."""

    def __init__(self, port: int, samples: list[Sample]) -> None:
        self.port, self.samples = port, samples
        self.writer: asyncio.StreamWriter | None = None

    async def call(self, kind: str, method: str, path: str, login: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of the answer; 0 without an answer in the time that a worker waits for it."""
        data = b"" if body is None else json.dumps(body).encode()
        account = base64.b64encode(login.encode()).decode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Basic {account}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        began = time.perf_counter()
        try:
            async with asyncio.timeout(TIMEOUT[1]):
                status, answer = await self._exchange(head.encode() + data)
        except (OSError, EOFError, TimeoutError):
            self.close()
            status, answer = 0, b"null"
        self.samples.append(Sample(kind, status, time.perf_counter() - began))
        return status, json.loads(answer)

    async def _exchange(self, question: bytes) -> tuple[int, bytes]:
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(question)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("ascii").lower()
        answer = await self.reader.readexactly(int(head.partition("content-length: ")[2].partition("\r")[0]))
        if "connection: close" in head:
            self.close()
        return int(head.split(None, 2)[1]), answer

    def close(self) -> None:
        if self.writer:
            self.writer.close()
        self.writer = None


class Worker:
    """Says what images/worker says; its jobs are waits."""

    def __init__(self, name: str, service: JobService, samples: list[Sample], claims: dict[str, list[str]]) -> None:
        self.name, self.service, self.claims = name, service, claims
        self.connection = Connection(service.port, samples)
        self.token = ""

    async def log_in(self) -> None:
        account = f"{self.service.username}:{self.service.password}"
        answer: Any = None
        while not answer:
            _, answer = await self.connection.call("login", "GET", "/rest_api/token", account)
        self.token = f"{answer['token']}:"

    async def ask(self, kind: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and answer; what fails in passing is tried again."""
        for pause in itertools.count(1):
            status, answer = await self.connection.call(kind, method, path, self.token, body)
            if 0 < status < 500:
                return status, answer
            await asyncio.sleep(random.uniform(0, min(pause, 10)))
        raise AssertionError

    async def work(self, project: str, job_seconds: float | None, stop: asyncio.Event) -> None:
        """Until it has to stop; with jobs that take no time, or once the queue is empty."""
        await wait(stop, random.uniform(0, job_seconds if job_seconds is not None else IDLE_WAIT[1]))
        lost = 0
        while not stop.is_set():
            status, answer = await self.ask("fetch", "GET", f"/rest_api/v4/{project}/jobs/fetch")
            if status == 404 and job_seconds == 0:
                return
            if status == 404:
                await wait(stop, random.uniform(*IDLE_WAIT))
                continue
            job, urls = answer["Job"]["JobID"], answer["Job"]["URLS"]
            claim, status_of, output = (
                "/rest_api/" + urls[f"URL-{name}"].partition("/rest_api/")[2] for name in ("claim", "status", "output")
            )
            status, answer = await self.ask("claim", "PUT", claim, {"Worker": self.name})
            if status == 409 and (await self.ask("holder", "GET", claim))[1]["ClaimedByWorker"] != self.name:
                lost += 1
                await wait(stop, random.uniform(0, min(2.0, 0.05 * 2**lost)))
                continue
            lost = 0
            self.claims[job].append(self.name)
            await self.ask("update", "PUT", status_of, {"Status": "STARTED", "ProcessingTime": None})
            seconds = random.uniform(0.5, 1.5) * (job_seconds or 0)
            if seconds > FIRST_UPLOAD:
                await wait(stop, FIRST_UPLOAD)
                await self.ask("update", "PUT", output, {"Output": OUTPUT})
            await wait(stop, seconds - FIRST_UPLOAD if seconds > FIRST_UPLOAD else seconds)
            await self.ask("update", "PUT", output, {"Output": OUTPUT + self.name})
            await self.ask("update", "PUT", status_of, {"Status": "FINISHED", "ProcessingTime": seconds})


async def wait(stop: asyncio.Event, seconds: float) -> None:
    if seconds > 0:
        try:
            async with asyncio.timeout(seconds):
                await stop.wait()
        except TimeoutError:
            pass


class Load:
    """A service, its database, and workers that are logged in."""

    def __init__(self, service: JobService, name: str, server: PostgreSql | None) -> None:
        self.service, self.name = service, name
        self.processes = {"service": service.process.pid, "database": server.process.pid if server else 0}
        self.samples: list[Sample] = []
        self.claims: dict[str, list[str]] = collections.defaultdict(list)

    async def measure(self, given: argparse.Namespace) -> list[dict[str, Any]]:
        names = [f"UWorker_load_{number}" for number in range(given.workers)]
        workers = [Worker(name, self.service, self.samples, self.claims) for name in names]
        rows = [await self._timed("start", 600, asyncio.Event(), *(worker.log_in() for worker in workers))]
        for phase, job_seconds in {"idle": None, "steady": given.job_seconds, "rush": 0.0}.items():
            jobs = given.jobs if job_seconds is not None else 0
            self._add(phase, jobs)
            self.claims.clear()
            stop = asyncio.Event()
            everybody = (worker.work(phase, job_seconds, stop) for worker in workers)
            rows.append(await self._timed(phase, given.seconds, stop, *everybody))
            self._check(phase, jobs)
        for worker in workers:
            worker.connection.close()
        return rows

    def _add(self, project: str, number: int) -> None:
        jobs = [{"id": str(job), "source_url": f"http://source.example.com/{job}"} for job in range(number)]
        answer = self.service.login().post(f"/v4/{project}/jobs", json=jobs)
        answer.raise_for_status()

    async def _timed(self, phase: str, seconds: float, stop: asyncio.Event, *workers: Any) -> dict[str, Any]:
        """What is seen until the time is over or all workers have ended."""
        self.samples.clear()
        began, cpu = time.perf_counter(), self._cpu()
        tasks = [asyncio.ensure_future(worker) for worker in workers]
        await asyncio.wait(tasks, timeout=seconds)
        took, samples = time.perf_counter() - began, list(self.samples)
        used = {name: seconds - cpu[name] for name, seconds in self._cpu().items()}
        stop.set()
        await asyncio.gather(*tasks)
        claims = [sample for sample in samples if sample.kind == "claim"]
        return {
            "database": self.name,
            "phase": phase,
            "workers": len(tasks),
            "seconds": round(took, 1),
            "requests_per_second": round(len(samples) / took, 1),
            "claims_per_second": round(sum(sample.status == 200 for sample in claims) / took, 1),
            "lost_races": sum(sample.status == 409 for sample in claims),
            "failed": sum(not 0 < sample.status < 500 for sample in samples),
            "latency_ms": {kind: percentiles(samples, kind) for kind in KINDS if percentiles(samples, kind)},
            "cpu_ms_per_request": {name: round(1000 * cpu / len(samples), 2) for name, cpu in used.items()},
            "cpus": round(sum(used.values()) / took, 2),
        }

    def _cpu(self) -> dict[str, float]:
        return {name: cpu_seconds(pid) if pid else 0.0 for name, pid in self.processes.items()}

    def _check(self, project: str, number: int) -> None:
        """What the workers were told must be what is stored; ends the bench if it is not."""
        faults = [f"job {job} was given to {names}" for job, names in self.claims.items() if len(names) > 1]
        engine = create_engine(self.service.database_url.replace("postgresql://", "postgresql+psycopg://"))
        of_project = {"project": project}
        with engine.connect() as connection:
            select = "SELECT jobs.* FROM jobs JOIN projects ON projects.id = project_id WHERE project = :project"
            stored = {row.id: row for row in connection.execute(text(select), of_project)}
            counted = connection.execute(
                text(
                    "SELECT nr_added, nr_claimed, nr_finished, nr_failed, (SELECT coalesce(sum(nr_claims), 0) "
                    "FROM workers WHERE project_id = projects.id) FROM projects WHERE project = :project"
                ),
                of_project,
            ).all()
        engine.dispose()
        done = len(self.claims)
        if number and tuple(counted[0]) != (number, done, done, 0, done):
            faults.append(f"the counters say {tuple(counted[0])} of {number} jobs, {done} of them done")
        if stored.keys() != set(map(str, range(number))):
            faults.append(f"{len(stored)} jobs of {number} are stored")
        for job, row in stored.items():
            worker = next(iter(self.claims.get(job, [])), None)
            right = ("FINISHED", True, worker, OUTPUT + worker) if worker else ("AVAILABLE", False, None, None)
            if (row.status, bool(row.claimed), row.worker, row.output) != right:
                faults.append(f"job {job} is {row.status} by {row.worker}, and was given to {worker}")
        if faults:
            raise SystemExit(f"{self.name}, {project}: {len(faults)} faults:\n" + "\n".join(faults[:20]))


def percentiles(samples: list[Sample], kind: str) -> dict[str, float]:
    """Milliseconds; empty if there was no such request."""
    times = sorted(sample.seconds for sample in samples if sample.kind == kind)
    return {f"p{part}": round(1000 * times[len(times) * part // 100], 1) for part in (50, 95, 99) if times}


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children, also of those that have ended."""
    times = map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15])
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(times) / os.sysconf("SC_CLK_TCK") + sum(cpu_seconds(int(child)) for child in children)


@contextmanager
def database(name: str) -> Iterator[tuple[PostgreSql | None, str | None]]:
    """PostgreSQL writes to the disk as it does in earnest."""
    if name == "sqlite":
        yield None, None
        return
    server = PostgreSql(durable=True)
    try:
        yield server, server.new_database_url()
    finally:
        server.stop()


def requests_of_worker(job_seconds: float | None) -> float:
    """Requests a second of one worker, but for its logins."""
    if job_seconds is None:
        return 2 / sum(IDLE_WAIT)
    uploads = max(0, 1 + (job_seconds - FIRST_UPLOAD) // UPLOAD_INTERVAL)  # if it prints all the time
    return (5 + uploads) / job_seconds


def sizing(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """How many CPUs fleets need: what their requests take by measurement, none busier than MOST_BUSY."""
    cost = {(row["database"], row["phase"]): sum(row["cpu_ms_per_request"].values()) / 1000 for row in rows}
    for (name, workers), duration in itertools.product(
        itertools.product({row["database"]: None for row in rows}, SIZES), DURATIONS
    ):
        rate = requests_of_worker(duration)
        busy = rate * cost[name, "idle" if duration is None else "rush"]
        busy += cost[name, "start"] / (RENEW_AT * TOKEN_SECONDS)
        yield {
            "database": name,
            "workers": workers,
            "job_seconds": duration,
            "requests_per_second": round(workers * rate),
            "cpus": round(workers * busy / MOST_BUSY, 1),
        }


def table_of(rows: list[dict[str, Any]]) -> Table:
    table = Table("", "req/s", "claims/s", *(f"{kind} ms" for kind in KINDS), "CPU ms", "races", "failed")
    for row in rows:
        latencies = ["/".join(f"{ms:.0f}" for ms in row["latency_ms"].get(kind, {}).values()) for kind in KINDS]
        cpu = " + ".join(f"{ms:.1f}" for ms in row["cpu_ms_per_request"].values() if ms)
        table.add_row(
            f"{row['database']} {row['phase']}", f"{row['requests_per_second']:.0f}", f"{row['claims_per_second']:.1f}",
            *latencies, cpu, str(row["lost_races"]), str(row["failed"]),
        )  # fmt: skip
    return table


def table_of_sizes(sizes: list[dict[str, Any]]) -> Table:
    table = Table("", "workers", *("idle" if duration is None else f"jobs of {duration} s" for duration in DURATIONS))
    for (name, workers), group in itertools.groupby(sizes, key=lambda row: (row["database"], row["workers"])):
        cells = (f"{row['requests_per_second']:,}/s: {row['cpus']} CPUs" for row in group)
        table.add_row(name, f"{workers:,}", *cells)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=500, help="simulated workers")
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs added for each phase with jobs")
    parser.add_argument("--seconds", type=float, default=30, help="time of each phase, at most")
    parser.add_argument("--job-seconds", type=float, default=10, help="what a job of the steady phase takes")
    parser.add_argument("--processes", type=int, default=4, help="GUNICORN_WORKERS")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in ("sqlite", "postgresql"):
        with tempfile.TemporaryDirectory() as directory, database(name) as (server, url):
            service = JobService(Path(directory), url, GUNICORN_WORKERS=str(given.processes))
            try:
                rows += asyncio.run(Load(service, name, server).measure(given))
            finally:
                service.kill()
    sizes = list(sizing(rows))
    console = wide_console()
    console.print(table_of(rows))
    console.print(table_of_sizes(sizes))
    figures = [
        Figure(f"{row['database']}, {row['workers']} workers: claims a second", row["claims_per_second"])
        for row in rows
        if row["phase"] == "rush"
    ]
    figures += [
        Figure(f"{row['database']}: requests that failed", row["failed"], most=0) for row in rows if row["failed"]
    ]
    save("load", figures, asked=vars(given), rows=rows, sizes=sizes)


if __name__ == "__main__":
    main()
