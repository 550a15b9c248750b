"""A disk without room and a file system without locks: what and where in one line, what to do, the first error first.

The disks are real ones: tmpfs mounts of a few pages that only the process under test sees. Locks that do not work are
faked, as no file system here is without them.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import qsmr.hostagent
from job_service_double import PASSWORD, USERNAME, JobServiceDouble
from qsmr.audit import Audit
from qsmr.errors import QsmrError
from qsmr.files import write_atomically
from qsmr.hostlayers import HostLayers
from qsmr.ledger import run_lock
from qsmr.local_image import ensure
from qsmr.lock import CHANGE_FILE, held
from qsmr.progress import Progress, PushProgress
from qsmr.release import Releases
from qsmr.resultindex import opened
from qsmr.rolloutlock import ControlLock
from qsmr.snapshotmaker import _locked
from qsmr.transport import Job, Start, distribute

REPOSITORY = Path(__file__).parents[2]
ROOM = "No space left on device: make room there, or set qsmr_state_dir"
RUN = """
import ansible.module_utils, json, runpy, sys
from ansible.module_utils.testing import patch_module_args
ansible.module_utils.__path__ = [*ansible.module_utils.__path__, "plugins/module_utils"]
with patch_module_args(json.loads(sys.argv[1])):
    runpy.run_path(f"library/{sys.argv[2]}.py", run_name="__main__")
"""


def on_full_disk(directory, pages, *command):
    """Run a command that sees in ``directory`` a file system with so many free pages and one file."""
    directory.mkdir(parents=True)
    fill = f'mount -t tmpfs -o size={(pages + 1) * 4}k none "$0" && head -c 4096 /dev/zero > "$0/filler" && exec "$@"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", fill, str(directory), *command]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def service():
    with JobServiceDouble() as double:
        yield double


@pytest.mark.parametrize("pages", [0, 1, 2, 4, 8, 12, 24])
def test_jobs_on_a_disk_that_gets_full_end_with_one_line_or_are_all_there(service, tmp_path, pages):
    config = tmp_path / "lab.conf"
    config.write_text(
        f"ODIN_API_ROOT=http://odin/rest_api\nODIN_SECRET=0123456789abcdef\nJOB_API_ROOT={service.root}\n"
        f"JOB_API_USERNAME={USERNAME}\nJOB_API_PASSWORD={PASSWORD}\n"
    )
    config.chmod(0o600)
    scans = tmp_path / "scans.txt"
    scans.write_text("".join(f"{n}\n" for n in range(1, 1500)))
    given = {"config_file": str(config), "project": "demo", "freq_mode": "1", "jobs_file": str(scans)}
    given["state_dir"] = str(tmp_path / "state")
    run = on_full_disk(tmp_path / "state", pages, sys.executable, "-c", RUN, json.dumps(given), "qsmr_jobs")
    assert "Traceback" not in run.stdout + run.stderr
    said = json.loads(run.stdout)
    if said.get("failed"):
        assert f"{tmp_path}/state/demo" in said["msg"]
        assert "make room there, or set qsmr_state_dir" in said["msg"] or "check the disk and its room" in said["msg"]
        assert "\n" not in said["msg"]
    else:
        assert len(service.jobs) == 1499
    assert said.get("failed") or pages > 8


@pytest.fixture
def no_room(monkeypatch):
    """Nothing more can be written, as a full disk has it (see above for real ones)."""

    def full():
        def refuse(_descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", refuse)

    return full


def test_progress_that_finds_no_room_is_told_with_path_and_advice(tmp_path, no_room):
    no_room()
    with pytest.raises(QsmrError) as caught:
        Progress(tmp_path / "demo/progress.json", "demo").say("asking")
    assert str(caught.value) == f"{tmp_path}/demo/progress.json cannot be written: {ROOM}"


def test_error_of_a_push_is_not_hidden_by_progress_that_finds_no_room(tmp_path, no_room):
    with pytest.raises(QsmrError, match="the first error"), PushProgress(tmp_path / "push.json", "demo"):
        no_room()
        raise QsmrError("the first error")


def test_file_of_no_room_is_called_by_its_own_name(tmp_path, no_room):
    no_room()
    with pytest.raises(OSError, match="No space") as caught:
        write_atomically(tmp_path / "it.json", "{}")
    assert caught.value.filename == str(tmp_path / "it.json")
    assert list(tmp_path.iterdir()) == []


def test_push_whose_progress_cannot_be_written_ends_with_that_and_soon(tmp_path):
    """It went on without a sign of life to the hosts, which gave up, and it told that the connection was lost."""

    class Blob:
        sha256, size, path = "0" * 64, 3, tmp_path / "blob"

    def report(_report):
        raise QsmrError("push.json cannot be written")

    Blob.path.write_bytes(b"abc")
    Blob.sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    hangs = Start(["sh", "-c", "echo 'qsmr-push 1'; exec sleep 30"])
    begun = time.monotonic()
    with pytest.raises(QsmrError, match=r"push\.json cannot be written"):
        distribute({"host1": Job([Blob()], str(tmp_path), lambda: hangs)}, relay=False, report=report)
    assert time.monotonic() - begun < 10


@pytest.fixture
def no_locks(monkeypatch):
    """What NFS without locks answers."""

    def refuse(_file, _how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)


def take_control_lock(directory):
    lock = {"who": "ana", "since": "now", "what": "stop", "expires": 9e9}
    return ControlLock(directory).take(lock, os.getpid(), by_force=False)


def unlockable(path):
    """What locks which file, and the setting that names its directory."""

    def enter(context):
        with context:
            pass

    releases = Releases(path, "demo")
    (path / "demo/incoming").mkdir(parents=True)
    return {
        "change": (lambda: enter(held(releases.root / CHANGE_FILE)), "change.guard", "qsmr_host_dir"),
        "prune": (lambda: HostLayers(releases).abandoned(), "incoming", "qsmr_host_dir"),
        "rollout": (lambda: take_control_lock(path / "demo"), "rollout.guard", "qsmr_state_dir"),
        "jobs": (lambda: enter(run_lock(path / "demo")), "demo/lock", "qsmr_state_dir"),
        "results": (lambda: enter(opened(path / "demo")), ".lock", "qsmr_state_dir"),
        "snapshot": (lambda: enter(_locked(path / "demo")), "demo", "qsmr_snapshot_dir"),
        "image": (lambda: ensure([], path / "demo"), "demo", "cache directory"),
    }


@pytest.mark.parametrize("name", ["change", "prune", "rollout", "jobs", "results", "snapshot", "image"])
def test_lock_that_does_not_work_is_told_with_path_and_advice(tmp_path, no_locks, name):
    act, file, setting = unlockable(tmp_path)[name]
    with pytest.raises(QsmrError) as caught:
        act()
    said = str(caught.value)
    assert said.startswith(str(tmp_path))
    assert file in said
    assert "No locks available: its file system has no locks (NFS without them, say), set" in said
    assert setting in said


def test_lock_that_does_not_work_where_an_image_arrives_is_told_with_path_and_advice(tmp_path, no_locks):
    part = qsmr.hostagent.Part(tmp_path, "0" * 64, 3, 0, bytes(32))
    with pytest.raises(OSError, match="No locks available: its file system has no locks") as caught:
        part.open()
    assert caught.value.filename == str(part.part)


def test_audit_on_a_full_disk_is_told_with_path_and_advice(tmp_path, no_room):
    no_room()
    with pytest.raises(QsmrError) as caught:
        Audit(tmp_path).add("one", "begin")
    assert str(caught.value) == f"{tmp_path}/audit.jsonl cannot be written: {ROOM}"


OUTCOME = """
import os, sys
from pathlib import Path
from qsmr.audit import Audit
from qsmr.errors import QsmrError
from qsmr.fleetaction import FleetAction
from qsmr.rolloutlock import ControlLock
action = FleetAction.__new__(FleetAction)
action.directory = Path(sys.argv[1])
action.audit = Audit(action.directory)
lock = {"who": "ana", "since": "now", "what": "stop", "expires": 9e9}
lock = ControlLock(action.directory).take(lock, os.getpid(), by_force=False)
while True:  # to the last byte
    try:
        with open(f"{sys.argv[1]}/more", "ab", buffering=0) as file:
            file.write(bytes(4096))
    except OSError:
        break
try:
    action.end("run", lock, "host1: not done: Docker does not run", [{"event": "end", "ended": "done in part"}])
except QsmrError as error:
    print(error)
print((action.directory / "rollout.lock").exists())
"""


def test_outcome_of_a_run_is_told_though_the_audit_finds_no_room_and_its_lock_is_given_back(tmp_path, monkeypatch):
    """In a process of its own: Ansible's plugins, once loaded, change what its modules do in this one."""
    monkeypatch.setenv("PYTHONPATH", "plugins/module_utils")
    run = on_full_disk(tmp_path / "state", 8, sys.executable, "-c", OUTCOME, str(tmp_path / "state"))
    assert run.stdout.splitlines() == [
        "host1: not done: Docker does not run",
        f"{tmp_path}/state/audit.jsonl cannot be written: {ROOM}",
        "False",
    ], run.stderr
