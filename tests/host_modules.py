"""The modules of lab hosts, run as Ansible runs them, on a host whose Docker is played by Python (see host_double).

An engine that fails at a chosen moment is a fault that a real one does not give on demand.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import ansible.module_utils
import pytest
from host_double import HostDouble, image, snapshot
from qsmr.dockercli import Result
from qsmr.release import Releases

ENGINE_DOWN = {"docker": "Cannot connect to the Docker daemon at unix:///var/run/docker.sock."}
OF_PROJECT = {"compose_project": "qsmr-demo", "image": "qsmr_snapshot_demo"}


class Engine(HostDouble):
    """Goes down while workers of the release ``fatal`` get healthy, for ``outage`` seconds of the lab's time."""

    def __init__(self) -> None:
        super().__init__({f"qsmr_snapshot_demo:{name}": image(f"sha256:{name}") for name in ("r1", "r2")})
        self.fatal = ""
        self.outage = 0.0

    def compose(self, line: str, env: Mapping[str, str]) -> Result:
        is_fatal = self.fatal != "" and env.get("QSMR_SNAPSHOT_ID") == self.fatal
        self.condition = "starting" if is_fatal else "healthy"
        return super().compose(line, env)

    def rest(self, seconds: float) -> None:
        """So much time passes."""
        if self.outage > 0 and self.condition == "starting":
            self.fails = ENGINE_DOWN
            self.outage -= seconds
            if self.outage <= 0:
                self.fails = {}


class ModuleLab:
    """One host. Time passes only while a module sleeps."""

    def __init__(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], engine: Engine
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.engine = engine
        self.host_dir = tmp_path / "opt"
        self.releases = Releases(self.host_dir, "demo")
        self.now = 0.0
        monkeypatch.setattr(ansible.module_utils, "__path__", [*ansible.module_utils.__path__, "plugins/module_utils"])
        monkeypatch.syspath_prepend("library")

    def _sleep(self, seconds: float) -> None:
        self.now += seconds
        self.engine.rest(seconds)

    def run(self, name: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
        """What the module of this name answers."""
        from ansible.module_utils.testing import patch_module_args

        module: Any = importlib.import_module(name)
        docker = partial(module.Docker, self.engine.run, {"PATH": "/bin"}, self.engine.feed, self.engine.read)
        given = {"project": "demo", "host_dir": str(self.host_dir), **options, "_ansible_check_mode": check}
        with self._monkeypatch.context() as patch, patch_module_args(given), pytest.raises(SystemExit):
            patch.setattr(module, "Docker", docker)
            if hasattr(module, "WorkerHost"):
                timed = partial(module.WorkerHost, clock=lambda: self.now, sleep=self._sleep)
                patch.setattr(module, "WorkerHost", timed)
            module.main()
        said: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return said

    def workers(self, release: str, **options: Any) -> dict[str, Any]:
        """What qsmr_worker answers that has to bring the host to a release."""
        return self.run("qsmr_worker", **{**workers_of(release), **options})

    def stop(self, **options: Any) -> dict[str, Any]:
        return self.run("qsmr_stop", **OF_PROJECT, **options)


def workers_of(release: str) -> dict[str, Any]:
    """The options of qsmr_worker for a release."""
    files = {"docker-compose.yml": "services: 1\n", "snapshot.json": json.dumps(snapshot(release))}
    content = {"snapshot": snapshot(release), "files": files, "worker_env": f"QSMR_SNAPSHOT_ID={release}\n"}
    return {"compose_project": "qsmr-demo", "hostname": "host1", "revert": True, **content}
