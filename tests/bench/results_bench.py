"""How fast level 2 comes: by results.yml's own code, and scan by scan as the former instructions had it.

usage: results_bench.py [--large]

Both read the same services in the same run: doubles in a process of their own, whose documents have the size of the
example code's (27 kB), once as near as loopback is and once with 20 ms to each answer, as from another house. One by
one is measured on the first 500 scans. Prints a table and writes build/bench/results.json. --large adds 100,000 scans
from as near as loopback is.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("plugins/module_utils", "tests")]

import requests  # noqa: E402
from figures import Figure, save, wide_console  # noqa: E402
from level2_service_double import services  # noqa: E402
from qsmr.jobapi import JobApi  # noqa: E402
from qsmr.odinapi import OdinApi  # noqa: E402
from qsmr.resultindex import opened  # noqa: E402
from qsmr.results import CONNECTIONS, bring_up_to_date  # noqa: E402
from rich.table import Table  # noqa: E402

SIZES = [2_000, 20_000]
LARGE_SIZE = 100_000
MOST_SINGLE = 500
FAR = 0.02  # s


Flow = Callable[[str, int, Path], int]


def one_by_one(root: str, count: int, directory: Path) -> int:
    """The job list, then each scan at the address that people are told, on a connection of its own."""
    jobs = requests.get(f"{root}/v4/demo/jobs?status=finished", timeout=600).json()["Jobs"]
    for job in jobs[:MOST_SINGLE]:
        mode, scan = job["Id"].split(":")
        answer = requests.get(f"{root}/v4/level2/demo/{mode}/{scan}", timeout=600)
        (directory / f"{scan}.json").write_text(json.dumps(answer.json()))
    return len(jobs[:MOST_SINGLE])


def ours(root: str, count: int, directory: Path) -> int:
    """What results.yml does, without the start of Ansible: checked documents, NetCDF and the table."""
    with JobApi(root) as jobs, opened(directory) as index:
        odin = OdinApi(root, CONNECTIONS)
        outcome = bring_up_to_date(jobs, odin, "demo", "demo", index, directory, directory)
        if outcome.outcomes != {"retrieved": count}:
            raise SystemExit(f"not all came: {outcome.outcomes}")
    return count


def measure(root: str, flow: Flow, count: int) -> list[dict]:
    """A first run, and for ours a second one that finds nothing new."""
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        for what in ("new", "again") if flow is ours else ("new",):
            began = time.perf_counter()
            scans = flow(root, count, Path(directory))
            seconds = time.perf_counter() - began
            rows.append(
                {
                    "flow": flow.__name__,
                    "scans": count,
                    "measured_on": scans,
                    "what": what,
                    "seconds": round(seconds, 2),
                    "scans_per_second": round(scans / seconds, 1),
                    "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                }
            )
    return rows


def compared(rows: list[dict]) -> Iterator[tuple[dict, dict, dict]]:
    """One by one, ours, and ours again, for each number of scans and each delay."""
    for count, delay in dict.fromkeys((row["scans"], row["delay_ms"]) for row in rows):
        found = {(row["flow"], row["what"]): row for row in rows if (row["scans"], row["delay_ms"]) == (count, delay)}
        yield found["one_by_one", "new"], found["ours", "new"], found["ours", "again"]


def table_of(rows: list[dict]) -> Table:
    table = Table("scans", "delay", "one by one/s", "ours/s", "times", "ours: s", "MB", "again: s")
    for single, new, again in compared(rows):
        speeds = [single["scans_per_second"], new["scans_per_second"]]
        shown = [f"{speeds[0]:,.0f}", f"{speeds[1]:,.0f}", f"{speeds[1] / speeds[0]:.1f}"]
        shown += [f"{new['seconds']:.1f}", f"{again['memory_mb']}", f"{again['seconds']:.1f}"]
        table.add_row(f"{new['scans']:,}", f"{new['delay_ms']} ms", *shown)
    return table


def figures(rows: list[dict]) -> Iterator[Figure]:
    for single, new, again in compared(rows):
        where = f"{new['scans']:,} scans, {new['delay_ms']} ms away"
        yield Figure(f"{where}: times one by one", new["scans_per_second"] / single["scans_per_second"])
        yield Figure(f"{where}: MB of memory", again["memory_mb"])


def main() -> None:
    console = wide_console()
    rows: list[dict] = []
    for count in [*SIZES, LARGE_SIZE] if "--large" in sys.argv[1:] else SIZES:
        for delay in (0.0, FAR) if count in SIZES else (0.0,):
            with services(count, delay) as root:
                for flow in (one_by_one, ours):
                    # A process of its own, so that its memory is its own.
                    with multiprocessing.get_context("spawn").Pool(1) as process:
                        found = process.apply(measure, (root, flow, count))
                    for row in found:
                        rows.append({**row, "delay_ms": round(delay * 1000)})
                        console.print(" ".join(f"{key}={value}" for key, value in rows[-1].items()), style="dim")
    console.print(table_of(rows))
    save("results", list(figures(rows)), rows=rows)


if __name__ == "__main__":
    main()
