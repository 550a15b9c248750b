"""A push reaches each host as Ansible itself does, whatever host its task runs for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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
