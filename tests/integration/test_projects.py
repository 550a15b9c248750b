"""project.yml and retry.yml on a real fleet: a project is made, its lost jobs are freed, and it is removed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from container_fleet import NAME, Fleet, docker
from qsmr.jobapi import JobApi

PROJECT = "lost"
# The service's clock can't be set forward: what is claimed now is made an hour old in its database.
AGE_CLAIMS = """
import sqlite3, sys
with sqlite3.connect("/var/lib/jobservice/jobservice.sqlite", timeout=30) as sql:
    project = sql.execute("SELECT id FROM projects WHERE project = ?", sys.argv[1:]).fetchone()
    aged = "UPDATE jobs SET claimed_at = datetime(claimed_at, '-1 hour') WHERE claimed AND project_id = ?"
    sql.execute(aged, project)
"""


@pytest.fixture
def api(fleet: Fleet) -> Iterator[JobApi]:
    settings = fleet.settings
    with JobApi(settings.job_api_root, settings.job_api_username, settings.job_api_password) as client:
        yield client


def states(api: JobApi) -> dict[str, str]:
    return {job["Id"]: str(job["Status"]).upper() for job in api.jobs(PROJECT)}


def test_a_project_is_made_and_removed_only_when_that_is_confirmed(fleet: Fleet, api: JobApi):
    deadline = {"qsmr_project": PROJECT, "project_deadline": "2036-12-24"}
    assert fleet.ok("project.yml", cmdline="--check", **deadline).changed == {"localhost": 1}
    assert api.project(PROJECT) is None
    assert fleet.ok("project.yml", **deadline).changed == {"localhost": 1}
    assert not fleet.ok("project.yml", **deadline).changed
    assert api.project(PROJECT)["Deadline"].startswith("2036-12-24")

    refused = fleet.play("project.yml", qsmr_project=PROJECT, project_state="absent")
    assert refused.rc != 0
    assert f"confirm it with {PROJECT}" in refused.stdout
    fleet.ok("project.yml", qsmr_project=PROJECT, project_state="absent", project_confirm=PROJECT)
    assert api.project(PROJECT) is None


def test_jobs_of_workers_that_are_gone_are_freed_and_those_of_a_silent_host_are_named(fleet: Fleet, api: JobApi):
    api.put_project(PROJECT, name=PROJECT)
    workers = {"1:1": "UWorker_host1_gone", "1:2": "UWorker_host3_gone", "1:3": "UWorker_host1_gone"}
    api.add_jobs(PROJECT, [{"id": job, "source_url": f"http://odin/{job}"} for job in workers])
    for job, worker in workers.items():
        api._authorised("PUT", f"/v4/{PROJECT}/jobs/{job}/claim", {"Worker": worker})
    api.set_status(PROJECT, "1:3", "FAILED")
    docker("exec", f"{NAME}-jobservice", "python3", "-c", AGE_CLAIMS, PROJECT)
    try:
        docker("pause", fleet.container("host3"))
        result = fleet.ok("retry.yml", qsmr_project=PROJECT, ansible_ssh_timeout=3)
    finally:
        subprocess.run(["docker", "unpause", fleet.container("host3")], check=True, capture_output=True)
    assert states(api) == {"1:1": "AVAILABLE", "1:2": "CLAIMED", "1:3": "AVAILABLE"}
    assert "1 failed and 1 stale jobs made available" in result.stdout
    assert "host3 does not tell which workers it runs, and they hold 1 jobs" in result.stdout

    fleet.ok("retry.yml", qsmr_project=PROJECT)
    assert set(states(api).values()) == {"AVAILABLE"}
    assert not fleet.ok("retry.yml", qsmr_project=PROJECT).changed
    api.delete_project(PROJECT)
