"""The audit and the locks outlive crashes, and tell whose they are."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import qsmr.rolloutlock
from qsmr.audit import Audit, switched_by
from qsmr.errors import QsmrError
from qsmr.lock import Lock, Locked, held
from qsmr.rolloutlock import ControlLock


def lock(id_, expires=1000.0):
    return {"id": id_, "who": f"user@{id_}", "since": "2026-11-23 10:00 UTC", "what": "rollout", "expires": expires}


def test_lock_is_one_holders_until_it_expires(tmp_path):
    there = Lock(tmp_path / "project/rollout.lock")
    assert there.take(lock("a"), now=0) == ""
    with pytest.raises(Locked, match="user@a holds the lock since 2026-11-23 10:00 UTC for a rollout, until 1970"):
        there.take(lock("b"), now=999)
    assert there.take(lock("a", 2000.0), now=999) == ""
    assert "user@a" in there.take(lock("b", 3000.0), now=2000)
    assert not there.release(lock("a"))
    assert there.release(lock("b"))
    assert there.read() == {}


def test_lock_can_be_broken_on_purpose_and_tells_whose_it_was(tmp_path):
    there = Lock(tmp_path / "rollout.lock")
    there.take(lock("a"), now=0)
    assert there.take(lock("b"), now=1, by_force=True).startswith("user@a holds the lock")
    assert there.read()["id"] == "b"


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"id": "a"'])
def test_damaged_lock_counts_for_none(tmp_path, text):
    (tmp_path / "rollout.lock").write_text(text)
    Lock(tmp_path / "rollout.lock").take(lock("a"), now=0)


def test_only_one_of_many_takes_a_lock_that_has_expired(tmp_path):
    code = """
import json, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from qsmr.lock import Lock, Locked
mine = {"id": sys.argv[3], "who": "", "since": "", "what": "", "expires": time.time() + 60}
try:
    Lock(Path(sys.argv[2])).take(mine, time.time())
    print("taken")
except Locked:
    print("locked")
"""
    path = tmp_path / "rollout.lock"
    Lock(path).take(lock("old", expires=1.0), now=0)
    modules = str(Path(__file__).parents[2] / "plugins/module_utils")
    runs = [
        subprocess.Popen(["python3", "-c", code, modules, str(path), str(n)], stdout=subprocess.PIPE, text=True)
        for n in range(8)
    ]
    assert sorted(run.communicate()[0].strip() for run in runs) == ["locked"] * 7 + ["taken"]


def test_lock_of_a_process_that_ended_is_void_and_of_a_living_one_is_not(tmp_path):
    control = ControlLock(tmp_path)
    wanted = {key: value for key, value in lock("x", time.time() + 600).items() if key != "id"}
    process = subprocess.Popen(["sleep", "60"])
    first = control.take(wanted, process.pid, by_force=False)
    with pytest.raises(QsmrError, match="Nothing was changed: user@x holds the lock"):
        ControlLock(tmp_path).take(wanted, os.getpid(), by_force=False)
    process.kill()
    process.wait()
    second = control.take(wanted, os.getpid(), by_force=False)
    assert second["id"] == first["id"]
    with pytest.raises(QsmrError):
        control.take(wanted, os.getpid(), by_force=False)
    control.release(second)
    control.take(wanted, os.getpid(), by_force=False)


def test_run_whose_lock_was_broken_leaves_the_breakers_alone_here_and_on_the_hosts(tmp_path):
    """Both are of one state directory. Without its lock the second run would be at work beside a third one."""
    control, host = ControlLock(tmp_path / "state"), Lock(tmp_path / "opt/demo/rollout.lock")
    wanted = {key: value for key, value in lock("x", time.time() + 600).items() if key != "id"}
    first = control.take(wanted, os.getpid(), by_force=False)
    assert host.take(first, time.time()) == ""
    second = control.take(wanted, os.getpid(), by_force=True)
    assert host.take(second, time.time()) == "", "what the same control node left is taken over"
    control.release(first)
    assert not host.release(first)
    assert host.read() == second
    with pytest.raises(QsmrError, match="Nothing was changed"):
        control.take(wanted, os.getpid(), by_force=False)
    control.release(second)
    assert host.release(second)
    control.take(wanted, os.getpid(), by_force=False)


def test_only_one_of_two_runs_gets_the_lock_of_a_dead_one(tmp_path, monkeypatch):
    """Both have seen that it is dead when the first of them takes it."""
    control = ControlLock(tmp_path)
    wanted = {key: value for key, value in lock("x", time.time() + 600).items() if key != "id"}
    dead = subprocess.Popen(["true"])
    control.take(wanted, dead.pid, by_force=False)
    dead.wait()
    both = threading.Barrier(2)
    lives = qsmr.rolloutlock._lives

    def lives_until_both_have_asked(there):
        found = lives(there)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(1)
        return found

    monkeypatch.setattr(qsmr.rolloutlock, "_lives", lives_until_both_have_asked)
    outcomes = []

    def run():
        try:
            ControlLock(tmp_path).take(wanted, os.getpid(), by_force=False)
            outcomes.append("taken")
        except QsmrError:
            outcomes.append("locked")

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["locked", "taken"]


def test_one_of_many_processes_gets_the_lock_of_one_that_was_killed(tmp_path):
    code = """
import json, os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from qsmr.errors import QsmrError
from qsmr.rolloutlock import ControlLock
wanted = {"who": "", "since": "", "what": "", "expires": time.time() + 600}
try:
    print(json.dumps(ControlLock(Path(sys.argv[2])).take(wanted, os.getpid(), False)), flush=True)
except QsmrError:
    print("locked", flush=True)
sys.stdin.read()
"""
    modules = str(Path(__file__).parents[2] / "plugins/module_utils")

    def start():
        command = [sys.executable, "-c", code, modules, str(tmp_path / "state")]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    first = start()
    assert '"run"' in first.stdout.readline()
    first.kill()
    first.communicate()
    runs = [start() for _ in range(6)]
    said = [run.stdout.readline().strip() for run in runs]
    for run in runs:
        run.communicate()
    assert said.count("locked") == 5


@pytest.mark.parametrize("broken", [{"expires": "soon"}, {"expires": 1e300}, {"process": "x"}, {"process": 2**70}])
def test_lock_that_is_damaged_in_one_place_is_nobodys(tmp_path, broken):
    control = ControlLock(tmp_path)
    wanted = {key: value for key, value in lock("x", time.time() + 600).items() if key != "id"}
    control.take(wanted, os.getpid(), by_force=False)
    path = tmp_path / "rollout.lock"
    path.write_text(json.dumps({**json.loads(path.read_text()), **broken}))
    control.take(wanted, os.getpid(), by_force=False)


def test_lock_of_another_machine_holds_whether_there_is_such_a_process_here_or_not(tmp_path):
    control = ControlLock(tmp_path)
    wanted = {key: value for key, value in lock("x", time.time() + 600).items() if key != "id"}
    control.take(wanted, 1, by_force=False)
    path = tmp_path / "rollout.lock"
    path.write_text(json.dumps({**json.loads(path.read_text()), "node": "elsewhere", "process": 999999}))
    with pytest.raises(QsmrError):
        control.take(wanted, os.getpid(), by_force=False)


def test_next_run_waits_for_a_change_that_outlived_its_control_node(tmp_path):
    """Both at once, the one would take back what the other has just switched."""
    path = tmp_path / "opt/demo/change.guard"
    holding = "import sys, time; from pathlib import Path; from qsmr.lock import held\n"
    holding += f"with held(Path({str(path)!r})): print('in', flush=True); time.sleep(60)"
    first = subprocess.Popen(
        [sys.executable, "-c", holding],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "plugins/module_utils")},
        stdout=subprocess.PIPE,
    )
    order = []

    def change():
        with held(path):
            order.append("second")

    assert first.stdout.readline() == b"in\n"
    second = threading.Thread(target=change)
    second.start()
    second.join(0.2)
    order.append("first")
    first.kill()
    second.join(10)
    first.communicate()
    assert order == ["first", "second"]


def test_audit_keeps_whole_lines_after_one_that_was_cut_off(tmp_path):
    audit = Audit(tmp_path / "demo")
    audit.add("one", "begin", to=["r1"])
    with audit.path.open("a") as stream:
        stream.write('{"run": "one", "ev')
    audit.add("one", "end", ended="done")
    assert [event["event"] for event in audit.events()] == ["begin", "end"]
    assert oct(audit.path.stat().st_mode & 0o777) == "0o640"


def test_run_without_an_end_is_the_unfinished_one(tmp_path):
    audit = Audit(tmp_path)
    assert audit.unfinished() == []
    audit.add("one", "begin", to=["r2"])
    audit.add("one", "end", ended="done")
    assert audit.unfinished() == []
    audit.add("two", "begin", to=["r2"])
    audit.add("two", "stage", hosts=["h1"])
    audit.add("two", "stage", hosts=["h2", "h3"])
    run = audit.unfinished()
    assert [event["run"] for event in run] == ["two"] * 3
    assert switched_by(run, {"h1": "r2", "h2": "r2", "h3": "r1", "h4": "r2"}, "r2") == ["h1", "h2"]
    audit.add("two", "broken off", found={})
    assert audit.unfinished() == []
