"""Signed snapshots: keys and signatures as OpenSSL makes them, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from push_snapshots import files, layer, write_snapshot
from qsmr.errors import QsmrError
from qsmr.signature import SigningKey, TrustedKeys, environment_digest
from qsmr.snapshot import read_snapshot
from worker_snapshots import write_sums

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {"UWORKER_JOB_API_ROOT": "http://jobs/rest_api", "QSMR_CONFIG": "a"}


def openssl(*words: object) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, umask=0o077)


def new_key(directory: Path, name: str, algorithm: str = "ed25519") -> tuple[Path, Path]:
    """Private and public key, made as the docs say."""
    private, public = directory / f"{name}.key", directory / f"{name}.pub"
    openssl("genpkey", "-algorithm", algorithm, "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Key pairs by name: of the lab, and of somebody else."""
    directory = tmp_path_factory.mktemp("keys")
    return {name: new_key(directory, name) for name in ("lab", "stranger")}


@pytest.fixture
def snapshot(tmp_path, keys):
    """A snapshot that the lab's key has signed, by hand."""
    target = write_snapshot(tmp_path, 1, [layer(files(1))])
    write_env(target, ENVIRONMENT)
    manifest = json.loads((target / "snapshot.json").read_text())
    (target / "snapshot.json").write_text(json.dumps({**manifest, "environment": environment_digest(ENVIRONMENT)}))
    sign(target, keys["lab"][0])
    return target


def write_env(target: Path, environment: dict[str, str], password: object = 1) -> None:
    lines = {**environment, "UWORKER_JOB_API_PASSWORD": password}.items()
    (target / "worker.env").write_text("".join(f"{key}={value}\n" for key, value in lines))


def sign(target: Path, key: Path) -> None:
    write_sums(target)
    sums = target / "SHA256SUMS"
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", sums, "-out", f"{sums}.sig")


def check(target: Path, *trusted: Path | str) -> None:
    TrustedKeys(list(map(str, trusted))).check(read_snapshot(target))


def test_signature_of_a_trusted_key_is_taken(snapshot, keys, tmp_path):
    (_, lab), (_, stranger) = keys["lab"], keys["stranger"]
    check(snapshot, lab)
    check(snapshot, stranger, lab)
    check(snapshot, lab.read_text())
    (tmp_path / "both.pub").write_text(stranger.read_text() + lab.read_text())
    check(snapshot, tmp_path / "both.pub")
    write_env(snapshot, ENVIRONMENT, 2)
    check(snapshot, lab)


def test_unsigned_snapshot_is_refused(snapshot, keys):
    (snapshot / "SHA256SUMS.sig").unlink()
    with pytest.raises(QsmrError, match=rf"{snapshot} is not signed, .*lab.pub.*there is no .*SHA256SUMS.sig"):
        check(snapshot, keys["lab"][1])


def test_signature_of_another_key_is_refused(snapshot, keys):
    with pytest.raises(QsmrError, match=r"SHA256SUMS.sig is a signature of none of .*stranger.pub"):
        check(snapshot, keys["stranger"][1])


@pytest.mark.parametrize("signature", [b"", b"x" * 64, b"x" * 65])
def test_what_is_no_signature_is_refused(snapshot, keys, signature):
    (snapshot / "SHA256SUMS.sig").write_bytes(signature)
    with pytest.raises(QsmrError, match="is a signature of none"):
        check(snapshot, keys["lab"][1])


@pytest.mark.parametrize("name", ["docker-compose.yml", "start_worker.sh", "snapshot.json"])
def test_file_that_changed_is_refused_even_with_sums_made_anew(snapshot, keys, name):
    path = snapshot / name
    path.write_text(path.read_text() + " ")
    with pytest.raises(QsmrError, match=f"{name} changed since"):
        check(snapshot, keys["lab"][1])
    write_sums(snapshot)
    with pytest.raises(QsmrError, match=r"SHA256SUMS changed since"):
        check(snapshot, keys["lab"][1])


@pytest.mark.parametrize("changes", [{"UWORKER_JOB_API_ROOT": "http://evil/rest_api"}, {"QSMR_EXTRA": "1"}])
def test_environment_that_changed_is_refused(snapshot, keys, changes):
    write_env(snapshot, ENVIRONMENT | changes)
    with pytest.raises(QsmrError, match=r"worker.env is not what was signed"):
        check(snapshot, keys["lab"][1])


def test_check_mode_refuses_a_snapshot_that_would_be_signed_by_none_of_the_keys(keys):
    trusted = TrustedKeys([str(keys["lab"][1])])
    trusted.check_signer(SigningKey(keys["lab"][0]).public)
    for signer in ("", SigningKey(keys["stranger"][0]).public):
        with pytest.raises(QsmrError, match="would be signed by none of the qsmr_trusted_keys .*lab.pub"):
            trusted.check_signer(signer)


def test_private_key_that_others_may_use_is_refused(keys, tmp_path):
    key = tmp_path / "signing.key"
    key.write_bytes(keys["lab"][0].read_bytes())
    for mode in (0o640, 0o604, 0o620):
        key.chmod(mode)
        with pytest.raises(QsmrError, match=f"Others may use the signing key {key} .*: chmod 600 {key}"):
            SigningKey(key)
    key.chmod(0o400)
    SigningKey(key)


@pytest.mark.parametrize("kind", ["missing", "rubbish", "public", "x25519", "locked"])
def test_what_is_no_signing_key_is_told_so(keys, tmp_path, kind):
    key = tmp_path / "signing.key"
    if kind == "x25519":
        new_key(tmp_path, "signing", "x25519")
    elif kind == "locked":
        openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:x", "-out", key)
    elif kind != "missing":
        key.write_bytes(b"rubbish" if kind == "rubbish" else keys["lab"][1].read_bytes())
        key.chmod(0o600)
    with pytest.raises(QsmrError, match="cannot be read" if kind == "missing" else "is no Ed25519 key in PEM"):
        SigningKey(key)


@pytest.mark.parametrize(
    "text", [None, "", "ssh-ed25519 AAAA", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]
)
def test_what_is_no_trusted_key_is_told_so(tmp_path, text):
    path = tmp_path / "trusted.pub"
    if text is not None:
        path.write_text(text)
    with pytest.raises(QsmrError, match="Trusted key"):
        TrustedKeys([str(path)])


def workers(tmp_path: Path, snapshot: Path, trusted: Path) -> subprocess.CompletedProcess[str]:
    """workers.yml with two hosts that nobody can reach."""
    hosts = {name: {"ansible_host": "192.0.2.1", "ansible_ssh_timeout": 1} for name in ("h1", "h2")}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"children": {"workers": {"hosts": hosts}}}}))
    settings = {"qsmr_project": "demo", "qsmr_snapshot": str(snapshot), "qsmr_trusted_keys": [str(trusted)]}
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-i", tmp_path / "hosts.json",
         "-e", json.dumps({**settings, "qsmr_snapshot_dir": str(tmp_path), "ansible_ssh_executable": "/bin/false"}),
         "playbooks/workers.yml"],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip


def test_rollout_refuses_before_any_host_is_asked(snapshot, keys, tmp_path):
    refused = workers(tmp_path, snapshot, keys["stranger"][1])
    screen = " ".join(refused.stdout.split())
    assert refused.returncode
    assert "is a signature of none of the qsmr_trusted_keys" in screen
    assert "What the host has" not in screen
    # The right key gets as far as the hosts.
    assert "h1, h2 it could not be checked" in " ".join(workers(tmp_path, snapshot, keys["lab"][1]).stdout.split())
