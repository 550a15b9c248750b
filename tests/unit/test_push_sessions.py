"""A push reaches each host as Ansible itself does, whatever host its task runs for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml
from push_snapshots import files, layer, write_snapshot

ACTIONS = Path(__file__).parents[2] / "plugins/action"
PROBE = f"""
import sys
sys.path.append({str(ACTIONS)!r})
from qsmr_push import Session
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    BYPASS_HOST_LOOP = True

    def run(self, tmp=None, task_vars=None):
        starts = {{name: Session(self, name, task_vars).start() for name in task_vars["ansible_play_hosts"]}}
        return {{"commands": {{name: " ".join(map(os.fsdecode, start.command)) for name, start in starts.items()}}}}
""".replace("import sys\n", "import os\nimport sys\n", 1)
HOSTS = {
    "here": {"ansible_connection": "local"},
    "there": {"ansible_host": "192.0.2.1", "ansible_user": "ana", "ansible_become": True},
    "elsewhere": {"ansible_host": "192.0.2.2", "ansible_port": 2222},
}
PLAY = [{"hosts": "all", "gather_facts": False, "tasks": [{"name": "Sessions are known", "probe": {}}]}]


def test_each_host_has_its_own_connection(tmp_path):
    (tmp_path / "action").mkdir()
    (tmp_path / "action/probe.py").write_text(PROBE)
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": HOSTS}}))
    (tmp_path / "play.yml").write_text(json.dumps(PLAY))
    run = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-v", "-i", "hosts.json", "play.yml"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "ANSIBLE_ACTION_PLUGINS": str(tmp_path / "action")},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    answer = run.stdout[run.stdout.index("=> {") + 3 : run.stdout.index("\n\nPLAY RECAP")]
    commands = json.JSONDecoder().raw_decode(answer)[0]["commands"]
    assert commands["here"].startswith("/bin/sh -c ")
    assert commands["there"].startswith("ssh ")
    assert "192.0.2.1 /bin/sh -c 'sudo" in commands["there"]
    assert "Port=2222" in commands["elsewhere"]


def test_what_a_host_lacks_arrives_in_its_own_directory(tmp_path):
    """A lab's hosts may differ in qsmr_host_dir, and the task runs once for all of them."""
    made = write_snapshot(tmp_path / "snapshots", 1, [layer(files(1))])
    room = {"path": str(tmp_path), "device": 1, "free": 10**12}
    probe = {"image": "", "staged": {}, "layers": 0, "kept": [], "store": "overlay2", "docker": "26.1.5", "zstd": False}
    probe |= {"memory": 10**10, "room": {"staging": room, "docker": room, "one_disk": True}}
    probes = {name: {**probe, "host_dir": str(tmp_path / name)} for name in ("one", "two")}
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    given = {"snapshot": str(made), "probes": probes, "state_dir": str(tmp_path / "state"), "project": "demo"}
    task = {"name": "Layers are sent", "run_once": True, "qsmr_push": given}
    play = {"hosts": "all", "gather_facts": False, "tasks": [task]}
    (tmp_path / "hosts.json").write_text(json.dumps({"all": {"hosts": {"one": local, "two": local}}}))
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    run = subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.json", tmp_path / "play.yml"],
        cwd=ACTIONS.parents[1], capture_output=True, text=True, check=False, timeout=99,
        env={"PATH": os.defpath, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "DOCKER_HOST": f"unix://{tmp_path}/none"},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    arrived = {name: {path.name for path in (tmp_path / name / "demo/incoming").iterdir()} for name in probes}
    assert arrived["one"] == arrived["two"]
    assert len(arrived["one"]) > 1
