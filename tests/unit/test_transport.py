"""Pushing blobs to hosts that are processes on this machine: the agents are real, SSH is not."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from push_snapshots import write_snapshot
from qsmr import transport
from qsmr.errors import QsmrError
from qsmr.hostagent import CHUNK, MAKER
from qsmr.hostmaker import order_to_make, package
from qsmr.transport import Job, Outcome, Report, Start, distribute

NO_DOCKER = {"DOCKER_HOST": "unix:///nowhere"}
UNREACHABLE = "192.0.2.1"  # an address that no host here has: nobody can listen there


class Blob(NamedTuple):
    sha256: str
    size: int
    path: Path


class Lab:
    """Hosts as directories, and the agents that run for them."""

    def __init__(self, root: Path, count: int = 1) -> None:
        self.root = root
        self.names = [f"host{n}" for n in range(1, count + 1)]
        self.agents: dict[str, list[int]] = {name: [] for name in self.names}
        self.addresses = dict.fromkeys(self.names, "127.0.0.1")
        self.tricks: dict[str, str] = {}  # Python that a host runs in its agent before it starts
        self.sessions = dict.fromkeys(self.names, 0)

    def staging(self, name: str) -> Path:
        return self.root / name / "staging"

    def start(self, name: str) -> Start:
        command = transport.agent_command(sys.executable)
        if name in self.tricks:
            # The agent's source is changed on its way in.
            changed = f"take(int(take(8))).replace(b'if __name__', {self.tricks[name].encode()!r} + b'if __name__')"
            command[2] = transport._BOOTSTRAP.replace("take(int(take(8)))", changed)
        self.sessions[name] += 1
        pid = self.root / f"{name}.pid"
        shell = f'echo $$ > {pid}; exec "$0" "$@"'
        environment = {**os.environ, "SSH_CONNECTION": f"127.0.0.1 1 {self.addresses[name]} 22"}
        return Start(["sh", "-c", shell, *command], {"env": environment})

    def pid(self, name: str) -> int:
        return int((self.root / f"{name}.pid").read_text())

    def push(
        self, blobs: list[Blob], *, relay: bool = False, report: Callable[[Report], None] = lambda _report: None, **more
    ) -> dict[str, Outcome]:
        jobs = {name: Job(blobs, str(self.staging(name)), lambda name=name: self.start(name)) for name in self.names}
        return distribute(jobs, relay=relay, report=report, **more)

    def content(self, name: str, blob: Blob) -> bytes:
        return (self.staging(name) / blob.sha256).read_bytes()


def blob(directory: Path, size: int, seed: int = 1) -> Blob:
    content = random.Random(seed).randbytes(size)
    sha256 = hashlib.sha256(content).hexdigest()
    path = directory / sha256
    path.write_bytes(content)
    return Blob(sha256, size, path)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PAUSE", 0.1)


def at_share(share: float, act: Callable[[], object]) -> Callable[[Report], None]:
    """Do something once that share of the bytes is there."""
    done = []

    def look(report: Report) -> None:
        if not done and report.held >= share * report.total:
            done.append(True)
            act()

    return look


def test_blobs_arrive_whole_and_leave_nothing_else(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    blobs = [blob(tmp_path, 5 * CHUNK + 17, 1), blob(tmp_path, CHUNK, 2), blob(tmp_path, 0, 3)]
    outcome = lab.push(blobs)["host1"]
    assert not outcome.fault
    assert [lab.content("host1", each) for each in blobs] == [each.path.read_bytes() for each in blobs]
    assert {path.name for path in lab.staging("host1").iterdir()} == {each.sha256 for each in blobs}
    assert (outcome.sent, outcome.resent, outcome.resumed) == (sum(each.size for each in blobs), 0, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(lab.pid("host1"), 0)


def test_a_blob_that_is_there_is_not_sent_again(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    one = blob(tmp_path, 3 * CHUNK)
    lab.push([one])
    outcome = lab.push([one])["host1"]
    assert (outcome.fault, outcome.sent, outcome.resumed) == ("", 0, one.size)


def test_what_a_push_is_at_is_locked_until_its_end(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.staging("host1").mkdir(parents=True)
    directory = os.open(lab.staging("host1"), os.O_RDONLY)

    def prune() -> None:
        with pytest.raises(BlockingIOError):
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        looked.append(True)

    looked: list[bool] = []
    lab.push([blob(tmp_path, 40 * CHUNK)], bandwidth=10e6, report=at_share(0.3, prune))
    assert looked
    fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_bytes_that_rot_on_the_host_are_found_and_fetched_again(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    one = blob(tmp_path, 8 * CHUNK)
    lab.push([one])
    path = lab.staging("host1") / one.sha256
    content = bytearray(path.read_bytes())
    content[3 * CHUNK + 5] ^= 1
    path.write_bytes(content)
    outcome = lab.push([one])["host1"]
    assert (outcome.fault, outcome.sent) == ("", CHUNK)
    assert lab.content("host1", one) == one.path.read_bytes()


def test_a_damaged_blob_here_goes_nowhere_and_is_named(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    one = blob(tmp_path, 2 * CHUNK)
    one.path.write_bytes(b"x" * one.size)
    with pytest.raises(QsmrError, match=f"{one.path} is damaged"):
        lab.push([one])
    assert not (lab.staging("host1") / one.sha256).exists()


def test_a_killed_agent_is_started_again_and_goes_on(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    one = blob(tmp_path, 40 * CHUNK)
    outcome = lab.push([one], bandwidth=10e6, report=at_share(0.3, lambda: os.kill(lab.pid("host1"), signal.SIGKILL)))[
        "host1"
    ]
    assert not outcome.fault
    assert lab.sessions["host1"] == 2
    assert lab.content("host1", one) == one.path.read_bytes()
    assert outcome.sent == one.size + outcome.resent
    assert outcome.resent <= 16 * CHUNK


def test_a_run_after_kill_9_of_the_control_node_sends_what_was_missing(tmp_path: Path) -> None:
    one = blob(tmp_path, 60 * CHUNK)
    script = tmp_path / "run.py"
    script.write_text(
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path; from test_transport import Blob, Lab\n"
        f"Lab(Path(sys.argv[1])).push([Blob({one.sha256!r}, {one.size}, Path({str(one.path)!r}))], bandwidth=5e6)\n"
    )
    sources = [Path(transport.__file__).parents[1], Path(__file__).parent, Path(__file__).parents[1]]
    run = subprocess.Popen([sys.executable, script, tmp_path, *sources])
    part = tmp_path / "host1/staging" / f"{one.sha256}.part"
    wait_until(lambda: part.exists() and part.stat().st_blocks * 512 > 20 * CHUNK)
    run.kill()
    run.wait()
    lab = Lab(tmp_path)
    wait_until(lambda: not alive(lab.pid("host1")))  # the agent ends with its session
    outcome = lab.push([one])["host1"]
    assert not outcome.fault
    assert 20 * CHUNK <= outcome.resumed < one.size
    assert outcome.sent == one.size - outcome.resumed
    assert lab.content("host1", one) == one.path.read_bytes()


def test_a_fault_of_the_host_is_told_in_one_line(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    lab.staging("host1").parent.mkdir()
    lab.staging("host1").write_text("a file where the directory should be")
    outcome = lab.push([blob(tmp_path, CHUNK)])["host1"]
    assert outcome.fault == f"{lab.staging('host1')}: File exists"
    assert lab.sessions["host1"] == 1


def test_a_full_disk_is_told_and_what_came_before_is_kept(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    one = blob(tmp_path, 20 * CHUNK)
    lab.tricks["host1"] = (
        "put = Part.put\n"
        "def full(part, index, data):\n"
        "    if index >= 12: raise OSError(28, 'No space left on device', str(part.part))\n"
        "    return put(part, index, data)\n"
        "Part.put = full\n"
    )
    outcome = lab.push([one])["host1"]
    assert outcome.fault.startswith(f"{lab.staging('host1') / one.sha256}.part: No space left on device (make room")
    del lab.tricks["host1"]
    outcome = lab.push([one])["host1"]
    assert (outcome.fault, outcome.resumed) == ("", 12 * CHUNK)


def test_a_command_that_fails_is_told_in_its_own_words(tmp_path: Path) -> None:
    def start() -> Start:
        return Start(["sh", "-c", "echo ssh: connect to host x port 22: Connection refused >&2; exit 255"])

    outcome = distribute({"host1": Job([blob(tmp_path, 1)], str(tmp_path), start)}, relay=False)["host1"]
    assert outcome.unreachable
    assert outcome.fault.endswith("ssh: connect to host x port 22: Connection refused")


def test_a_host_that_cannot_be_started_fails_alone(tmp_path: Path) -> None:
    def start() -> Start:
        raise QsmrError("an image cannot be sent with ansible_connection docker: use ssh")

    lab = Lab(tmp_path)
    one = blob(tmp_path, CHUNK)
    there = Job([one], str(lab.staging("host1")), lambda: lab.start("host1"))
    outcomes = distribute({"host1": there, "host2": Job([one], str(tmp_path), start)}, relay=False)
    assert not outcomes["host1"].fault
    assert outcomes["host2"].fault == "an image cannot be sent with ansible_connection docker: use ssh"


def test_bandwidth_is_kept_to(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 2)
    began = time.monotonic()
    lab.push([blob(tmp_path, 4 * CHUNK)], bandwidth=CHUNK * 4)
    assert time.monotonic() - began > 1.5


@pytest.mark.parametrize("count", [2, 5])
def test_hosts_pass_on_what_leaves_the_control_node_once(tmp_path: Path, count: int) -> None:
    lab = Lab(tmp_path, count)
    one, two = blob(tmp_path, 60 * CHUNK + 5, 1), blob(tmp_path, 20 * CHUNK, 2)
    outcomes = lab.push([one, two], relay=True, bandwidth=20e6)
    for name, outcome in outcomes.items():
        assert not outcome.fault
        assert not outcome.notes
        assert lab.content(name, one) == one.path.read_bytes()
        assert outcome.sent + outcome.relayed >= one.size + two.size
    assert sum(outcome.sent for outcome in outcomes.values()) <= 1.1 * (one.size + two.size)


def test_hosts_that_have_it_give_to_those_that_do_not(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 2)
    one = blob(tmp_path, 60 * CHUNK)
    lab.names = ["host1"]
    lab.push([one])
    lab.names = ["host1", "host2"]
    outcomes = lab.push([one], relay=True, bandwidth=2e6)
    assert outcomes["host2"].relayed > 0.8 * one.size
    assert lab.content("host2", one) == one.path.read_bytes()


def test_hosts_that_do_not_reach_each_other_are_served_from_here(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 3)
    lab.addresses = dict.fromkeys(lab.names, UNREACHABLE)
    one = blob(tmp_path, 30 * CHUNK)
    outcomes = lab.push([one], relay=True)
    assert {outcome.fault for outcome in outcomes.values()} == {""}
    assert [outcome.sent for outcome in outcomes.values()] == [one.size] * 3


def test_a_lying_host_is_named_and_corrupts_nobody(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 4)
    lab.tricks["host2"] = "Part.read, right = (lambda part, index: b'x' * len(right(part, index))), Part.read\n"
    one = blob(tmp_path, 60 * CHUNK)
    outcomes = lab.push([one], relay=True, bandwidth=20e6)
    for name in ("host1", "host3", "host4"):
        assert not outcomes[name].fault
        assert lab.content(name, one) == one.path.read_bytes()
    notes = [note for outcome in outcomes.values() for note in outcome.notes]
    assert notes
    assert all("host2 passed on wrong bytes" in note for note in notes)
    assert len(notes) <= 3 * 4  # at most what was asked of it before it was found out


# What a host says after it has got its orders. Most of these ended everybody's push.
MALFORMED = {
    "chunk that does not exist": '{"kind": "got", "chunks": "0x1%s", "relayed": false}' % ("0" * 40),
    "bad chunk that does not exist": '{"kind": "bad", "n": 999999}',
    "bad chunk before any was sent": '{"kind": "bad", "n": 0}',
    "no chunk at all": '{"kind": "bad", "n": -1}',
    "blob of another size": '{"kind": "holds", "first": 0, "count": 9000000000, "chunks": "0x0"}',
    "chunks of no blob": '{"kind": "holds", "first": 0, "count": 40, "chunks": "0xf%s"}' % ("0" * 40),
    "blob of no name": '{"kind": "done", "sha256": "00"}',
    "list": "[1, 2]",
    "number": "7",
    "brackets": "[" * 100_000,
    "infinite size": '{"kind": "beat", "size": 1e999}',
    "words of a start file": "Welcome to host2!",
    "letters of another alphabet": "{\xff",
    "fault in numbers": '{"kind": "fault", "text": [1]}',
    "frame without its parts": '{"kind": "ready"}',
    "port that cannot be": '{"kind": "ready", "address": "127.0.0.1", "port": 70000}',
    "address that is none": '{"kind": "ready", "address": 7, "port": 70}',
}
SAYS = """
_start = Agent._start
async def start(agent, frame, credential):
    agent._control._writer.write({line!r} + b"\\n")
    await _start(agent, frame, credential)
Agent._start = start
"""


@pytest.mark.parametrize("line", MALFORMED.values(), ids=MALFORMED)
def test_what_a_host_says_out_of_form_costs_that_host_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(transport, "ATTEMPTS", 1)
    lab = Lab(tmp_path, 3)
    lab.tricks["host2"] = SAYS.format(line=line.encode("latin-1"))
    one = blob(tmp_path, 40 * CHUNK)
    outcomes = lab.push([one], relay=True)
    assert lab.sessions == dict.fromkeys(lab.names, 1)
    for name in ("host1", "host3"):
        assert not outcomes[name].fault
        assert lab.content(name, one) == one.path.read_bytes()
    assert "out of form" in outcomes["host2"].fault or "[1]" in outcomes["host2"].fault


TELLS = """
_tell = Channel.send
def told(channel, kind, payload=b"", **values):
    if kind == "have":
        channel._writer.write({line!r} + b"\\n")
    _tell(channel, kind, payload, **values)
Channel.send = told
"""


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "peer", "index": 1e999}',
        '{"kind": "have", "chunks": 7}',
        '{"kind": "get", "n": 1e999}',
        '{"kind": "get", "n": -5}',
        '{"kind": "chunk", "n": 3}',
        "[1]",
        "[" * 100_000,
    ],
)
def test_what_a_host_tells_others_out_of_form_costs_none_of_them(tmp_path: Path, line: str) -> None:
    """They stop to trade with it; all of them get the blob, the malformed one, too, from here."""
    lab = Lab(tmp_path, 3)
    lab.tricks["host2"] = TELLS.format(line=line.encode())
    one = blob(tmp_path, 40 * CHUNK)
    outcomes = lab.push([one], relay=True)
    assert {name: outcome.fault for name, outcome in outcomes.items()} == dict.fromkeys(lab.names, "")
    assert lab.sessions == dict.fromkeys(lab.names, 1)


def test_host_that_takes_itself_for_another_costs_nobody_a_session(tmp_path: Path) -> None:
    """What the others tell of it is of a host that does not exist."""
    lab = Lab(tmp_path, 3)
    lab.tricks["host2"] = (
        "_started = Agent._start\n"
        "async def start(agent, frame, credential):\n"
        "    await _started(agent, {**frame, 'index': 999}, credential)\n"
        "Agent._start = start\n"
    )
    one = blob(tmp_path, 40 * CHUNK)
    outcomes = lab.push([one], relay=True)
    assert [outcome.fault for outcome in outcomes.values()] == [""] * 3
    assert lab.sessions == dict.fromkeys(lab.names, 1)


def test_command_that_cannot_be_started_here_costs_that_host_alone(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 2)
    one = blob(tmp_path, CHUNK)
    jobs = {name: Job([one], str(lab.staging(name)), lambda name=name: lab.start(name)) for name in lab.names}
    jobs["host2"] = Job([one], str(lab.staging("host2")), lambda: Start(["/nowhere/ssh"]))
    outcomes = distribute(jobs, relay=False)
    assert (outcomes["host1"].fault, lab.content("host1", one)) == ("", one.path.read_bytes())
    assert outcomes["host2"].fault.startswith("/nowhere/ssh cannot be started here: ")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["0x1", "0xfff"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
KINDS = st.sampled_from(["ready", "holds", "got", "done", "made", "link", "liar", "bad", "fault", "beat"])
KEYS = st.sampled_from(
    ["address", "port", "first", "count", "chunks", "relayed", "sha256", "well", "peer", "up", "n", "text", "size"]
)
FRAMES = st.one_of(
    st.binary(max_size=60),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda kind, values: json.dumps({"kind": kind, **values}).encode(),
        KINDS | VALUES,
        st.dictionaries(KEYS, VALUES | st.integers(0, 5), max_size=6),
    ),
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Blob:
    return blob(tmp_path_factory.mktemp("fuzz"), 3 * CHUNK)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FRAMES, max_size=6))
def test_no_words_of_a_host_end_the_push_of_others(small: Blob, frames: list[bytes]) -> None:
    """Only what the session of that one host is lost by, whatever it says."""

    async def talk() -> None:
        push = transport._Push(dict.fromkeys(["a", "b"], Job([small], "/s", lambda: Start([]))), True, 0, 0, print)
        for file in push._files.values():
            file.hash()
        host, reader = push._hosts[0], asyncio.StreamReader(limit=transport.LINE_LIMIT)
        writer = Mock(is_closing=lambda: False)
        host.begin(transport.Channel(reader, writer, 0))
        push._hosts[1].begin(transport.Channel(asyncio.StreamReader(), writer, 0))
        host.port = 0
        push._announce(host)
        reader.feed_data(b"\n".join([*frames, b""]))
        reader.feed_eof()
        await push._hear(host)

    with pytest.raises((*transport.LOST, transport._Lost)):
        asyncio.run(talk())


def test_a_stopped_host_delays_nobody_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "SILENCE", 60.0)
    monkeypatch.setattr(transport, "ATTEMPTS", 1)
    lab = Lab(tmp_path, 4)
    one = blob(tmp_path, 80 * CHUNK)
    stop = at_share(0.3, lambda: os.kill(lab.pid("host2"), signal.SIGSTOP))

    def during(report: Report) -> None:
        stop(report)
        if report.complete == 3:
            kill(lab.pid("host2"))

    outcomes = lab.push([one], relay=True, bandwidth=10e6, report=during)
    assert outcomes["host2"].fault
    for name in ("host1", "host3", "host4"):
        assert not outcomes[name].fault
        assert lab.content(name, one) == one.path.read_bytes()
        assert outcomes[name].seconds < 30  # they did not wait for the session to be given up
    assert sum(outcome.sent for outcome in outcomes.values()) < 1.5 * one.size


def test_nobody_without_the_credential_is_let_in(tmp_path: Path) -> None:
    import socket
    import ssl

    lab = Lab(tmp_path, 2)
    lab.tricks = dict.fromkeys(
        lab.names,
        "_tell = Channel.send\n"
        "def told(channel, kind, payload=b'', **values):\n"
        f"    if kind == 'ready': Path({str(tmp_path)!r}, 'port').write_text(str(values['port']))\n"
        "    _tell(channel, kind, payload, **values)\n"
        "Channel.send = told\n",
    )
    refused = []

    def knock() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        port = int((tmp_path / "port").read_text())
        try:
            with (
                socket.create_connection(("127.0.0.1", port), 3) as plain,
                context.wrap_socket(plain) as connection,
            ):
                connection.sendall(b'{"kind": "peer", "index": 1}\n{"kind": "get", "n": 0}\n')
                refused.append(connection.recv(1) == b"")
        except OSError:
            refused.append(True)

    thread = threading.Thread(target=knock)
    one = blob(tmp_path, 40 * CHUNK)
    lab.push([one], relay=True, bandwidth=10e6, report=at_share(0.2, thread.start))
    thread.join()
    assert refused == [True]


def kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(holds: Callable[[], bool], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def order(lab: Lab, name: str) -> dict[str, Any]:
    snapshot = write_snapshot(lab.root / f"{name}-snapshots", 1, [b"layer"])
    manifest = json.loads((snapshot / "snapshot.json").read_text())
    return order_to_make(manifest, "demo", str(lab.root / name), {"absent": 0, "config": "0" * 64, "loads": [1]})


def test_what_makes_the_image_needs_nothing_but_python(tmp_path: Path) -> None:
    (tmp_path / "package").write_bytes(package())
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MAKER, tmp_path / "package"],
        input=json.dumps(order(Lab(tmp_path), "host1")) + "\n",
        env=NO_DOCKER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert re.fullmatch("Listing the images failed: .*Docker.*\n", done.stderr)


@pytest.mark.parametrize("relay", [False, True])
def test_an_image_that_cannot_be_made_on_the_way_hinders_nothing(
    tmp_path: Path, relay: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(*next(iter(NO_DOCKER.items())))
    lab = Lab(tmp_path, 2)
    one = blob(tmp_path, 3 * CHUNK)
    jobs = {
        name: Job([one], str(lab.staging(name)), lambda name=name: lab.start(name), order(lab, name))
        for name in lab.names
    }
    outcomes = distribute(jobs, relay=relay)
    assert [(outcome.fault, outcome.made) for outcome in outcomes.values()] == [("", False)] * 2
    assert all(lab.content(name, one) for name in lab.names)
