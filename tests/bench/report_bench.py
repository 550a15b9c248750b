"""How long the report takes and how large it is.

usage: report_bench.py [JOBS ...]      (default: 1000 100000)

The job list comes from memory, as the service would send it, with three of a hundred jobs failed by 64 KB of output;
level 2 is a NetCDF file as results.yml writes it. Prints a table and writes build/bench/report.json.
"""

from __future__ import annotations

import json
import math
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "plugins/module_utils")]

import numpy as np  # noqa: E402
from figures import Figure, save, wide_console  # noqa: E402
from qsmr.level2set import ProductFile, Scan  # noqa: E402
from qsmr.report import scan_time, write_report  # noqa: E402
from rich.table import Table  # noqa: E402

PRODUCT = "O3 / 501 GHz / 20 to 50 km"
FIRST_SCAN = 7014791071
BEGAN = datetime(2026, 11, 24, 6, 0, 0, tzinfo=UTC)
CAUSES = [
    "ValueError: scan {n} has no spectra left",
    "OSError: [Errno 28] No space left on device: '/tmp/qsmr-{n}/work'",
    "requests.exceptions.ConnectionError: http://odin/rest_api/v4/l1_log/1/{n}/: timed out",
    "MemoryError: cannot take {n} bytes",
]
LEVELS = 25


class Service:
    """A job service from memory. Of its hosts the last one is bad: half of its jobs fail."""

    root = "http://jobs.example.com/rest_api"

    def __init__(self, jobs: int, hosts: int = 20) -> None:
        self.number, self.hosts = jobs, hosts

    def each_job(self, _project: str) -> Iterator[dict[str, Any]]:
        draw = random.Random(6)
        for n in range(self.number):
            host = draw.randrange(self.hosts)
            state = "Available"
            if n < 0.93 * self.number:
                bad = draw.random() < (0.5 if host == self.hosts - 1 else 0.01)
                state = "Failed" if bad else "Finished"
            elif n < 0.94 * self.number:
                state = "Started"
            time = datetime.fromtimestamp(BEGAN.timestamp() + 4 * 3600 * n / self.number + draw.random() * 200, UTC)
            ended = time.strftime("%Y-%m-%dT%H:%M:%S")
            yield {
                "Id": f"1:{FIRST_SCAN + 97 * n}",
                "Status": state,
                "IsClaimed": state != "Available",
                "Worker": f"UWorker_lab{host + 1:02}_{host * 7919 + draw.randrange(4):012x}"
                if state != "Available"
                else None,
                "Claimed": ended,
                "Finished": ended if state == "Finished" else None,
                "Failed": ended if state == "Failed" else None,
                "ProcessingTime": draw.lognormvariate(4, 0.4) if state in ("Finished", "Failed") else None,
                "URLS": {"URL-Input": "http://odin.example.com/rest_api/v4/l1_log/1/1/"},
            }

    def output(self, _project: str, job: str) -> str:
        n = int(job.partition(":")[2])
        noise = "".join(f"2026-11-24T10:00:00.1 - STDOUT: iteration {k}: cost {k * n % 977}\n" for k in range(1000))
        cause = CAUSES[int(math.sqrt(n % 16))].format(n=n)
        end = f"10:00:01.1 - STDERR: {cause}\n2026-11-24T10:00:01.2 - EXECUTOR: Job process exited with code 1\n"
        return f"{noise}2026-11-24T{end}"


def write_level2(directory: Path, jobs: int) -> None:
    """Level 2 of the finished jobs: an orbit over the globe, and an ozone layer with noise."""
    scans = int(0.9 * jobs)
    altitude = np.linspace(16e3, 64e3, LEVELS)
    layer = 8e-6 * np.exp(-(((altitude - 34e3) / 10e3) ** 2))
    noise = np.random.default_rng(6)
    keys = (Scan((1, FIRST_SCAN + 97 * n), 1) for n in range(scans))
    file = ProductFile(directory / "level2_O3.nc", PRODUCT, keys, {"project": "bench"})
    kernel = np.eye(LEVELS)
    with file.open():
        for n, (_mode, scan_id) in enumerate(file.todo):
            angle = 2 * math.pi * n / 60
            latitude = math.degrees(math.asin(math.sin(math.radians(82)) * math.sin(angle)))
            time = scan_time(scan_id) / 86400 + 40587
            file.add(
                {
                    "time": time, "latitude": latitude, "longitude": (n * 6.1 + 25 * math.sin(angle)) % 360,
                    "altitude": altitude + noise.normal(0, 300), "pressure": altitude, "temperature": altitude,
                    "level_latitude": altitude, "level_longitude": altitude,
                    "vmr": layer * noise.normal(1, 0.12, LEVELS) * (1 + 0.2 * math.cos(angle)),
                    "vmr_apriori": layer * 1.05, "vmr_error_total": layer, "vmr_error_noise": layer,
                    "measurement_response": 1 / (1 + ((altitude - 38e3) / 26e3) ** 8), "averaging_kernel": kernel,
                },
            )  # fmt: skip


def measure(jobs: int, directory: Path) -> dict[str, float]:
    """Runs in a process of its own, so that its memory is its own."""
    began = time.perf_counter()
    report = write_report(Service(jobs), "bench", directory, {}, datetime.fromtimestamp(BEGAN.timestamp() + 14000, UTC))  # type: ignore[arg-type]
    built = time.perf_counter() - began
    began = time.perf_counter()
    again = write_report(Service(jobs), "bench", directory, {}, datetime.now(UTC))  # type: ignore[arg-type]
    assert report.changed and not again.changed
    figures = sum(path.stat().st_size for path in (directory / "report_figures").iterdir())
    return {
        "jobs": jobs,
        "build_s": round(built, 2),
        "unchanged_s": round(time.perf_counter() - began, 2),
        "html_kB": round(report.path.stat().st_size / 1000),
        "figures_kB": round(figures / 1000),
        "peak_MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
    }


def main() -> None:
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(int(sys.argv[2]), Path(sys.argv[3]))))
        return
    found = []
    for jobs in [int(word) for word in sys.argv[1:]] or [1_000, 100_000]:
        with tempfile.TemporaryDirectory() as directory:
            write_level2(Path(directory), jobs)
            run = subprocess.run(
                [sys.executable, __file__, "--measure", str(jobs), directory],
                capture_output=True,
                text=True,
                check=True,
            )
            found.append(json.loads(run.stdout))
    table = Table(*found[0])
    for row in found:
        table.add_row(*(f"{value:,}" for value in row.values()))
    wide_console().print(table)
    figures = [
        Figure(f"{row['jobs']:,} jobs: {words}", row[key])
        for row in found
        for key, words in (("build_s", "seconds"), ("html_kB", "kB of the page"), ("peak_MB", "MB of memory"))
    ]
    save("report", figures, rows=found)


if __name__ == "__main__":
    main()
