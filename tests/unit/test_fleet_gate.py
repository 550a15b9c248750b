"""The gate stops a rolling play where Ansible itself would go on. Real Ansible, on hosts that are nowhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PLAYBOOK = """
- name: Before
  hosts: workers
  gather_facts: false
  tasks:
    - name: A host is lost before
      ansible.builtin.ping:
      when: inventory_hostname in lost_before
    - name: A host fails before
      ansible.builtin.fail:
      when: inventory_hostname in failed_before
- name: Rolling
  hosts: workers
  gather_facts: false
  serial: 2
  max_fail_percentage: 0
  roles:
    - fleet_gate
  tasks:
    - name: A host is lost
      ansible.builtin.ping:
      when: inventory_hostname in lost
    - name: Work is done
      ansible.builtin.debug:
        msg: "done by {{ inventory_hostname }}"
"""


def run(tmp_path, *words, **lost):
    """Which hosts got their work done, the exit code and the screen on one line."""
    nowhere = {"ansible_host": "127.0.0.1", "ansible_port": 1}
    hosts = {f"h{number}": nowhere for number in range(1, 6)}
    (tmp_path / "hosts.json").write_text(json.dumps({"workers": {"hosts": hosts}}))
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    variables = {"lost": [], "lost_before": [], "failed_before": [], **lost}
    ansible = subprocess.run(
        [
            str(Path(sys.executable).parent / "ansible-playbook"),
            *("--inventory", str(tmp_path / "hosts.json"), "--extra-vars", json.dumps(variables)),
            *words,
            str(tmp_path / "play.yml"),
        ],
        cwd=REPOSITORY,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ANSIBLE_SSH_RETRIES": "0", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    screen = " ".join((ansible.stdout + ansible.stderr).split())
    return sorted(re.findall(r"done by (h\d)", screen)), ansible.returncode, screen


def test_whole_fleet_passes(tmp_path):
    assert run(tmp_path)[:2] == (["h1", "h2", "h3", "h4", "h5"], 0)


@pytest.mark.parametrize(
    ("lost", "done"),
    [
        ({"lost": ["h2"]}, ["h1"]),
        ({"lost": ["h3"]}, ["h1", "h2", "h4"]),
        ({"lost_before": ["h5"]}, []),
        ({"failed_before": ["h4"]}, []),
    ],
)
def test_lost_host_stops_the_batches_after_it_and_is_named(tmp_path, lost, done):
    finished, code, screen = run(tmp_path, **lost)
    assert finished == done
    assert code != 0
    name = next(iter(lost.values()))[0]
    assert f"{name} failed or got lost in this run" in screen
    assert f"--limit 'workers:!{name}'" in screen


def test_host_that_was_left_out_is_not_missed(tmp_path):
    assert run(tmp_path, "--limit", "workers:!h2", lost=["h2"])[:2] == (["h1", "h3", "h4", "h5"], 0)
