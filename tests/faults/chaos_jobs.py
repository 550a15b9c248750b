"""Add jobs through random faults and random kill -9 until a run says that all is done, and look what there is.

The service must hold exactly the list's jobs, each once and as it should be, and the ledger must agree.

usage: chaos_jobs.py [--runs 300] [--seed FIRST] [--minutes 20] [--together 4]

The seed of a run decides what is asked for, the faults and the moments of the kills; how threads and processes take
turns is the machine's. A run that failed is replayed with ``--runs 1 --seed <its seed>``.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("plugins/module_utils", "tests", "tests/faults")]

from fault_lab import kill_all_below  # noqa: E402
from fault_proxy import LATE, FaultProxy  # noqa: E402
from job_service_double import PASSWORD, USERNAME, JobServiceDouble  # noqa: E402
from qsmr import addjobs, sender  # noqa: E402
from qsmr.addjobs import Adding  # noqa: E402
from qsmr.errors import QsmrError  # noqa: E402
from qsmr.jobapi import JobApi  # noqa: E402
from qsmr.jobdoc import JobMaker  # noqa: E402
from qsmr.settings import Settings  # noqa: E402

SECRETS = {"ecb": "adsfasreerfgtres", "eax": "rc/lY+OQYq6mvI6tCfr+tQ=="}
MOST_TRIES = 12
PATIENCE = 10.0  # seconds without an answer of use until a run gives up
sender.FIRST_PAUSE = addjobs.FIRST_PAUSE = 0.02


@dataclass(frozen=True)
class Target:
    """A job service as it is without the faults; ``root`` ends in /rest_api."""

    root: str
    username: str
    password: str
    takes_lists: bool = True


@contextmanager
def in_child(work: Callable[[], object]) -> Iterator[int]:
    """Run ``work`` in a child that is killed in the end, if it has not ended by then, and its own children with it."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            os._exit(0 if work() else 1)
        except QsmrError:  # a run that gave up
            os._exit(1)
        except BaseException:  # the child must not go on with the parent's work
            traceback.print_exc()
            os._exit(2)
    try:
        yield child
    finally:
        kill_all_below(child)
        os.waitpid(child, 0)


@contextmanager
def serving(start: Callable[[], tuple[str, Callable[[], None]]]) -> Iterator[str]:
    """A server in a child of its own, so that this process has no threads and may fork; yields its root."""
    reading, writing = os.pipe()

    def work() -> None:
        root, serve = start()
        os.write(writing, root.encode())
        os.close(writing)
        serve()

    with in_child(work):
        os.close(writing)
        with os.fdopen(reading) as pipe:
            yield pipe.read()


def double_of(era: str) -> Callable[[], tuple[str, Callable[[], None]]]:
    def start() -> tuple[str, Callable[[], None]]:
        double = JobServiceDouble(era)
        return double.root, double.thread.join

    return start


def proxied(target: Target, seed: int, share: float) -> Callable[[], tuple[str, Callable[[], None]]]:
    def start() -> tuple[str, Callable[[], None]]:
        proxy = FaultProxy(target.root.removesuffix("/rest_api"), seed, share)
        return proxy.root, proxy.server.serve_forever

    return start


def one_run(seed: int, target: Target, directory: Path) -> str:
    """What is wrong in the end; nothing if all is well."""
    choose = random.Random(seed)  # noqa: S311 seeded on purpose
    # The old service takes jobs one by one: a few will do.
    scans = choose.sample(
        range(7_000_000_000, 7_000_010_000), choose.randint(5, 40 if target.username == USERNAME else 1500)
    )
    cipher = choose.choice(list(SECRETS))
    project = f"chaos{seed}"
    make = JobMaker(
        Settings("http://odin/rest_api", SECRETS[cipher], target.root, "", ""),
        project,
        choose.choice(["v4", "v5"]),
        cipher,
    )

    def add(root: str) -> bool:
        with JobApi(root, target.username, target.password, connect_timeout=2, read_timeout=LATE - 0.5) as api:
            rows = ((1, scan, line) for line, scan in enumerate(scans, 1))
            return not Adding(api, make, project, directory, patience=PATIENCE).run(rows).failed

    with serving(proxied(target, seed, choose.choice([0.05, 0.15, 0.3]))) as root:
        for attempt in range(MOST_TRIES):
            # The first three runs are killed somewhere, if they last so long.
            moment = choose.uniform(0, 1.5) if attempt < 3 else None
            with in_child(lambda: add(root)) as child:
                if moment is not None:
                    time.sleep(moment)
                    if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                        continue
                ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
            if ended.si_status > 1:
                return "a run ended with a traceback"
            if ended.si_status == 0:
                return verdict(target, project, make, scans, directory)
    return f"not done after {MOST_TRIES} runs"


def verdict(target: Target, project: str, make: JobMaker, scans: list[int], directory: Path) -> str:
    api = JobApi(target.root, target.username, target.password)
    jobs = api.jobs(project)
    listed = [job["Id"] for job in jobs]
    if sorted(listed) != sorted(f"1:{scan}" for scan in scans):
        return f"the service lists {len(listed)} jobs, {len(set(listed))} different, {len(scans)} were wanted"
    record = api.project(project) or {}
    if record.get("NrJobsAdded") != len(scans):
        return f"the service counted {record.get('NrJobsAdded')} jobs, {len(scans)} were wanted"
    for scan in scans if target.takes_lists else []:
        if api.add_job(project, make(1, scan)).status != 201:
            return f"the job of scan {scan} is another one than ours"
    with sqlite3.connect(directory / "ledger.sqlite") as ledger:
        states = dict(ledger.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall())
    if states != {"added": len(scans)}:
        return f"the ledger says {states}"
    progress = json.loads((directory / "progress.json").read_text())
    return "" if progress["phase"] == "done" else f"progress.json says {progress['phase']}"


@contextmanager
def target_of(seed: int, embedded: Target) -> Iterator[Target]:
    """Every fourth run goes to the embedded service, the others to doubles of their own of the ages that there are."""
    era = {0: "2016-09", 1: "2022", 2: "2022"}.get(seed % 4)
    if era is None:
        yield embedded
    else:
        with serving(double_of(era)) as root:
            yield Target(root, USERNAME, PASSWORD, takes_lists=era != "2016-09")


def chaos(seed: int, embedded: Target) -> str:
    """One seeded run; what is wrong in the end, or nothing."""
    with target_of(seed, embedded) as target, tempfile.TemporaryDirectory() as directory:
        return one_run(seed, target, Path(directory))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--together", type=int, default=4)
    wanted = parser.parse_args()
    from contract.job_service import JobService

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seeds = range(wanted.seed, wanted.seed + wanted.runs)
    print(f"seeds {seeds[0]} to {seeds[-1]}", flush=True)
    began, done, failed = time.monotonic(), 0, 0
    reading, writing = os.pipe()
    with ExitStack() as stack:
        service = JobService(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        stack.callback(service.stop)
        embedded = Target(service.root, service.username, service.password)
        for first in range(wanted.together):
            share = seeds[first :: wanted.together]
            stack.enter_context(in_child(functools.partial(runs, share, embedded, writing)))
        os.close(writing)
        for line in os.fdopen(reading):
            seed, _, wrong = line.rstrip("\n").partition(" ")
            done += 1
            if wrong:
                failed += 1
                print(f"seed {seed}: {wrong}; replay with --runs 1 --seed {seed}", flush=True)
            seconds = time.monotonic() - began
            if done % 25 == 0 or done == wanted.runs:
                print(f"{done} runs, {failed} failed, {seconds:.0f} s", flush=True)
            if seconds > 60 * wanted.minutes:
                break
    if done < wanted.runs:
        print(f"{done} of {wanted.runs} runs came to an end in {wanted.minutes:g} minutes")
    return int(failed > 0 or done < wanted.runs)


def runs(seeds: Sequence[int], embedded: Target, results: int) -> bool:
    """Do the runs one after the other, and write a line for each: its seed and what is wrong."""
    for seed in seeds:
        os.write(results, f"{seed} {chaos(seed, embedded)}\n".encode())
    return True


if __name__ == "__main__":
    sys.exit(main())
