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


def test_one_machine_under_several_names_is_refused_and_all_names_are_told(tmp_path):
    settings = {"qsmr_project": "demo", "qsmr_state_dir": tmp_path, "qsmr_host_dir": tmp_path / "opt"}
    for further in ([], ["-e", "qsmr_skip_unfit=true"], ["--check"]):
        run = play(tmp_path, "playbooks/rollback.yml", *further, **settings)
        screen = " ".join((run.stdout + run.stderr).split())
        assert run.returncode == 2, screen
        assert "Nothing was changed: h1 and h2 and h3 and h4 and h5 are one machine" in screen
    one = play(tmp_path, "playbooks/rollback.yml", "--limit", "h2", **settings)
    assert "one machine" not in one.stdout + one.stderr
