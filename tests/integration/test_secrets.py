"""The demo's secrets are where they belong, and nowhere else."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from container_fleet import NAME, Fleet, docker


@pytest.fixture(scope="module")
def secrets(fleet: Fleet) -> list[str]:
    return [fleet.settings.odin_secret, fleet.settings.job_api_password]


@pytest.mark.parametrize(
    "playbook", ["services.yml", "snapshot.yml", "workers.yml", "jobs.yml", "results.yml", "status.yml"]
)
def test_no_secret_on_the_screen_or_in_artifacts(fleet, secrets, playbook):
    run = fleet.ok(playbook, cmdline="-vvv --diff")
    assert not [secret for secret in secrets if secret in run.stdout]
    for path in fleet.artifacts.rglob("*"):
        if path.is_file():
            assert not [secret for secret in secrets if secret.encode() in path.read_bytes()], path


def test_no_secret_in_the_files_that_are_kept(fleet, secrets):
    """The config file, worker.env and the services' secret files hold them, and nobody else can read those."""
    allowed = {"demo.conf", "worker.env", "odin/secret_key", "jobservice/admin_password"}
    for path in fleet.directory.rglob("*"):
        if path.is_file() and any(secret.encode() in path.read_bytes() for secret in secrets):
            assert {path.name, f"{path.parent.name}/{path.name}"} & allowed, path
            assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0, path


def test_no_secret_in_images_or_logs(fleet, secrets):
    images = docker("image", "ls", "-q", "--filter", "label=org.qsmr.fleet.inputs").split()
    assert images
    for image in set(images):
        told = docker("image", "inspect", image)
        told += docker("history", "--no-trunc", image)
        assert not [secret for secret in secrets if secret in told]
    for container in ("jobservice", "odin"):
        log = subprocess.run(["docker", "logs", f"{NAME}-{container}"], check=True, capture_output=True, text=True)
        told = log.stdout + log.stderr
        told += docker("inspect", f"{NAME}-{container}")
        assert not [secret for secret in secrets if secret in told]


def test_hosts_keep_them_in_the_release_env_file_only(fleet, secrets):
    for host in fleet.hosts:
        for secret in secrets:
            places = "/opt/qsmr /root /home /tmp /var/tmp /var/log"
            found = fleet.ssh(host, f"grep -rlF -- {shlex.quote(secret)} {places} || true")
            assert all(path.endswith("/worker.env") for path in found.split())


def test_workers_do_not_log_them(fleet, secrets):
    for host in fleet.hosts:
        told = fleet.ssh(host, "for c in $(docker ps -q); do docker logs $c 2>&1; done")
        assert told
        assert not [secret for secret in secrets if secret in told]
