"""A container fleet of the tests' own, and a way to run playbooks on it as a user would, through ansible-runner."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ansible_runner
from qsmr.settings import Settings, load_settings

REPOSITORY = Path(__file__).parents[1]
NAME = "qsmr-test"
NET = "10.88.0"


@dataclass(frozen=True)
class Result:
    """How a playbook run ended: exit code, counts by host, all that was on the screen, the task events."""

    rc: int
    stats: dict[str, dict[str, int]]
    stdout: str
    events: list[dict[str, Any]]

    @property
    def changed(self) -> dict[str, int]:
        """Changed tasks by host, hosts without any left out."""
        return {host: count for host, count in self.stats["changed"].items() if count}

    def task_results(self, task: str) -> dict[str, dict[str, Any]]:
        """The results of a task by host; of its last run where it ran several times."""
        # At -v runner has events that are lines of the screen and no more.
        data = (event.get("event_data", {}) for event in self.events)
        return {found["host"]: found["res"] for found in data if found.get("task") == task and "res" in found}


class Fleet:
    """The test fleet: the demo's inventory under another name, network and directory."""

    hosts = ("host1", "host2", "host3")
    inventory = REPOSITORY / "inventory/demo"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.artifacts = directory / "artifacts"

    @property
    def variables(self) -> dict[str, Any]:
        """What makes the demo's inventory describe this fleet."""
        return {"demo_name": NAME, "demo_net": NET, "demo_dir": str(self.directory)}

    @property
    def settings(self) -> Settings:
        """The five settings that the fleet's config file holds."""
        return load_settings(self.directory / "demo.conf")

    def play(
        self, playbook: str, /, *, cmdline: str = "", env: Mapping[str, str] | None = None, **extra: Any
    ) -> Result:
        """Run ``playbooks/<playbook>`` with extra variables and command line words; the outcome is not judged."""
        # ansible-runner keeps the first run's words and variables there, --check among them, and adds them to the next.
        shutil.rmtree(self.directory / "env", ignore_errors=True)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        run = ansible_runner.run(
            private_data_dir=str(self.directory),
            artifact_dir=str(self.artifacts),
            project_dir=str(REPOSITORY),
            playbook=f"playbooks/{playbook}",
            inventory=str(self.inventory),
            extravars={**self.variables, **extra},
            cmdline=cmdline or None,
            envvars={"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"), "COLUMNS": "120", "PATH": path, **(env or {})},
            quiet=True,
        )
        with run.stdout as stream:
            stdout = stream.read()
        # How ansible-core 2.21 says that it made a value of ours another one.
        assert "Value for result key" not in " ".join(stdout.split()), stdout
        return Result(run.rc, run.stats or {"changed": {}}, stdout, list(run.events))

    def ok(self, playbook: str, /, **arguments: Any) -> Result:
        """Like play, for a run that has to succeed: the screen is the failure's message otherwise."""
        result = self.play(playbook, **arguments)
        assert result.rc == 0, result.stdout
        return result

    def container(self, host: str) -> str:
        """The name of the container that is a host."""
        return f"{NAME}-{host}"

    def ssh(self, host: str, command: str) -> str:
        """Run a command on a host as root and return what it printed; CalledProcessError if it failed."""
        return docker("exec", self.container(host), "sh", "-c", command)


def bring_up(container: str) -> None:
    """Start a host that was stopped, and wait until it is of use again."""
    docker("start", container)
    for _ in range(90):
        try:
            docker("exec", container, "sh", "-c", "docker info && pgrep -x sshd")
            return
        except subprocess.CalledProcessError:
            time.sleep(1)
    raise AssertionError(f"{container} did not come back")


def docker(*arguments: str) -> str:
    """The docker command line on this machine."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout
