"""The demo's secrets are where they belong, and nowhere else."""

from __future__ import annotations

import functools
import json
import shlex
import subprocess

import pytest
from container_fleet import NAME, Fleet, docker
from invariants import leaks_in_files, leaks_on_host
from qsmr.release import parse_env
from qsmr.signature import SigningKey, environment_digest
from worker_snapshots import make_snapshot, write_sums


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
    assert not leaks_in_files(fleet.directory, secrets)


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
    """And their workers do not log them."""
    for host in fleet.hosts:
        assert not leaks_on_host(functools.partial(fleet.ssh, host), secrets)


def test_nothing_can_be_written_by_others(fleet):
    for host in fleet.hosts:
        assert fleet.ssh(host, "find /opt/qsmr ! -type l -perm /022 -printf '%p %m\n'") == ""
        closed = fleet.ssh(
            host, "find /opt/qsmr -name worker.env -perm /077; find /opt/qsmr -mindepth 1 -type d -perm /007"
        )
        assert closed == ""
    snapshots = fleet.directory.glob("qsmr_snapshot_*")
    for path in (path for place in (fleet.directory / "state", *snapshots) for path in (place, *place.rglob("*"))):
        assert path.stat().st_mode & 0o022 == 0, path


def test_signed_snapshot_gets_to_a_directory_whose_name_a_shell_would_take_apart(fleet, tmp_path):
    snapshot = make_snapshot(tmp_path, 1, project="quoted")
    manifest = json.loads((snapshot / "snapshot.json").read_text())
    environment = parse_env((snapshot / "worker.env").read_text())
    (snapshot / "snapshot.json").write_text(json.dumps({**manifest, "environment": environment_digest(environment)}))
    write_sums(snapshot)
    key, trusted = tmp_path / "signing.key", tmp_path / "lab.pub"
    for words in (["genpkey", "-algorithm", "ed25519", "-out", key], ["pkey", "-in", key, "-pubout", "-out", trusted]):
        subprocess.run(["openssl", *words], check=True, capture_output=True, umask=0o077)
    directory = '/opt/qsmr/it\'s "here" $(touch qsmr-trace) `touch qsmr-trace`; touch qsmr-trace #'

    (snapshot / "SHA256SUMS.sig").write_bytes(SigningKey(key).sign(snapshot))
    try:
        done = fleet.play(
            "workers.yml", cmdline="--limit host1", qsmr_project="quoted", qsmr_snapshot=str(snapshot),
            qsmr_trusted_keys=[str(trusted)], qsmr_host_dir=directory, qsmr_min_healthy_time=0,
        )  # fmt: skip
        assert done.rc == 0, done.stdout
        release = f"{directory}/quoted/current/docker-compose.yml"
        assert "uworker" in fleet.ssh("host1", f"cat {shlex.quote(release)}")
        for host in fleet.hosts:
            assert fleet.ssh(host, "find / -xdev -name qsmr-trace") == ""
    finally:
        fleet.ssh(
            "host1",
            "docker ps -aq --filter label=com.docker.compose.project=qsmr-quoted | xargs -r docker rm -f; "
            f"docker images -q qsmr_snapshot_quoted | xargs -r docker rmi -f; rm -rf {shlex.quote(directory)}",
        )
