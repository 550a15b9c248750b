"""A host with Podman 5 in Docker's place, through workers.yml, logs.yml, prune.yml and stop.yml: make test-podman."""

from __future__ import annotations

import functools
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from container_fleet import REPOSITORY, Fleet
from worker_snapshots import PROJECT, make_snapshot

NAME, NET, HOST = "qsmr-podman", "10.85.0", "host1"


class PodmanFleet(Fleet):
    """One host, beside the session's fleet."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.inventory = directory / "hosts"

    @property
    def variables(self):
        return {"demo_name": NAME, "demo_net": NET, "demo_dir": str(self.directory)}

    def container(self, host: str) -> str:
        return f"{NAME}-{host}"


@pytest.fixture(scope="module")
def podman(tmp_path_factory):
    fleet = PodmanFleet(REPOSITORY / "build/podman")
    inventory = yaml.safe_load((REPOSITORY / "inventory/demo/hosts.yml").read_text())
    host = {"ansible_host": "{{ demo_net }}.21", "ansible_user": "root"}
    inventory["workers"]["hosts"] = {HOST: {**host, "container_fleet_image": "qsmr-fleet/host-podman"}}
    shutil.copytree(REPOSITORY / "inventory/demo/group_vars", fleet.inventory / "group_vars", dirs_exist_ok=True)
    (fleet.inventory / "hosts.yml").write_text(yaml.safe_dump(inventory))
    try:
        fleet.ok("demo_fleet.yml", image_wanted=["host-podman"])
        yield fleet
    finally:
        fleet.play("demo_fleet_clean.yml")
        shutil.rmtree(fleet.directory, ignore_errors=True)


@pytest.fixture
def odin(podman, tmp_path):
    """Something that answers where the host looks for the Odin API."""
    (tmp_path / "empty").mkdir()
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "empty"))
    with ThreadingHTTPServer((f"{NET}.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{NET}.1:{server.server_port}"
        server.shutdown()


def test_workers_run_on_podman_and_go_without_a_trace(podman, odin, tmp_path):
    settings = {"qsmr_project": PROJECT, "qsmr_drain_timeout": 5, "qsmr_config": {"ODIN_API_ROOT": odin}}
    snapshots = [make_snapshot(tmp_path, number) for number in (1, 2)]
    for snapshot in snapshots:
        podman.ok("workers.yml", qsmr_snapshot=str(snapshot), **settings)
    assert podman.ok("workers.yml", qsmr_snapshot=str(snapshots[1]), **settings).changed == {}
    limits = {"qsmr_workers_per_host": 2, "qsmr_worker_cpus": 0.5, "qsmr_worker_memory": "64m"}
    podman.ok("scale.yml", **settings, **limits)
    assert podman.ok("scale.yml", **settings, **limits).changed == {}
    podman.ok("logs.yml", **settings)
    podman.ok("prune.yml", qsmr_keep_releases=1, **settings)
    podman.ok("stop.yml", qsmr_remove=True, **settings)
    assert PROJECT not in podman.ssh(HOST, "podman ps -a; podman images; ls /opt/qsmr")
