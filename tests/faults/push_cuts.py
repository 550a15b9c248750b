"""Pushes that are cut, through real SSH: each goes on where it was, and what was sent again is counted."""

from __future__ import annotations

import hashlib
import random
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from container_fleet import NET, REPOSITORY, Fleet, docker
from qsmr import transport
from qsmr.transport import Job, Outcome, Report, Start, agent_command, distribute

STAGING = "/var/tmp/qsmr-cuts"  # noqa: S108 on hosts of our own
SIZE = 30_000_000
RATE = 10e6  # bytes a second: a push takes three seconds
UNDER_WAY = 17 * transport.CHUNK  # what can be lost on the way to one host


class Blob(NamedTuple):
    sha256: str
    size: int
    path: Path


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Blob:
    content = random.Random(4).randbytes(SIZE)
    path = tmp_path_factory.mktemp("cuts") / "blob"
    path.write_bytes(content)
    return Blob(hashlib.sha256(content).hexdigest(), SIZE, path)


@pytest.fixture(autouse=True)
def _clean(fleet: Fleet) -> Iterator[None]:
    yield
    for host in fleet.hosts:
        fleet.ssh(host, f"umount {STAGING} 2>/dev/null; rm -rf {STAGING}")


def ssh(fleet: Fleet, host: str) -> list[str]:
    user, number = ("root", 21) if host == "host1" else ("qsmr", 20 + int(host[-1]))
    options = [f"UserKnownHostsFile={fleet.directory}/ssh/known_hosts", "BatchMode=yes", "ConnectTimeout=5"]
    words = [word for option in options for word in ("-o", option)]
    return ["ssh", "-F", "none", "-i", f"{fleet.directory}/ssh/id_ed25519", *words, f"{user}@{NET}.{number}"]


def job(fleet: Fleet, host: str, blob: Blob) -> Job:
    command = shlex.join(["/bin/sh", "-c", shlex.join(agent_command("/usr/bin/python3"))])
    return Job([blob], STAGING, lambda: Start([*ssh(fleet, host), command]))


def push(fleet: Fleet, blob: Blob, hosts: list[str], cut: Callable[[], object] = lambda: None) -> dict[str, Outcome]:
    """``cut`` happens, beside the push, once a third of the bytes are there."""
    done: list[threading.Thread] = []

    def look(report: Report) -> None:
        if not done and report.held >= report.total / 3:
            done.append(threading.Thread(target=cut))
            done[0].start()

    jobs = {host: job(fleet, host, blob) for host in hosts}
    try:
        return distribute(jobs, relay=len(hosts) > 1, bandwidth=RATE, report=look)
    finally:
        for thread in done:
            thread.join()


def check(fleet: Fleet, blob: Blob, *hosts: str) -> None:
    for host in hosts:
        assert fleet.ssh(host, f"sha256sum {STAGING}/{blob.sha256}").split()[0] == blob.sha256
        assert fleet.ssh(host, f"ls {STAGING}").split() == [blob.sha256]
        assert "qsmr-push" not in fleet.ssh(host, "ps ax")


def test_the_session_is_killed_on_the_host(fleet: Fleet, blob: Blob) -> None:
    outcome = push(fleet, blob, ["host2"], lambda: fleet.ssh("host2", "pkill -KILL -u qsmr sshd"))["host2"]
    assert not outcome.fault
    check(fleet, blob, "host2")
    assert SIZE <= outcome.sent == SIZE + outcome.resent
    assert outcome.resent <= UNDER_WAY


def test_the_link_is_gone_for_a_while(fleet: Fleet, blob: Blob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "SILENCE", 2.0)

    def cut() -> None:
        fleet.ssh("host2", "ip link set eth0 down")
        time.sleep(5)
        fleet.ssh("host2", "ip link set eth0 up")

    outcome = push(fleet, blob, ["host2"], cut)["host2"]
    if outcome.fault:  # it may have been too long for one run
        first, outcome = outcome, push(fleet, blob, ["host2"])["host2"]
        assert outcome.resumed >= SIZE // 3
        outcome.resent += first.resent
    assert not outcome.fault
    check(fleet, blob, "host2")
    assert outcome.resent <= UNDER_WAY


def test_the_host_is_restarted(fleet: Fleet, blob: Blob) -> None:
    first = push(fleet, blob, ["host2"], lambda: docker("restart", "--time", "0", fleet.container("host2")))["host2"]
    second = push(fleet, blob, ["host2"])["host2"]
    assert not second.fault
    check(fleet, blob, "host2")
    assert second.resumed >= SIZE // 3
    assert first.sent + second.sent <= SIZE + 2 * UNDER_WAY


def test_the_control_node_is_killed(fleet: Fleet, blob: Blob, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    command = [*ssh(fleet, "host2"), shlex.join(["/bin/sh", "-c", shlex.join(agent_command("/usr/bin/python3"))])]
    script.write_text(
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'plugins/module_utils')!r})\n"
        "from pathlib import Path; from types import SimpleNamespace\n"
        "from qsmr.transport import Job, Start, distribute\n"
        f"blob = SimpleNamespace(sha256={blob.sha256!r}, size={SIZE}, path=Path({str(blob.path)!r}))\n"
        f"job = Job([blob], {STAGING!r}, lambda: Start({command!r}))\n"
        f"distribute({{'host2': job}}, relay=False, bandwidth={RATE},"
        " report=lambda report: print(report.held, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout
        for line in run.stdout:
            if int(line) >= SIZE // 3:
                run.kill()
                break
    outcome = push(fleet, blob, ["host2"])["host2"]
    assert not outcome.fault
    check(fleet, blob, "host2")
    assert outcome.resumed >= SIZE // 3
    assert outcome.sent == SIZE - outcome.resumed


def test_the_disk_is_full_and_then_freed(fleet: Fleet, blob: Blob) -> None:
    room = f"mkdir -p {STAGING} && mount -t tmpfs -o size=40m none {STAGING} && chown qsmr {STAGING}"
    fleet.ssh("host2", f"{room} && head -c 5000000 /dev/zero > {STAGING}/other")

    def fill() -> None:
        fleet.ssh("host2", f"head -c 99000000 /dev/zero >> {STAGING}/other || true")

    first = push(fleet, blob, ["host2"], fill)["host2"]
    assert first.fault.startswith(f"{STAGING}: No space left on device (make room")
    again = push(fleet, blob, ["host2"])["host2"]
    assert "MB are free" in again.fault
    assert again.sent == 0
    fleet.ssh("host2", f"rm {STAGING}/other")
    second = push(fleet, blob, ["host2"])["host2"]
    assert not second.fault
    check(fleet, blob, "host2")
    assert second.resumed >= SIZE // 3
    assert second.sent == SIZE - second.resumed


def test_one_of_three_is_lost_and_two_go_on(fleet: Fleet, blob: Blob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "SILENCE", 4.0)
    monkeypatch.setattr(transport, "ATTEMPTS", 1)
    hosts = list(fleet.hosts)
    try:
        outcomes = push(fleet, blob, hosts, lambda: fleet.ssh("host2", "ip link set eth0 down"))
    finally:
        fleet.ssh("host2", "ip link set eth0 up")
    assert outcomes["host2"].fault
    assert not outcomes["host1"].fault
    assert not outcomes["host3"].fault
    check(fleet, blob, "host1", "host3")
    assert sum(outcome.sent for outcome in outcomes.values()) <= 1.5 * SIZE
