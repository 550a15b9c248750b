"""Whatever changes a host waits for what a run that was killed has left at work there."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from host_double import snapshot, state
from host_modules import OF_PROJECT, Engine, ModuleLab, workers_of
from qsmr.lock import CHANGE_FILE, held

HOLDER = """
import sys, time
from pathlib import Path
from qsmr.lock import held
with held(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""
CHANGES = {
    "qsmr_worker": workers_of("r2"),
    "qsmr_stop": OF_PROJECT,
    "qsmr_prune": {**OF_PROJECT, "keep": 1},
    "qsmr_image": {"snapshot": snapshot("r2")},
    "qsmr_registry": {"state": "pulled", "registry": "reg.lab", "snapshot": snapshot("r2"), "reference": "reg.lab/x"},
}


@pytest.fixture
def lab(tmp_path, monkeypatch, capsys):
    return ModuleLab(tmp_path, monkeypatch, capsys, Engine())


@pytest.fixture
def holder(lab):
    """Another process that changes the host."""
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "plugins/module_utils")}
    command = [sys.executable, "-c", HOLDER, str(lab.releases.root / CHANGE_FILE)]
    process = subprocess.Popen(command, env=path, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"in\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("name", CHANGES)
def test_module_that_changes_a_host_begins_when_nobody_else_is_at_it(lab, holder, name):
    """kill -9 of the other process, that is: the lock has to be the kernel's."""
    answers = []
    second = threading.Thread(target=lambda: answers.append(lab.run(name, **CHANGES[name])))
    second.start()
    second.join(0.3)
    commands = list(lab.engine.commands)
    holder.kill()
    second.join(10)
    assert (commands, len(answers)) == ([], 1)
    assert lab.engine.commands != []


@pytest.mark.parametrize("name", CHANGES)
def test_check_mode_waits_for_nobody_and_makes_nothing(lab, holder, name):
    before = sorted(path.name for path in lab.releases.root.iterdir())
    lab.run(name, check=True, **CHANGES[name])
    assert sorted(path.name for path in lab.releases.root.iterdir()) == before


def test_lock_whose_file_was_removed_with_the_project_is_not_two_processes_at_once(tmp_path):
    """stop.yml -e qsmr_remove=true removes the directory while others wait for the lock in it."""
    path = tmp_path / "opt/demo" / CHANGE_FILE
    inside, most = [], []

    def change():
        with held(path):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.2)
            inside.pop()

    with held(path):
        waiting = threading.Thread(target=change)
        waiting.start()
        time.sleep(0.2)
        path.unlink()
        path.parent.rmdir()
    late = threading.Thread(target=change)
    late.start()
    waiting.join(10)
    late.join(10)
    assert most == [1, 1]


class SlowEngine(Engine):
    """Its containers are in a file, for several processes; ``compose up`` takes a while."""

    def __init__(self, file):
        super().__init__()
        self.file = file

    def run(self, argv, env, timeout):
        if " up " in " ".join(argv):
            self.file.with_suffix(".up").touch()
            time.sleep(1)
        if self.file.exists():
            self.containers = json.loads(self.file.read_text())
        result = super().run(argv, env, timeout)
        if "stop" in argv:
            for container in self.containers:
                container["State"] = state("exited") if container["Id"] in argv else container["State"]
        self.file.write_text(json.dumps(self.containers))
        return result


def test_host_is_stopped_for_good_after_a_workers_playbook_was_killed(tmp_path, monkeypatch, capsys):
    """The module lives on when Ansible dies by kill -9: what it starts, or starts again, has to be stopped, too."""
    engine = SlowEngine(tmp_path / "containers.json")
    lab = ModuleLab(tmp_path, monkeypatch, capsys, engine)
    playbook = os.fork()
    if playbook == 0:
        module = os.fork()
        if module == 0:
            os.setsid()
            os.dup2(os.open(tmp_path / "said", os.O_WRONLY | os.O_CREAT, 0o600), 1)
            try:
                lab.workers("r1")
            finally:
                os._exit(0)
        os.waitpid(module, 0)
        os._exit(0)
    while not engine.file.with_suffix(".up").exists():
        time.sleep(0.01)
    os.kill(playbook, signal.SIGKILL)
    os.waitpid(playbook, 0)
    said = lab.stop()
    time.sleep(1.5)  # what would be at work still
    assert said["differences"] == ["running workers: 1 -> 0"]
    assert [container["State"]["Status"] for container in json.loads(engine.file.read_text())] == ["exited"]


def test_worker_that_could_not_be_stopped_is_not_called_gone(lab):
    """Its jobs would be given to others while it works on them."""
    lab.workers("r1", count="2")
    lab.engine.fails = {" stop ": "permission denied"}
    said = lab.stop()
    assert (said["failed"], said["gone"]) == (True, [])


def test_project_is_not_removed_under_the_hands_of_a_push(lab):
    """The push would bring back the directory and the image, and the host be told to have nothing of it."""
    lab.workers("r1")
    lab.releases.incoming.mkdir()
    push = os.open(lab.releases.incoming, os.O_RDONLY)
    fcntl.flock(push, fcntl.LOCK_SH)  # as the agent that takes the image in
    lab.engine.commands.clear()
    said = lab.stop(remove=True)
    assert said["failed"]
    assert said["msg"] == f"A push to {lab.releases.incoming} has begun: run this again when it has ended"
    assert (lab.engine.changes, lab.releases.current) == ([], "r1")
    os.close(push)
    assert not lab.stop(remove=True).get("failed")
    assert not lab.releases.root.exists()
