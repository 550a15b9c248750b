"""How fast a fleet is rolled out to, and how fast its workers work.

usage: rollout_bench.py [--hosts 2,8,24] [--runs 5] [--part worker|fleet]

Three things, each on this machine: one worker with a trivial job against the embedded job service; workers.yml where
there is nothing to do against Ansible's ping of the same hosts in the same run; and the time from workers.yml's start
to the first claimed job. The hosts are containers. Prints tables and writes build/bench/rollout.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("plugins/module_utils", "tests")]

import requests  # noqa: E402
from bench_fleet import BENCH, HEALTH_INTERVAL, Bench, fleet  # noqa: E402
from contract.job_service import JobService  # noqa: E402
from figures import Figure, save  # noqa: E402
from qsmr.settings import load_settings  # noqa: E402

FORMER_JOBS = 147
JOBS, ROUNDS = 600, 3
LOOKS = 5


class Project:
    """A project of a job service, seen as a user."""

    def __init__(self, root: str, username: str, password: str, name: str) -> None:
        self.root, self.name = root, name
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.auth = (self._call("GET", "/token", auth=(username, password))["token"], "")

    def _call(self, method: str, path: str, **arguments: Any) -> Any:
        answer = self.session.request(method, self.root + path, timeout=60, **arguments)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def add(self, first: int, number: int) -> None:
        jobs = [{"id": str(job), "source_url": f"http://source/{job}"} for job in range(first, first + number)]
        self._call("POST", f"/v4/{self.name}/jobs", json=jobs)

    def states(self) -> dict[str, int]:
        return self._call("GET", f"/v4/{self.name}")["JobStates"]

    def wait(self, state: str, number: int, seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while self.states().get(state, 0) < number:
            if time.monotonic() > end:
                raise SystemExit(f"not {number} jobs {state} within {seconds:.0f} s: {self.states()}")
            time.sleep(0.02)


@contextmanager
def worker(service: JobService, project: str, directory: Path) -> Iterator[None]:
    environment = {
        "UWORKER_JOB_API_ROOT": service.root,
        "UWORKER_JOB_API_USERNAME": service.username,
        "UWORKER_JOB_API_PASSWORD": service.password,
        "UWORKER_JOB_API_PROJECT": project,
        "UWORKER_JOB_CMD": "/bin/true",
        "UWORKER_STATE_DIR": str(directory / "state"),
    }
    with (directory / "worker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-IB", REPOSITORY / "images/worker/bin/uworker"],
            env={**os.environ, **environment},
            stderr=log,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def measure_worker() -> dict[str, Any]:
    """Jobs a minute without the worker's start, and how long after its adding a job is claimed by an idle worker."""
    with tempfile.TemporaryDirectory() as name:
        service = JobService(Path(name))
        try:
            project = Project(service.root, service.username, service.password, "bench")
            project.add(0, 1)
            with worker(service, "bench", Path(name)):
                project.wait("Finished", 1)
                rates = []
                for first in range(1, ROUNDS * JOBS, JOBS):
                    project.add(first, JOBS)
                    project.wait("Finished", first + 1)
                    begin, done = time.monotonic(), project.states()["Finished"]
                    # Few questions meanwhile: they would take the service's time from the worker.
                    while (now := project.states()["Finished"]) < first + JOBS:
                        time.sleep(0.25)
                    rates.append((now - done) / (time.monotonic() - begin) * 60)
                waits = []
                for job in range(1 + ROUNDS * JOBS, 1 + ROUNDS * JOBS + LOOKS):
                    time.sleep(1 + job % LOOKS / LOOKS)
                    project.add(job, 1)
                    added = time.monotonic()
                    project.wait("Finished", job + 1)
                    waits.append(time.monotonic() - added)
        finally:
            service.kill()
    noticed = {"median": median(waits), "max": round(max(waits), 2)}
    return {
        "jobs_per_minute": round(statistics.median(rates)),
        "rounds": list(map(round, rates)),
        "noticed_after_s": noticed,
    }


def median(values: list[float]) -> float:
    return round(statistics.median(values), 2)


def measure_first_job(bench: Bench) -> dict[str, Any]:
    """On two hosts: with the image still to be sent, and once more when only a setting of the retrieval has changed."""
    settings = load_settings(BENCH / "demo.conf")
    there = {"qsmr_project": "benchjobs"}
    some = ["--limit", ",".join(bench.hosts[:2])]
    found = {}
    for first_job, (what, retrieval) in enumerate((("new image", ""), ("new setting", "another"))):
        bench.play("snapshot.yml", qsmr_qsmr_config=retrieval, **there)
        bench.play("stop.yml", *some, **there)
        project = Project(settings.job_api_root, settings.job_api_username, settings.job_api_password, "benchjobs")
        project.add(first_job * JOBS, JOBS)
        free = project.states()["Available"]
        begin = time.monotonic()
        with ThreadPoolExecutor() as pool:
            rollout = pool.submit(bench.play, "workers.yml", *some, **there)
            while project.states().get("Available", 0) == free and not rollout.done():
                time.sleep(0.1)
            first = time.monotonic() - begin
            found[what] = {"first_job_s": round(first, 1), "workers_yml_s": round(rollout.result(), 1)}
    bench.play("stop.yml", qsmr_remove=True, **there)
    return found


def measure_nothing_to_do(bench: Bench, sizes: list[int], runs: int) -> Iterator[dict[str, Any]]:
    """workers.yml and ping in turns, after one of each that opens the connections."""
    from worker_snapshots import make_snapshot

    snapshot = make_snapshot(BENCH / "snapshots", 1, interval=HEALTH_INTERVAL)
    there = {"qsmr_project": "rollout", "qsmr_snapshot": str(snapshot), "qsmr_rollout_batches": ["100%"]}
    bench.play("workers.yml", **there)
    for size in sizes:
        some = ["--limit", ",".join(bench.hosts[:size])]
        seconds: dict[str, list[float]] = {"ping": [], "workers.yml": []}
        for number in range(runs + 1):
            ping = bench.run("ansible", "workers", "-m", "ansible.builtin.ping", *some)
            play = bench.play("workers.yml", *some, **there)
            if "changed=1" in bench.screen:
                raise SystemExit(f"workers.yml found something to do:\n{bench.screen}")
            if number:
                seconds["ping"].append(ping)
                seconds["workers.yml"].append(play)
        middle = {name: median(times) for name, times in seconds.items()}
        yield {
            "hosts": size,
            "ping_s": middle["ping"],
            "workers_yml_s": middle["workers.yml"],
            "pings": round(middle["workers.yml"] / middle["ping"], 2),
            "runs": runs,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--hosts", default="2,8,24", help="sizes of the fleet that a run with nothing to do is timed on"
    )
    parser.add_argument("--runs", type=int, default=5, help="times that each is timed; the median counts")
    parser.add_argument("--part", choices=["all", "worker", "fleet"], default="all", help="what to measure")
    given = parser.parse_args()
    sizes = sorted(int(size) for size in given.hosts.split(","))
    result: dict[str, Any] = {"load_before": os.getloadavg()[0]}
    figures: list[Figure] = []
    if given.part != "fleet":
        found = result["worker"] = measure_worker()
        figures.append(
            Figure(f"trivial jobs a minute, one worker (former: {FORMER_JOBS})", found["jobs_per_minute"], 2000)
        )
        figures.append(
            Figure("seconds until an idle worker has done a new job", found["noticed_after_s"]["max"], most=3)
        )
    if given.part != "worker":
        with fleet(max(*sizes, 2)) as bench:
            result["nothing_to_do"] = list(measure_nothing_to_do(bench, sizes, given.runs))
            result["first_job"] = measure_first_job(bench)
        for row in result["nothing_to_do"]:
            figures.append(Figure(f"workers.yml, nothing to do, {row['hosts']} hosts: pings", row["pings"], most=2.5))
        for what, row in result["first_job"].items():
            figures.append(Figure(f"seconds from workers.yml to the first job, {what}", row["first_job_s"]))
    save("rollout", figures, **result)


if __name__ == "__main__":
    main()
