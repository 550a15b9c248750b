"""A project whose results are by a snapshot, and another snapshot that comes: the services, workers and one host.

The host's Docker is a script: it has an engine and runs nothing, so that the release on its disk is what it runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import requests
from contract.job_service import JobService
from contract.odin_service import OdinService, document
from qsmr.audit import Audit
from qsmr.jobapi import JobApi
from qsmr.jobdoc import JobMaker
from qsmr.ledger import Ledger
from qsmr.odinapi import OdinApi
from qsmr.progress import Progress
from qsmr.release import Releases
from qsmr.reprocess import Again, Knowledge, Reprocessing
from qsmr.settings import load_settings

REPOSITORY = Path(__file__).parents[2]
A, B = "261127-aaaaaaaaaa", "261128-bbbbbbbbbb"
FIRST = 7123991206
STEP = 2885  # ticks between the stand-in's scans
DOCKER = """#!/bin/sh
case "$*" in
info*) echo '{"DockerRootDir": "/", "ServerVersion": "26.1.5", "Driver": "overlay2", "Architecture": "x86_64"}' ;;
*version*) echo 2.20.0 ;;
esac
"""


class Lab:
    def __init__(self, directory: Path, jobs: JobService, odin: OdinService, scans: int) -> None:
        self.directory, self.odin, self.project = directory, odin, "demo"
        self.scans = [FIRST + STEP * number for number in range(scans)]
        self.api = JobApi(jobs.root, jobs.username, jobs.password)
        self.config = directory / "lab.conf"
        self.config.write_text(
            f"ODIN_API_ROOT={odin.root}\nODIN_SECRET={odin.secret}\nJOB_API_ROOT={jobs.root}\n"
            f"JOB_API_USERNAME={jobs.username}\nJOB_API_PASSWORD={jobs.password}\n"
        )
        self.config.chmod(0o600)
        (directory / "scanids.txt").write_text("".join(f"{scan}\n" for scan in self.scans))
        (directory / "bin").mkdir()
        (directory / "bin/docker").write_text(DOCKER)
        (directory / "bin/docker").chmod(0o755)
        python = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
        hosts = {"control": {"hosts": {"localhost": python}}, "workers": {"hosts": {"host1": python}}}
        (directory / "hosts.yml").write_text(json.dumps(hosts))

    @property
    def state(self) -> Path:
        return self.directory / "state" / self.project

    def play(self, playbook: str, *options: str, **settings: Any) -> subprocess.CompletedProcess[str]:
        given = {
            "qsmr_project": self.project,
            "qsmr_config_file": str(self.config),
            "qsmr_freq_mode": "1",
            "qsmr_jobs_file": str(self.directory / "scanids.txt"),
            "qsmr_state_dir": str(self.directory / "state"),
            "qsmr_snapshot_dir": str(self.directory),
            "qsmr_host_dir": str(self.directory / "opt"),
        }
        return subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", self.directory / "hosts.yml"]
            + [f"playbooks/{playbook}", "-e", json.dumps(given | settings), *options],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
            env=os.environ | {"NO_COLOR": "1", "PATH": f"{self.directory / 'bin'}:{os.environ['PATH']}"},
        )  # fmt: skip

    def add_jobs(self) -> None:
        make = self.maker()
        self.api.add_jobs(self.project, [make(1, scan) for scan in self.scans])

    def maker(self) -> JobMaker:
        return JobMaker(load_settings(self.config), self.project)

    def roll_out(self, snapshot: str, host: str = "host1") -> None:
        """As workers.yml leaves it behind: the release is on the host, and the audit tells of it."""
        releases = Releases(self.directory / "opt", self.project)
        releases.directory(snapshot).mkdir(parents=True, exist_ok=True)
        releases.switch(snapshot)
        audit, run = Audit(self.state), f"run-{snapshot}"
        audit.add(run, "begin", what="rollout", to=snapshot, stages=[[host]])
        audit.add(run, "stage", stage=1, hosts=[host])
        audit.add(run, "host", host=host, **{"from": ""}, to=snapshot, ended="switched")
        audit.add(run, "end", ended="done", runs={host: snapshot})

    def work(self, snapshot: str | None, most: int = 10**6, fails: int = 0, worker: str = "") -> int:
        """Do what is available, ``snapshot`` being what the results say of themselves; the last ``fails`` jobs fail."""
        done = 0
        free = [job["Id"] for job in self.api.jobs(self.project) if job["IsClaimed"] is False][:most]
        for job_id in free:
            self.claim(job_id, worker or f"UWorker_host1_{snapshot}")
            failed = len(free) - done <= fails
            if not failed:
                self.deliver(int(job_id.partition(":")[2]), snapshot)
            self.api.set_status(self.project, job_id, "FAILED" if failed else "FINISHED")
            done += 1
        return done

    def deliver(self, scan: int, snapshot: str | None) -> None:
        body = document(1, scan)
        if self.odin.rules == "2016":
            body["L2I"] = {key: value for key, value in body["L2I"].items() if key not in ("SBpath", "Tsat")}
        body["L2C"] = (f"Snapshot: {snapshot}\n" if snapshot else "") + body["L2C"]
        answer = requests.post(self.maker()(1, scan)["target_url"], json=body, timeout=30)
        assert answer.status_code == 201, answer.text

    def claim(self, job_id: str, worker: str) -> None:
        self.api._authorised("PUT", f"/v4/{self.project}/jobs/{job_id}/claim", {"Worker": worker})

    def states(self) -> dict[str, int]:
        """The number of jobs by state; one that is not claimed is available, whatever its status says."""
        found: dict[str, int] = {}
        for job in self.api.jobs(self.project):
            state = str(job["Status"]).lower() if job["IsClaimed"] else f"free, {str(job['Status']).lower()}"
            found[state] = found.get(state, 0) + 1
        return found

    def results_by(self, snapshot: str) -> int:
        return OdinApi(self.odin.root).level2_count(self.project, 1, "scans", f"Snapshot: {snapshot}")

    def again(self, snapshot: str, check: bool = False, everywhere: str | None = None) -> Again:
        """Make available what the snapshot has not done, as qsmr_reprocess does."""
        odin = OdinApi(self.odin.root, 4)
        self.state.mkdir(parents=True, exist_ok=True)
        ledger = Ledger(self.state, throwaway=check)
        try:
            known = Knowledge.of(odin, self.project, [1], snapshot, everywhere)
            run = Reprocessing(self.api, odin, self.maker(), self.project, ledger, Progress(None, self.project), 4)
            return run.run(snapshot, known, check)
        finally:
            ledger.close()
