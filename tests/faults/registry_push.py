"""Pushing by way of a registry: a real one, with TLS and a login, and the hosts' real Docker."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from container_fleet import NET, REPOSITORY, Fleet, docker
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from push_snapshots import files, layer, write_snapshot

ADDRESS, PORT = f"{NET}.1", 5443
REGISTRY = f"{ADDRESS}:{PORT}"
PASSWORD = "not+a/real=one"
HTPASSWD = "ana:$2y$05$f4j1NXph3LOXiFjkLzRHEuoPaz94i0A5DzpCtQchas5O9vShkvF62\n"  # of that password, by bcrypt
CONFIG = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {directory}/data}}}}
http:
  addr: {registry}
  tls: {{certificate: {directory}/ca.crt, key: {directory}/key.pem}}
auth: {{htpasswd: {{realm: lab, path: {directory}/htpasswd}}}}
"""


@pytest.fixture(scope="module")
def registry(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Debian's docker-registry; this machine's Docker and the hosts' trust its certificate."""
    directory = tmp_path_factory.mktemp("registry")
    write_certificate(directory)
    (directory / "htpasswd").write_text(HTPASSWD)
    (directory / "config.yml").write_text(CONFIG.format(directory=directory, registry=REGISTRY))
    trusted = Path(f"/etc/docker/certs.d/{REGISTRY}")
    trusted.mkdir(parents=True)
    (trusted / "ca.crt").write_bytes((directory / "ca.crt").read_bytes())
    for host in fleet.hosts:
        fleet.ssh(host, f"mkdir -p {trusted}")
        docker("cp", str(directory / "ca.crt"), f"{fleet.container(host)}:{trusted}/ca.crt")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [program(), "serve", str(directory / "config.yml")], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        wait_until_it_answers(directory)
        yield directory
    finally:
        process.terminate()
        process.wait()
        (trusted / "ca.crt").unlink()
        trusted.rmdir()


def program() -> str:
    """Debian's docker-registry, unpacked only: installed, it would be a service on this machine."""
    place = REPOSITORY / "build/docker-registry"
    if not (place / "usr/bin/docker-registry").exists():
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "-qq", "download", "docker-registry"], cwd=place, check=True)
        [package] = place.glob("*.deb")
        subprocess.run(["dpkg-deb", "--extract", package, place], check=True)
        package.unlink()
    return str(place / "usr/bin/docker-registry")


def write_certificate(directory: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "ca.crt").write_bytes(certificate.public_bytes(pem))
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "key.pem").write_bytes(private)


def wait_until_it_answers(directory: Path) -> None:
    for _ in range(100):
        try:
            requests.get(f"https://{REGISTRY}/v2/", verify=str(directory / "ca.crt"), timeout=5)
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError((directory / "log").read_text())


def test_hosts_pull_what_was_pushed_once(fleet: Fleet, registry: Path, tmp_path: Path) -> None:
    snapshot = write_snapshot(tmp_path, 7, [layer(files(71)), layer(files(72))])
    name = "qsmr_snapshot_demo:251101-0000000007"
    variables = {
        "snapshot": str(snapshot),
        "qsmr_push_mode": "registry",
        "qsmr_push_registry": f"{REGISTRY}/lab",
        "qsmr_registry_username": "ana",
    }
    playbook = "../tests/integration/push.yml"

    refused = fleet.play(playbook, **variables, qsmr_registry_password="wrong")
    assert refused.rc
    assert f"Login to {REGISTRY} as ana failed" in refused.stdout

    result = fleet.ok(playbook, **variables, qsmr_registry_password=PASSWORD, cmdline="-v")
    try:
        assert PASSWORD not in result.stdout
        pulled = result.task_results("Image of the snapshot is pulled")
        assert {host: answer["actions"] for host, answer in pulled.items()} == {
            host: [f"pulled {name}"] for host in fleet.hosts
        }
        for host in fleet.hosts:
            assert fleet.ssh(host, "docker images --format '{{.Repository}}:{{.Tag}}' qsmr_snapshot_demo").split()
            assert not fleet.ssh(host, f"docker images -q {REGISTRY}/lab/qsmr_snapshot_demo").strip()
            assert not fleet.ssh(host, "cat ~/.docker/config.json 2>/dev/null || true").strip()
        log = (registry / "log").read_text()
        assert log.count(f'"PUT /v2/lab/qsmr_snapshot_demo/manifests/{name.partition(":")[2]}') == 1
        assert not fleet.ok(playbook, **variables, qsmr_registry_password=PASSWORD).changed
    finally:
        for host in fleet.hosts:
            fleet.ssh(host, f"docker image rm --force {name} || true")
