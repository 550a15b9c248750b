"""workers.yml before anything is sent. Real Ansible; the hosts answer as if they ran on this machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
ANSIBLE = str(Path(sys.executable).parent / "ansible-playbook")


def play(tmp_path, playbook, *words, **settings):
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    hosts = {f"h{number}": {} for number in range(1, 6)}
    inventory = {"all": {"children": {"workers": {"hosts": hosts, "vars": local}}}}
    (tmp_path / "hosts.json").write_text(json.dumps(inventory))
    extra = [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
    return subprocess.run(
        [ANSIBLE, "-i", str(tmp_path / "hosts.json"), *extra, *words, str(playbook)],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_check_mode_before_the_first_snapshot_says_so_and_goes_on(tmp_path):
    settings = {"qsmr_project": "demo", "qsmr_snapshot_dir": tmp_path}
    check = play(tmp_path, "playbooks/workers.yml", "--check", **settings)
    screen = " ".join((check.stdout + check.stderr).split())
    assert check.returncode == 0, screen
    assert f"No snapshot of project demo in {tmp_path}: run snapshot.yml first" in screen
    assert not re.search(r"changed=[1-9]", screen)
    assert play(tmp_path, "playbooks/workers.yml", **settings).returncode != 0
