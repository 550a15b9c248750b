"""A fleet of containers for benches, of the three kinds that the demo has, in turns, and a way to time playbooks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[2]
BENCH = REPOSITORY / "build/bench/fleet"
NAME, NET = "qsmr-bench", "10.84.0"
HEALTH_INTERVAL = "5s"  # the worker image's


class Bench:
    """A fleet of containers of the three kinds that the demo has, in turns."""

    def __init__(self, number: int) -> None:
        self.hosts = [f"host{count}" for count in range(1, number + 1)]
        self.inventory = BENCH / "inventory"
        code = str(REPOSITORY / "examples/qsmr-demo")
        self.variables = {"demo_name": NAME, "demo_net": NET, "demo_dir": str(BENCH), "qsmr_code_dir": code}

    def write_inventory(self) -> None:
        demo = yaml.safe_load((REPOSITORY / "inventory/demo/hosts.yml").read_text())
        kinds = list(demo["workers"]["hosts"].values())
        demo["workers"]["hosts"] = {
            host: {**kinds[count % len(kinds)], "ansible_host": f"{{{{ demo_net }}}}.{21 + count}"}
            for count, host in enumerate(self.hosts)
        }
        shutil.copytree(REPOSITORY / "inventory/demo/group_vars", self.inventory / "group_vars", dirs_exist_ok=True)
        (self.inventory / "hosts.yml").write_text(yaml.safe_dump(demo))

    def run(self, *words: str | Path, **variables: Any) -> float:
        """Run an Ansible command; the seconds that it took."""
        command, *rest = words
        begin = time.monotonic()
        done = subprocess.run(
            [Path(sys.executable).with_name(str(command)), *rest, "-i", self.inventory]
            + ["-e", json.dumps({**self.variables, **variables})],
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")},
            capture_output=True,
            text=True,
        )
        seconds = time.monotonic() - begin
        if done.returncode:
            raise SystemExit(f"{words} failed:\n{done.stdout}{done.stderr}")
        self.screen = done.stdout
        return seconds

    def play(self, playbook: str, *words: str, **variables: Any) -> float:
        return self.run("ansible-playbook", REPOSITORY / "playbooks" / playbook, *words, **variables)


@contextmanager
def fleet(number: int) -> Iterator[Bench]:
    bench = Bench(number)
    BENCH.mkdir(parents=True, exist_ok=True)
    try:
        bench.write_inventory()
        bench.play("demo_fleet.yml")
        bench.play("services.yml")
        yield bench
    finally:
        bench.play("demo_fleet_clean.yml")
        images = subprocess.run(
            ["docker", "image", "ls", "--quiet", "--filter", "reference=qsmr_snapshot_bench*"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        if images:
            subprocess.run(["docker", "image", "rm", "--force", *images], stdout=subprocess.DEVNULL, check=False)
        shutil.rmtree(BENCH, ignore_errors=True)
