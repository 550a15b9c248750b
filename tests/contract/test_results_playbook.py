"""results.yml as a user runs it: what is missing ends it as a failure, and all the rest is there, report included."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from contract import odin_service
from contract.odin_service import OdinService, document
from qsmr.jobapi import JobApi

REPOSITORY = Path(__file__).parents[2]
SCANS = (7014791071, 7014792431, 7014793791)
odin = odin_service.odin


def deliver(odin: OdinService, scan: int) -> None:
    requests.post(odin.target("demo", 1, scan), json=document(1, scan), timeout=30).raise_for_status()


@pytest.fixture
def play(tmp_path, job_service, odin):
    """Runs the playbook on a project of three finished jobs; the last one's level 2 has got lost."""
    api = JobApi(job_service.root, job_service.username, job_service.password)
    api.add_jobs("demo", [{"id": f"1:{scan}", "source_url": "http://odin/"} for scan in SCANS])
    for scan in SCANS:
        api.set_status("demo", f"1:{scan}", "FINISHED")
    for scan in SCANS[:2]:
        deliver(odin, scan)
    config = tmp_path / "lab.conf"
    config.write_text(
        f"ODIN_API_ROOT={odin.root}\nODIN_SECRET={odin.secret}\nJOB_API_ROOT={job_service.root}\n"
        f"JOB_API_USERNAME={job_service.username}\nJOB_API_PASSWORD={job_service.password}\n"
    )
    config.chmod(0o600)
    (tmp_path / "hosts.yml").write_text(
        "control: {hosts: {localhost: {ansible_connection: local, "
        "ansible_python_interpreter: '{{ ansible_playbook_python }}'}}}\n"
        "workers: {hosts: {host1: {ansible_host: 127.0.0.1, ansible_port: 1}}}\n"
    )
    settings = {
        "qsmr_project": "demo",
        "qsmr_config_file": str(config),
        "qsmr_state_dir": str(tmp_path / "state"),
        "qsmr_snapshot_dir": str(tmp_path),
    }

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", tmp_path / "hosts.yml", "playbooks/results.yml"]
            + ["-e", json.dumps(settings), *options],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=120, env=os.environ | {"NO_COLOR": "1"},
        )  # fmt: skip

    return run


def test_results_of_jobs_that_all_failed_are_a_failure_that_is_told(play, job_service, tmp_path):
    """There is no level 2 to fetch, and the report does not advise what has just been done."""
    api = JobApi(job_service.root, job_service.username, job_service.password)
    for scan in SCANS:
        claim = f"{job_service.root}/v4/demo/jobs/1:{scan}/claim"
        login = (job_service.username, job_service.password)
        requests.put(claim, json={"Worker": "UWorker_host1_a"}, auth=login, timeout=30).raise_for_status()
        api.set_status("demo", f"1:{scan}", "FAILED")
    run = play()
    assert run.returncode == 10, run.stdout
    assert "3 jobs failed" in run.stdout
    assert run.stdout.rstrip().endswith("Failing: 0 of 3 finished, 3 failed, 0 running, 0 waiting")
    html = (tmp_path / "state/demo/results/report.html").read_text()
    assert "All 3 jobs have failed" in html
    assert "run results.yml" not in html
    assert "host1 is unreachable" in html, "the page that is mailed tells of the hosts"

    for scan in SCANS:
        api.unclaim("demo", f"1:{scan}")
        api.set_status("demo", f"1:{scan}", "AVAILABLE")
    none = play()
    assert none.returncode == 2
    assert "No job of demo has ended yet, so there is no level 2 to fetch" in " ".join(none.stdout.split())


def test_what_is_missing_is_told_and_all_the_rest_is_there(play, odin, tmp_path):
    checked = play("--check", "--diff")
    assert re.search(r"localhost +: ok=\d+ +changed=2 ", checked.stdout)
    assert not (tmp_path / "state").exists()

    run = play()
    report = tmp_path / "state/demo/results/report.html"
    assert run.returncode == 2
    assert "result key" not in run.stdout + run.stderr
    assert f"1 finished jobs have no level 2 at the Odin API, among them 1:{SCANS[2]}" in " ".join(run.stdout.split())
    assert "Results of demo: 2 new, 2 scans with profiles" in run.stdout
    assert run.stdout.rstrip().endswith(f"Report: {report}")
    html = report.read_text()
    assert "<dt>With level 2</dt><dd>2</dd>" in html
    assert f"1:{SCANS[2]}" in html.partition('id="scans"')[2]

    deliver(odin, SCANS[2])
    found = play()
    assert found.returncode == 0, found.stdout
    assert "Results of demo: 1 new, 3 scans with profiles" in found.stdout
    assert "<dt>With level 2</dt><dd>3</dd>" in report.read_text()
    for options in ((), ("--check", "--diff")):
        assert re.search(r"localhost +: ok=\d+ +changed=0 ", play(*options).stdout)


def test_notes_of_the_user_neither_end_the_run_nor_go(play, odin, tmp_path):
    deliver(odin, SCANS[2])
    notes = tmp_path / "state/demo/results/level2_notes.nc"
    notes.parent.mkdir(parents=True)
    notes.write_text("what I saw")
    run = play()
    assert run.returncode == 0, run.stdout
    assert f"{notes} cannot be read and is left out" in " ".join((run.stdout + run.stderr).split())
    assert notes.read_text() == "what I saw"
