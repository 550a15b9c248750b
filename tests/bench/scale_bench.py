#!/usr/bin/env python3
"""How long each playbook takes by the number of hosts, and what it costs the control node: ``make bench-scale``.

usage: scale_bench.py [--hosts 8,24,40] [--forks 20]

The hosts are containers with an engine each, and this machine is the control node of all of them, so that their work is
in the times: with hosts of their own the times are smaller. Prints a table and writes build/bench/scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / folder) for folder in ("plugins/module_utils", "tests")]

from bench_fleet import BENCH, HEALTH_INTERVAL, Bench, fleet  # noqa: E402
from figures import Figure, save, wide_console  # noqa: E402
from rich.table import Table  # noqa: E402
from worker_snapshots import make_snapshot  # noqa: E402


class Memory(threading.Thread):
    """The most memory, in MB, that this process's children had together: ``with Memory() as memory: ...``."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0.0
        self._over = threading.Event()

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        while not self._over.wait(0.2):
            self.most = max(self.most, sum(map(shared_out, children(os.getpid()))) / 1e6)


def children(process: int) -> list[int]:
    """The processes that a process started, and theirs."""
    try:
        tasks = list(Path(f"/proc/{process}/task").iterdir())
        own = [int(word) for task in tasks for word in (task / "children").read_text().split()]
    except OSError:
        return []  # it has ended
    return own + [found for child in own for found in children(child)]


def shared_out(process: int) -> int:
    """Bytes of a process's memory, its part only of what it shares with others (proc(5): smaps_rollup, Pss)."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return 0


def steps(snapshots: list[Path]) -> list[tuple[str, str, dict[str, Any]]]:
    """What is timed, in this order: its name, the playbook, its settings."""
    first, second = ({"qsmr_snapshot": str(path)} for path in snapshots)
    return [
        ("first rollout", "workers.yml", first),
        ("nothing to do", "workers.yml", first),
        ("another snapshot", "workers.yml", second),
        (
            "rollback",
            "rollback.yml",
            {"qsmr_release": json.loads((snapshots[0] / "snapshot.json").read_text())["snapshot_id"]},
        ),
        ("two workers a host", "scale.yml", {"qsmr_workers_per_host": 2}),
        ("where it stands", "status.yml", {}),
        ("last lines", "logs.yml", {}),
        ("old releases", "prune.yml", {}),
        ("stop and remove", "stop.yml", {"qsmr_remove": True}),
    ]


def measure(bench: Bench, sizes: list[int], forks: int) -> list[dict[str, Any]]:
    snapshots = [make_snapshot(BENCH / "snapshots", number, interval=HEALTH_INTERVAL) for number in (1, 2)]
    rows = []
    for size in sizes:
        for name, playbook, settings in steps(snapshots):
            words = ["--limit", ",".join([*bench.hosts[:size], "control"]), "--forks", str(forks)]
            with Memory() as memory:
                seconds = bench.play(playbook, *words, qsmr_project="rollout", **settings)
            rows.append(
                {
                    "what": f"{name} ({playbook})",
                    "hosts": size,
                    "seconds": round(seconds, 1),
                    "memory_mb": round(memory.most),
                }
            )
            print(f"{size} hosts, {name}: {seconds:.1f} s, {memory.most:.0f} MB", file=sys.stderr, flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", default="8,24,40", help="sizes of the fleet")
    parser.add_argument("--forks", type=int, default=20, help="hosts that Ansible works on at once")
    given = parser.parse_args()
    sizes = sorted(int(size) for size in given.hosts.split(","))
    began = time.monotonic()
    with fleet(sizes[-1]) as bench:
        print(f"{sizes[-1]} hosts up after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        rows = measure(bench, sizes, given.forks)
    table = Table("", *(f"{size} hosts" for size in sizes))
    for what in dict.fromkeys(row["what"] for row in rows):
        cells = [f"{row['seconds']} s, {row['memory_mb']} MB" for row in rows if row["what"] == what]
        table.add_row(what, *cells)
    wide_console().print(table)
    figures = [Figure(f"{row['what']}, {row['hosts']} hosts: seconds", row["seconds"]) for row in rows]
    save("scale", figures, forks=given.forks, rows=rows)


if __name__ == "__main__":
    main()
