"""How fast jobs are added and added again: as the first script did it, as its successor did, and by us.

usage: jobs_bench.py [--large]

Two services: a double whose insert is the bottleneck, with the real service's cost, and the embedded one. The first
script is measured on its first 1,000 jobs where there are more. Prints a table and writes build/bench/jobs.json.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("plugins/module_utils", "tests")]

import requests  # noqa: E402
from figures import Figure, save, wide_console  # noqa: E402
from qsmr.addjobs import Adding  # noqa: E402
from qsmr.jobapi import JobApi  # noqa: E402
from qsmr.jobdoc import JobMaker  # noqa: E402
from qsmr.settings import Settings  # noqa: E402
from rich.table import Table  # noqa: E402

SIZES = [2_000, 20_000]
LARGE_SIZES = [200_000, 1_000_000]
# The former scripts were measured against the real service with two processes (contract of the former scripts, section
# 7): 43 to 71 single POSTs a second, 395 to 725 jobs a second by the thousand. That makes so many seconds for each POST
# and for each job.
COST_OF_REQUEST, COST_OF_JOB, PROCESSES = 0.013, 0.0018, 2
MOST_SINGLE = 1_000
BATCH = 1_000


class Service:
    """A service to measure against, and the login to it."""

    def __init__(self, name: str, root: str, username: str, password: str) -> None:
        self.name, self.root, self.username, self.password = name, root, username, password

    @functools.cached_property
    def make(self) -> JobMaker:
        """Makes the documents; each process has its own."""
        settings = Settings(
            "http://odin.example.com/rest_api", "adsfasreerfgtres", self.root, self.username, self.password
        )
        return JobMaker(settings, "bench")

    def token(self) -> str:
        return requests.get(f"{self.root}/token", auth=(self.username, self.password), timeout=60).json()["token"]


Flow = Callable[[Service, str, range, Path], int]


def first_script(service: Service, project: str, scans: range, state: Path) -> int:
    """One POST for each job, each on a connection of its own."""
    auth = (service.token(), "")
    for scan in scans[:MOST_SINGLE]:
        job = service.make(1, scan)
        requests.post(f"{service.root}/v4/{project}/jobs", json=job, auth=auth, timeout=600).raise_for_status()
    return len(scans[:MOST_SINGLE])


def successor(service: Service, project: str, scans: range, state: Path) -> int:
    """The whole list in memory, and a thousand jobs in each POST, one after the other."""
    auth = (service.token(), "")
    jobs = [service.make(1, scan) for scan in scans]
    for start in range(0, len(jobs), BATCH):
        batch = jobs[start : start + BATCH]
        requests.post(f"{service.root}/v4/{project}/jobs", json=batch, auth=auth, timeout=600).raise_for_status()
    return len(scans)


def ours(service: Service, project: str, scans: range, state: Path) -> int:
    """What jobs.yml does, without the start of Ansible."""
    with JobApi(service.root, service.username, service.password) as api:
        result = Adding(api, service.make, project, state).run((1, scan, line) for line, scan in enumerate(scans, 1))
    if result.failed:
        raise SystemExit(result.complaint())
    return len(scans)


@contextmanager
def slow_double() -> Iterator[Service]:
    from job_service_double import PASSWORD, USERNAME

    code = (
        f"import sys, threading; sys.path[:0] = {sys.path[:2]!r}\n"
        "from job_service_double import JobServiceDouble\n"
        f"double = JobServiceDouble(cost={COST_OF_JOB}, cost_of_request={COST_OF_REQUEST}, processes={PROCESSES})\n"
        "print(double.root, flush=True); threading.Event().wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield Service("double", process.stdout.readline().strip(), USERNAME, PASSWORD)
        finally:
            process.kill()


@contextmanager
def embedded() -> Iterator[Service]:
    from contract.job_service import JobService

    with tempfile.TemporaryDirectory() as directory:
        service = JobService(Path(directory))
        try:
            yield Service("embedded", service.root, service.username, service.password)
        finally:
            service.stop()


def measure(service: Service, sizes: list[int]) -> Iterator[dict]:
    """Each flow on a project of its own, and in a process of its own, whose memory is measured."""
    flows: list[Flow] = [first_script, successor, ours]
    for size, flow in itertools.product(sizes, flows):
        if flow is first_script and size > max(SIZES):
            continue
        with multiprocessing.get_context("fork").Pool(1) as process:
            yield from process.apply(measure_flow, (service, flow, size))


def measure_flow(service: Service, flow: Flow, size: int) -> list[dict]:
    """With new jobs, and again with the same: ours with its ledger, as later on."""
    scans = range(7_000_000_000, 7_000_000_000 + size)
    rows = []
    with tempfile.TemporaryDirectory() as state:
        for what in ("new", "again"):
            began = time.perf_counter()
            jobs = flow(service, f"{flow.__name__.replace('_', '')}{size}", scans, Path(state))
            seconds = time.perf_counter() - began
            rows.append(
                {
                    "service": service.name,
                    "flow": flow.__name__,
                    "jobs": size,
                    "measured_on": jobs,
                    "what": what,
                    "seconds": round(seconds, 2),
                    "jobs_per_second": round(jobs / seconds, 1),
                    "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                }
            )
    return rows


def table_of(rows: list[dict]) -> Table:
    table = Table("service", "jobs", "", "first/s", "successor/s", "ours/s", "ours: s", "MB", "times successor")
    for (name, size, what), group in itertools.groupby(
        sorted(rows, key=lambda row: (row["service"], row["jobs"], row["what"] == "again")),
        key=lambda row: (row["service"], row["jobs"], row["what"]),
    ):
        found = {row["flow"]: row for row in group}
        speeds = {flow: row["jobs_per_second"] for flow, row in found.items()}
        shown = [f"{speeds[flow]:,.0f}" if flow in speeds else "" for flow in ("first_script", "successor", "ours")]
        mine, ratio = found["ours"], speeds["ours"] / speeds["successor"]
        table.add_row(name, f"{size:,}", what, *shown, f"{mine['seconds']:.1f}", f"{mine['memory_mb']}", f"{ratio:.1f}")
    return table


def figures(rows: list[dict]) -> Iterator[Figure]:
    found = {(row["service"], row["jobs"], row["flow"], row["what"]): row for row in rows}
    for size in SIZES:
        first, successor, ours = (
            found["double", size, flow, "new"]["jobs_per_second"] for flow in ("first_script", "successor", "ours")
        )
        yield Figure(f"{size:,} jobs, slow service: times the first script", ours / first, least=15)
        yield Figure(f"{size:,} jobs, slow service: times its successor", ours / successor, least=1.5)
    if again := found.get(("embedded", 1_000_000, "ours", "again")):
        yield Figure("1,000,000 jobs that are there: seconds", again["seconds"], most=10)


def main() -> None:
    sizes = SIZES + (LARGE_SIZES if "--large" in sys.argv[1:] else [])
    console = wide_console()
    rows: list[dict] = []
    for opened, most in ((slow_double, max(SIZES)), (embedded, max(sizes))):
        with opened() as service:
            for row in measure(service, [size for size in sizes if size <= most]):
                rows.append(row)
                console.print(" ".join(f"{key}={value}" for key, value in row.items()), style="dim", highlight=False)
    console.print(table_of(rows))
    save("jobs", list(figures(rows)), rows=rows)


if __name__ == "__main__":
    main()
