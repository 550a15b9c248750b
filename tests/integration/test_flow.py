"""The main job on a real fleet, as a user runs it: from local code to level 2, and everything a second time."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from container_fleet import NAME, REPOSITORY, Fleet, docker

SCANS = 60


def job_states(fleet: Fleet, project: str) -> dict[str, int]:
    """How many jobs of a project have which status."""
    answer = requests.get(f"{fleet.settings.job_api_root}/v4/{project}", timeout=10)
    return answer.json()["JobStates"] if answer.status_code == 200 else {}


def posts(fleet: Fleet, project: str) -> int:
    """How many requests that add jobs to a project the job service has seen."""
    log = subprocess.run(["docker", "logs", f"{NAME}-jobservice"], check=True, capture_output=True, text=True)
    return sum(f"POST /rest_api/v4/{project}/jobs" in line for line in (log.stdout + log.stderr).splitlines())


@pytest.fixture(scope="module")
def processed(fleet: Fleet) -> Fleet:
    """The fleet after the main job: snapshot, workers, jobs, all of them done, level 2 fetched."""
    for playbook in ("snapshot.yml", "workers.yml", "jobs.yml", "watch.yml", "results.yml"):
        fleet.ok(playbook)
    return fleet


def snapshot(fleet: Fleet) -> dict:
    """snapshot.json of the newest snapshot of project demo."""
    found = sorted(fleet.directory.glob("qsmr_snapshot_demo_*/snapshot.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(found[-1].read_text())


def test_every_scan_becomes_level2_of_this_snapshot(processed):
    assert job_states(processed, "demo") == {"Finished": SCANS}
    scans = (processed.directory / "scanids.txt").read_text().split()
    assert len(scans) == SCANS
    root = processed.settings.odin_api_root
    line = f"Snapshot: {snapshot(processed)['snapshot_id']}"
    for scan in scans:
        v4 = requests.get(f"{root}/v4/level2/demo/1/{scan}", timeout=10).json()["Info"]
        assert line in v4["L2c"]
        assert v4["L2i"]["ScanID"] == int(scan)
    v5 = requests.get(f"{root}/v5/level2/development/demo/1/{scans[0]}", timeout=10).json()["Data"]
    assert v5["L2"]["Count"] == len(v5["L2"]["Data"]) > 0


def test_results_are_kept_with_their_snapshot(processed):
    documents = list((processed.directory / "state/demo/results/1").rglob("*.json"))
    assert len(documents) == SCANS
    again = processed.ok("results.yml")
    assert again.changed == {}
    fetched = again.task_results("Level 2 of the finished scans is on disk")["localhost"]
    assert fetched["snapshots"] == {snapshot(processed)["snapshot_id"]: SCANS}


def test_demo_ends_with_what_became_of_every_scan(processed):
    """As make demo runs it, here on the fleet that has it all: nothing is left to do but to tell."""
    told = processed.ok("demo.yml").stdout
    assert f"From local code to level 2: {SCANS} of {SCANS} jobs finished on {len(processed.hosts)} hosts" in told
    assert f"{SCANS} level 2 documents made by snapshot {snapshot(processed)['snapshot_id']}" in told


def test_report_tells_of_fleet_and_science(processed):
    first = processed.ok("status.yml")
    path = processed.directory / "state/demo/results/report.html"
    assert f"Report: {path}" in first.stdout
    html = path.read_text()
    assert html.count("<svg") == len(list(path.with_name("report_figures").iterdir())) >= 8
    for host in processed.hosts:
        assert f'<th scope="row">{host}</th>\n<td>{snapshot(processed)["snapshot_id"]}</td>' in html
    assert f"<dt>With level 2</dt><dd>{SCANS}</dd>" in html
    assert "No job has failed." in html
    assert processed.ok("status.yml").changed == {}


def test_some_of_the_hosts_can_be_asked(processed):
    limit = "--limit control,host1"
    looked = processed.ok("status.yml", cmdline=limit).task_results("Where the project stands is known")["localhost"]
    states = {host["host"]: host["state"] for host in looked["picture"]["hosts"]}
    assert states == {host: "answers" if host == "host1" else "not asked" for host in processed.hosts}
    assert processed.ok("retry.yml", cmdline=limit).changed == {}
    processed.ok("status.yml")  # whose report tells of all of them again


def test_job_service_has_its_page(processed):
    answer = requests.get(processed.settings.job_api_root.removesuffix("rest_api"), timeout=10)
    assert answer.status_code == 200
    assert "dashboard/dashboard.js" in answer.text


def test_a_scan_leads_back_to_what_made_it(processed):
    made = snapshot(processed)
    scan = (processed.directory / "scanids.txt").read_text().split()[0]
    answer = processed.ok("provenance.yml", scan=scan)
    told = answer.task_results("What made the level 2 of the scan is known")["localhost"]
    found = told["scan"]
    assert found["snapshot"]["snapshot_id"] == made["snapshot_id"]
    assert found["snapshot"]["git_commit"] == made["code"]["git_commit"]
    assert found["snapshot"]["image_digest"] == made["image"]["id"]
    assert found["snapshot"]["base_image"] == made["base_image"]["name"]
    assert found["worker"].split("_")[1] in processed.hosts
    assert found["rolled_out"]
    assert answer.changed == {}
    assert made["image"]["id"] in told["text"]


def work_here(fleet: Fleet, project: str, **environment: str) -> None:
    """Do all jobs of a project on this machine, as a worker does them but for the container."""
    settings = fleet.settings
    root = f"{settings.job_api_root}/v4/{project}/jobs"
    answer = requests.get(
        f"{settings.job_api_root}/token", auth=(settings.job_api_username, settings.job_api_password), timeout=30
    )
    code = fleet.directory / f"code-{project}"
    for part in ("code", "data"):
        shutil.copytree(REPOSITORY / "examples/qsmr-demo" / part, code, dirs_exist_ok=True)
    with requests.Session() as session:
        session.auth = (answer.json()["token"], "")
        while (fetched := session.get(f"{root}/fetch", timeout=30)).status_code == 200:
            job = fetched.json()["Job"]
            session.put(job["URLS"]["URL-claim"], json={"Worker": "UWorker_here_1"}, timeout=30).raise_for_status()
            urls = (job["URLS"]["URL-source"], job["URLS"]["URL-target"])
            path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
            command = [str(code / "run_runscript.sh"), "/opt/matlab/v90", *urls, "notused", "notused"]
            subprocess.run(command, env={"PATH": path, **environment}, check=True, timeout=60, capture_output=True)
            done = {"Status": "FINISHED", "ProcessingTime": 1.0}
            session.put(job["URLS"]["URL-status"], json=done, timeout=30).raise_for_status()


def test_two_projects_are_compared_and_the_verdict_names_their_true_difference(processed):
    scans = processed.directory / "some-scans.txt"
    scans.write_text("\n".join((processed.directory / "scanids.txt").read_text().split()[:8]) + "\n")
    loose = {"qsmr_project": "loose", "qsmr_jobs_file": str(scans), "qsmr_compare_with": "demo"}
    processed.ok("jobs.yml", **loose)
    work_here(processed, "loose", QSMR_CONFIG="q_loose", QSMR_SNAPSHOT_ID="261124-0000000000")
    compared = processed.ok("compare.yml", **loose)
    verdict = compared.task_results("The two are compared")["localhost"]["verdict"]
    assert verdict.startswith("loose differs from demo on 8 common scans: ")
    assert re.search(r"noise error is \d+% larger", verdict)
    assert "apriori_error 0.4 → 1.0, correlation_length 5000 → 3000" in verdict
    page = processed.directory / "state/loose/compare_demo/compare.html"
    assert snapshot(processed)["snapshot_id"] in page.read_text()
    for cmdline in ("--skip-tags fetch", "--check --diff"):
        assert processed.ok("compare.yml", cmdline=cmdline, **loose).changed == {}


def test_all_hosts_took_part(processed):
    jobs = requests.get(f"{processed.settings.job_api_root}/v4/demo/jobs", timeout=10).json()["Jobs"]
    assert {job["Worker"].split("_")[1] for job in jobs} == set(processed.hosts)


CHANGING = ("demo_fleet", "services", "snapshot", "workers", "jobs", "results", "status")
LOOKING = ("watch", "logs")


@pytest.mark.parametrize("playbook", [f"{name}.yml" for name in CHANGING + LOOKING])
@pytest.mark.parametrize("mode", ["", "--check --diff"])
def test_second_run_changes_nothing(processed, playbook, mode):
    before = posts(processed, "demo")
    again = processed.ok(playbook, cmdline=mode)
    assert again.changed == {}
    assert not any(again.stats["failures"].values())
    assert posts(processed, "demo") == before


def test_check_mode_says_what_would_be_added_and_adds_nothing(processed):
    checked = processed.ok("jobs.yml", cmdline="--check --diff", qsmr_project="onlychecked")
    assert checked.changed == {"localhost": 1}
    assert "60" in checked.stdout
    assert job_states(processed, "onlychecked") == {}
    assert posts(processed, "onlychecked") == 0


def test_wrong_password_is_one_line_and_adds_nothing(processed, tmp_path):
    config = tmp_path / "wrong.conf"
    right = (processed.directory / "demo.conf").read_text()
    config.write_text(right + "\nJOB_API_PASSWORD=wrong\n")
    config.chmod(0o600)
    result = processed.play("jobs.yml", qsmr_project="wrongpassword", qsmr_config_file=str(config))
    assert result.rc != 0
    assert "401" in result.stdout
    assert "Traceback" not in result.stdout
    assert job_states(processed, "wrongpassword") == {}


def test_workers_renew_a_token_that_is_no_longer_taken(processed):
    """With another signing key every token is refused at once, just as an expired one is."""
    container = f"{NAME}-jobservice"
    key = docker("exec", container, "sh", "-c", "ls /var/lib/jobservice/*key*").strip()
    docker("exec", "-u", "root", container, "rm", key)
    docker("restart", container)
    processed.ok("jobs.yml", qsmr_project="demo", qsmr_jobs_file=str(extra_scans(processed, 6)))
    processed.ok("watch.yml")
    assert job_states(processed, "demo") == {"Finished": SCANS + 6}


def extra_scans(fleet: Fleet, count: int, first: int = 7200000000) -> Path:
    """A file with scan ids that are not the demo's; those that 1000 divides are broken-off scans of the stand-in."""
    path = fleet.directory / f"scans-{first}-{count}.txt"
    path.write_text("\n".join(str(first + 317 * n + 1) for n in range(count)) + "\n")
    return path


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_jobs_survive_kill_at_any_moment(processed, seed):
    count, project = 3000, f"killed{seed}"
    moment = random.Random(seed)
    command = [
        *(Path(sys.executable).with_name("ansible-playbook"), "playbooks/jobs.yml"),
        *("-e", json.dumps(processed.variables)),
        *("-e", f"qsmr_project={project}", "-e", f"qsmr_jobs_file={extra_scans(processed, count)}"),
    ]
    for _attempt in range(3):
        run = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        time.sleep(moment.uniform(0.8, 3.0))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    processed.ok("jobs.yml", qsmr_project=project, qsmr_jobs_file=str(extra_scans(processed, count)))
    assert job_states(processed, project) == {"Available": count}
    again = processed.ok("jobs.yml", qsmr_project=project, qsmr_jobs_file=str(extra_scans(processed, count)))
    assert again.changed == {}
    with sqlite3.connect(processed.directory / f"state/{project}/ledger.sqlite") as ledger:
        states = dict(ledger.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall())
    assert states == {"added": count}
