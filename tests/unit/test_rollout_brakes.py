"""The situations in which Ansible's own brakes let later hosts run, or end as if nothing had been (``serial`` with
``max_fail_percentage``, ``any_errors_fatal`` or a rescue). Real Ansible and the real roles, on hosts that are stubs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
HOSTS = tuple(f"h{number}" for number in range(1, 7))
PLAY = """
- name: Rollout
  hosts: workers
  gather_facts: false
  vars:
    worker_release: before
  roles:
    - role: rollout
      rollout_what: rollback
- name: Next play
  hosts: workers
  gather_facts: false
  tasks:
    - name: Next
      ansible.builtin.debug:
        msg: "after it: {{ inventory_hostname }}"
"""
# A host's state is a file; what it will do, another one. "lost": its connection ends after the second look.
LOOK = """\
import time
from pathlib import Path
from ansible.module_utils.basic import AnsibleModule
names = ("project", "compose_project", "host_dir", "release", "hostname", "count", "cpus", "memory", "job_timeout",
         "drain_timeout", "odin_api_root", "config_file", "config", "asked")
module = AnsibleModule({name: {"type": "raw"} for name in names})
root, host = Path(module.params["host_dir"]), module.params["hostname"]
if (root / f"{host}.will").read_text() == "lost":
    (root / f"{host}.lost").touch()
release = (root / f"{host}.runs").read_text()
module.exit_json(changed=False, faults=[], differences=[f"release: {release} -> r2"] if release != "r2" else [],
                 target="r2", release=release, back_to="r1", has_image=True, workers={}, clock=time.time())
"""
WORKER = """\
from pathlib import Path
from ansible.module_utils.basic import AnsibleModule
names = ("project", "compose_project", "host_dir", "release", "hostname", "count", "cpus", "memory", "job_timeout",
         "healthy_deadline", "min_healthy_time", "drain_timeout", "revert", "mark", "hold")
module = AnsibleModule({name: {"type": "raw"} for name in names})
root, host = Path(module.params["host_dir"]), module.params["hostname"]
with (root / "log").open("a") as log:
    log.write(f"{host} {module.params['release']}\\n")
if (root / f"{host}.will").read_text() == "fail":
    module.fail_json(msg="sick", check="w is sick", log=[], differences=["release"], gone=[], reverted=True)
(root / f"{host}.runs").write_text(module.params["release"])
release = module.params["release"]
module.exit_json(changed=True, differences=["release"], gone=[], worker_names=["w"], release=release)
"""
LOCK = """\
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({name: {"type": "raw"} for name in ("state", "project", "host_dir", "lock", "by_force")})
module.exit_json(changed=False, taken_from="")
"""


@pytest.fixture
def roll(tmp_path):
    """Runs the rollout on six hosts, two at once; returns which hosts run r2, exit code and screen."""
    (tmp_path / "library").mkdir()
    for name, text in {"qsmr_preflight": LOOK, "qsmr_worker": WORKER, "qsmr_lock": LOCK}.items():
        (tmp_path / f"library/{name}.py").write_text(text)
    (tmp_path / "play.yml").write_text(PLAY)

    def run(will, **settings):
        for host in HOSTS:
            (tmp_path / f"{host}.runs").write_text("r1")
            (tmp_path / f"{host}.will").write_text(will.get(host, "do"))
        lost = f"'{tmp_path}/' ~ inventory_hostname ~ '.lost'"
        variables = {
            "ansible_connection": f"{{{{ 'ssh' if ({lost}) is exists else 'local' }}}}",
            "ansible_host": "127.0.0.1",
            "ansible_port": 1,
            "ansible_python_interpreter": sys.executable,
        }
        inventory = {"workers": {"hosts": {host: {} for host in HOSTS}, "vars": variables}}
        (tmp_path / "hosts.json").write_text(json.dumps(inventory))
        given = {
            "qsmr_project": "demo",
            "qsmr_host_dir": str(tmp_path),
            "qsmr_state_dir": str(tmp_path / "state"),
            "qsmr_rollout_batches": [2],
            "preflight_plan": {"work": list(HOSTS), "left_out": {}},
            **settings,
        }
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("ansible-playbook")),
                *("-i", str(tmp_path / "hosts.json"), str(tmp_path / "play.yml")),
                *("-e", f"@{REPOSITORY}/playbooks/group_vars/all.yml", "-e", json.dumps(given)),
            ],
            cwd=REPOSITORY,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "ANSIBLE_LIBRARY": f"{tmp_path}/library:{REPOSITORY}/library",
                "ANSIBLE_SSH_RETRIES": "0",
                "LC_ALL": "C.UTF-8",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        screen = done.stdout + done.stderr
        assert "Traceback" not in screen
        ran = [host for host in HOSTS if (tmp_path / f"{host}.runs").read_text() == "r2"]
        log = (tmp_path / "log").read_text().splitlines() if (tmp_path / "log").exists() else []
        touched = sorted({line.split()[0] for line in log})
        return ran, touched, sorted(set(re.findall(r"after it: (h\d)", screen))), done.returncode, screen

    return run


STOPPED: list[str] = []


@pytest.mark.parametrize(
    ("will", "settings", "ran", "touched", "after"),
    [
        pytest.param({}, {}, list(HOSTS), list(HOSTS), list(HOSTS), id="none is bad"),
        pytest.param({"h2": "fail"}, {}, [], ["h1", "h2"], STOPPED, id="one fails"),
        pytest.param(
            {"h2": "fail"},
            {"qsmr_max_failed_hosts": 1},
            ["h1", "h3", "h4", "h5", "h6"],
            list(HOSTS),
            ["h1", "h3", "h4", "h5", "h6"],
            id="one of two fails, one may",
        ),
        pytest.param({"h2": "lost"}, {}, [], ["h1"], STOPPED, id="one is unreachable"),
        pytest.param({"h1": "lost", "h2": "lost"}, {"qsmr_max_failed_hosts": 5}, [], [], STOPPED, id="a stage is lost"),
        pytest.param(
            {"h4": "fail"},
            {"qsmr_on_failure": "keep"},
            ["h1", "h2", "h3"],
            ["h1", "h2", "h3", "h4"],
            STOPPED,
            id="one goes back, the others are kept",
        ),
        pytest.param({"h3": "lost", "h4": "fail"}, {}, [], ["h1", "h2", "h4"], STOPPED, id="one of each in stage two"),
    ],
)
def test_brakes(roll, will, settings, ran, touched, after):
    found = roll(will, **settings)
    assert found[:3] == (ran, touched, after), found[4]
    assert found[3] == (2 if will else 0), found[4]


@pytest.mark.parametrize("setting", ["worker_release", "worker_revert", "worker_mark", "worker_hold"])
def test_what_roles_tell_each_other_is_not_taken_from_the_command_line(roll, setting):
    """Ansible would let it win in every stage, and so mark a release that has not proved itself."""
    _, touched, _, code, screen = roll({}, **{setting: "stable"})
    assert (touched, code) == ([], 2)
    assert f"{setting} is not for -e" in screen
