"""status.yml as a user runs it, against the real job service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from qsmr.jobapi import JobApi

REPOSITORY = Path(__file__).parents[2]
INVENTORY = """\
control: {hosts: {localhost: {ansible_connection: local}}}
workers: {hosts: {down: {ansible_host: 127.0.0.1, ansible_port: 1}}}
all: {vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}}
"""
SECRET = "adsfasreerfgtres"


class Lab:
    """A job service with a project, and a control node that knows both and one host that is down."""

    def __init__(self, service: Any, directory: Path) -> None:
        self.service, self.directory = service, directory
        self.api = JobApi(service.root, service.username, service.password)
        (directory / "hosts.yml").write_text(INVENTORY)
        config = directory / "lab.conf"
        config.write_text(
            f"ODIN_API_ROOT=http://127.0.0.1:1/rest_api\nODIN_SECRET={SECRET}\nJOB_API_ROOT={service.root}\n"
            f"JOB_API_USERNAME={service.username}\nJOB_API_PASSWORD={service.password}\n"
        )
        config.chmod(0o600)

    def put(self, job: str, what: str, **body: object) -> None:
        url = f"{self.service.root}/v4/demo/jobs/{job}/{what}"
        requests.put(url, json=body, auth=(self.service.username, self.service.password), timeout=30).raise_for_status()

    def status(self, *options: str, **variables: object) -> subprocess.CompletedProcess[str]:
        values = {
            "qsmr_project": "demo",
            "qsmr_freq_mode": 1,
            "qsmr_config_file": str(self.directory / "lab.conf"),
            "qsmr_state_dir": str(self.directory / "state"),
            "qsmr_report": False,
            **variables,
        }
        return subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", self.directory / "hosts.yml"]
            + ["playbooks/status.yml", "-e", json.dumps(values), *options],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=120, env=os.environ | {"NO_COLOR": "1"},
        )  # fmt: skip


@pytest.fixture
def lab(job_service: Any, tmp_path: Path) -> Lab:
    return Lab(job_service, tmp_path)


@pytest.fixture
def project(lab: Lab) -> Lab:
    """Twelve jobs: four finished, three failed of which one was given back, one at work, the others free."""
    lab.api.add_jobs("demo", [{"id": f"1:{n}", "source_url": "http://odin/"} for n in range(12)])
    for n in range(8):
        lab.put(f"1:{n}", "claim", Worker=f"UWorker_host{n % 2}_a")
        lab.put(f"1:{n}", "status", Status="STARTED")
    for n in range(4):
        lab.put(f"1:{n}", "status", Status="FINISHED", ProcessingTime=1.5)
    for n in (4, 5, 6):
        said = ["EXECUTOR: Starting execution", f"STDERR: ValueError: no spectra in scan {n}", "STDERR: see the log"]
        lab.put(f"1:{n}", "output", Output="\n".join(f"2026-01-01T00:00:00.1 - {line}" for line in said))
        lab.put(f"1:{n}", "status", Status="FAILED", ProcessingTime=1.5)
    lab.api.unclaim("demo", "1:6")
    return lab


def test_screen_tells_the_truth_and_no_host_can_break_it(project):
    run = project.status("-v", qsmr_report=True)
    assert run.returncode == 0, run.stdout + run.stderr
    report = project.directory / "state/demo/results/report.html"
    assert f"Report: {report}" in run.stdout
    assert "2 jobs: ValueError: no spectra in scan &lt;n&gt;" in report.read_text()
    assert "down is unreachable: " in report.read_text()
    assert "6 of 12 jobs ended, 50 %: 2 failed" in run.stdout
    assert run.stdout.count("Project demo at") == 1
    assert "\\n" not in run.stdout.partition("Project demo at")[2].partition("TASK [")[0]
    assert "ValueError: no spectra in scan 4" in run.stdout
    assert f"{project.service.root}/v4/demo/jobs/1:4/output" in run.stdout
    assert "down is unreachable: " in run.stdout
    assert "The Odin API does not answer" in run.stdout
    for secret in (SECRET, project.service.password):
        assert secret not in run.stdout + run.stderr + report.read_text()


def test_json_file_is_written_once_and_only_when_something_changed(project, tmp_path):
    file = tmp_path / "status.json"
    wanted = {"qsmr_output": "json", "qsmr_output_file": str(file)}
    checked = project.status("--check", **wanted)
    assert "changed=1" in checked.stdout
    assert not file.exists()

    run = project.status(**wanted)
    assert run.returncode == 0
    assert "Project demo at" not in run.stdout
    seen = json.loads(file.read_text())
    assert seen["states"] == {"available": 5, "claimed": 0, "started": 1, "finished": 4, "failed": 2}
    assert seen["rate"]["jobs"] == 7
    assert seen["counters"] == {"added": 12, "claimed": 7, "finished": 4, "failed": 2}
    assert file.stat().st_mode & 0o777 == 0o644
    assert SECRET not in file.read_text()

    requests.delete(
        f"{project.service.root}/v4/demo", auth=(project.service.username, project.service.password), timeout=30
    )
    assert "changed=1" in project.status(**wanted).stdout
    again = project.status(**wanted)
    assert "changed=1" not in again.stdout
    assert json.loads(file.read_text())["exists"] is False


def test_json_on_the_screen(lab):
    run = lab.status(qsmr_output="json")
    start = run.stdout.index('{\n  "time"')
    seen, _end = json.JSONDecoder().raw_decode(run.stdout[start:])
    assert (seen["project"], seen["exists"]) == ("demo", False)


def test_settings_from_a_vault_do_not_blacken_the_screen(lab):
    """Only secrets are hidden: a user who is called like the project must not make it unreadable."""
    run = lab.status(qsmr_config={"JOB_API_USERNAME": "demo", "JOB_API_ROOT": lab.service.root, "ODIN_SECRET": SECRET})
    assert f"Project demo at {lab.service.root}" in run.stdout
    assert "no project demo yet: run jobs.yml" in run.stdout


def test_service_that_is_down_is_one_line(lab):
    lab.service.stop()
    run = lab.status()
    assert run.returncode != 0
    assert "no answer (Connection refused)" in " ".join(run.stdout.split())
    assert "Traceback" not in run.stdout + run.stderr


def test_a_name_that_cannot_be_a_project_is_refused(lab):
    run = lab.status(qsmr_project="../etc")
    assert run.returncode != 0
    assert "Project name" in run.stdout + run.stderr


def test_ansible_runner_needs_the_project_an_inventory_and_settings(project, tmp_path):
    """As AWX runs it: a private data directory, and nothing of this project in the environment."""
    private = tmp_path / "private"
    for part in ("inventory", "env"):
        (private / part).mkdir(parents=True)
    (private / "project").symlink_to(REPOSITORY)
    (private / "inventory/hosts.yml").write_text(INVENTORY)
    settings = {"qsmr_project": "demo", "qsmr_freq_mode": "1", "qsmr_config_file": f"{project.directory}/lab.conf"}
    (private / "env/extravars").write_text(json.dumps({**settings, "qsmr_state_dir": f"{tmp_path}/state"}))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        [Path(sys.executable).with_name("ansible-runner"), "run", private, "-p", "playbooks/status.yml"],
        cwd="/", capture_output=True, text=True, timeout=120, env=environment | {"PATH": path},
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    assert "6 of 12 jobs ended, 50 %: 2 failed" in run.stdout
    assert f"Report: {tmp_path}/state/demo/results/report.html" in run.stdout
    assert project.service.password not in run.stdout + run.stderr
