"""What the playbooks say of a project in every state, in words, in their last line and in the exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from qsmr.jobapi import JobApi

REPOSITORY = Path(__file__).parents[2]
CONTROL = """\
control: {hosts: {localhost: {ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}}}
workers: {hosts: {down: {ansible_host: 127.0.0.1, ansible_port: 1}}}
"""


class Lab:
    """A control node with a host that is down, and a job service of its own; the Odin API is nowhere."""

    def __init__(self, service: Any, directory: Path) -> None:
        self.service, self.directory = service, directory
        self.api = JobApi(service.root, service.username, service.password)
        (directory / "hosts.yml").write_text(CONTROL)
        config = directory / "lab.conf"
        config.write_text(
            f"ODIN_API_ROOT=http://127.0.0.1:1/rest_api\nODIN_SECRET=0123456789abcdef\nJOB_API_ROOT={service.root}\n"
            f"JOB_API_USERNAME={service.username}\nJOB_API_PASSWORD={service.password}\n"
        )
        config.chmod(0o600)

    def jobs(self, **states: int) -> None:
        """So many jobs in each state, one worker's."""
        ids = [f"1:{n}" for n in range(sum(states.values()))]
        self.api.add_jobs("demo", [{"id": job, "source_url": "http://odin/"} for job in ids])
        for state, number in states.items():
            for _n in range(number):
                job = ids.pop()
                if state != "available":
                    self.put(job, "claim", Worker="UWorker_host1_a")
                    self.put(job, "status", Status=state.upper(), ProcessingTime=0.5)
                if state == "failed":
                    self.put(job, "output", Output="2026-01-01T00:00:00.1 - STDERR: ImportError: no module named qsmr")

    def put(self, job: str, what: str, **body: object) -> None:
        url = f"{self.service.root}/v4/demo/jobs/{job}/{what}"
        requests.put(url, json=body, auth=(self.service.username, self.service.password), timeout=30).raise_for_status()

    def play(self, playbook: str, *options: str, **variables: object) -> subprocess.CompletedProcess[str]:
        values = {
            "qsmr_project": "demo",
            "qsmr_config_file": str(self.directory / "lab.conf"),
            "qsmr_state_dir": str(self.directory / "state"),
            **variables,
        }
        run = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", self.directory / "hosts.yml"]
            + [f"playbooks/{playbook}.yml", "-e", json.dumps(values), *options],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=120,
            env=os.environ | {"NO_COLOR": "1", "COLUMNS": "80"},
        )  # fmt: skip
        assert "Traceback" not in run.stdout + run.stderr
        return run


@pytest.fixture
def lab(job_service: Any, tmp_path: Path) -> Lab:
    return Lab(job_service, tmp_path)


def last_line(run: subprocess.CompletedProcess[str]) -> str:
    return run.stdout.rstrip("\n").rpartition("\n")[2]


@pytest.mark.parametrize(
    ("states", "code", "line"),
    [
        ({"failed": 6}, 10, "Failing: 0 of 6 finished, 6 failed, 0 running, 0 waiting"),
        ({"failed": 4, "finished": 2}, 10, "Failing: 2 of 6 finished, 4 failed, 0 running, 0 waiting"),
        ({"failed": 3, "finished": 3}, 0, "Done: 3 of 6 finished, 3 failed, 0 running, 0 waiting"),
        ({"finished": 2}, 0, "Done: 2 of 2 finished, 0 failed, 0 running, 0 waiting"),
    ],
    ids=["all failed", "too many failed", "half failed", "all finished"],
)
def test_status_and_watch_say_the_same_of_a_project_that_has_ended(lab, states, code, line):
    lab.jobs(**states)
    for playbook in ("status", "watch"):
        run = lab.play(playbook)
        assert (run.returncode, last_line(run)) == (code, line), run.stdout


def test_status_and_watch_say_the_same_of_a_project_that_hangs(lab):
    """Its only worker claimed a job and is silent since, as is its host."""
    lab.jobs(available=2, started=1)
    line = "No workers: 0 of 3 finished, 0 failed, 1 running, 2 waiting"
    run = lab.play("watch", watch_stall_timeout=2)
    assert (run.returncode, last_line(run)) == (12, line), run.stdout
    run = lab.play("status", status_stall_timeout=2)
    assert (run.returncode, last_line(run)) == (12, line), run.stdout
    assert "! Nothing has moved since" in run.stdout
    assert "has ended one: UWorker_host1_a (1)" in " ".join(run.stdout.split())
    assert lab.play("status").returncode == 0, "jobs may take a while"


def test_programs_read_the_same_in_the_json(lab, tmp_path):
    lab.jobs(failed=2)
    run = lab.play("status", qsmr_output="json", qsmr_output_file=str(tmp_path / "status.json"))
    seen = json.loads((tmp_path / "status.json").read_text())
    assert (seen["ending"], seen["exit_code"], run.returncode) == ("failures", 10, 10)
    assert seen["message"].startswith("All 2 jobs that ended have failed, and none has finished")


def test_project_without_jobs_is_not_done(lab):
    """The service keeps a record of a project that was only named."""
    url = f"{lab.service.root}/v4/demo"
    requests.put(url, json={"name": "demo"}, auth=(lab.service.username, lab.service.password), timeout=30)
    status, watch = lab.play("status"), lab.play("watch")
    assert (status.returncode, last_line(status)) == (0, "No jobs: no job is known")
    assert "Project demo has no jobs: run jobs.yml to add some." in status.stdout
    assert watch.returncode == 2
    assert last_line(watch) == ("Failed on localhost: Project demo has no jobs: add some with playbooks/jobs.yml."), (
        "what was wrong is the last line"
    )


def test_part_of_failures_that_is_none_is_refused(lab):
    run = lab.play("status", qsmr_max_failed_share=50)
    assert run.returncode == 2
    assert "qsmr_max_failed_share" in run.stderr and "from 0 to 1" in run.stderr


def page_says(playbook: str, code: int) -> str:
    """The last line that docs/exit-codes.md has for this end of a playbook."""
    row = rf"^\| `{playbook}\.yml` \| (?:\d+, )*{code}(?:, \d+)* \| [^|]* \| ([^|]*) \|$"
    return re.search(row, (REPOSITORY / "docs/exit-codes.md").read_text(), re.MULTILINE)[1]


@pytest.mark.parametrize(
    ("playbook", "code", "starts", "words"),
    [
        ("project", 0, "localhost ", "`PLAY RECAP`"),
        ("provenance", 2, "Failed on localhost: ", "`Failed on localhost: ...`"),
        ("stop", 4, "Failed on down: ", "`Failed on <host>: ...` where none could be reached"),
        ("snapshot", 2, "Failed on localhost: Code directory", "`Failed on localhost: ...`"),
    ],
)
def test_page_of_exit_codes_says_what_is_seen(lab, playbook, code, starts, words):
    lab.jobs(available=1)
    run = lab.play(playbook, "-e", "scan=7014791071", qsmr_code_dir=str(lab.directory / "nowhere"))
    assert run.returncode == code, run.stdout
    assert last_line(run).startswith(starts)
    assert words in page_says(playbook, code)
