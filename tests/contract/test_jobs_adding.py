"""Jobs are added to the embedded job service, over its own restarts, kills and conflicts."""

import threading
import time

import pytest
from qsmr.addjobs import Adding
from qsmr.jobapi import JobApi
from qsmr.jobdoc import JobMaker
from qsmr.settings import Settings

SECRETS = {"ecb": "adsfasreerfgtres", "eax": "rc/lY+OQYq6mvI6tCfr+tQ=="}


@pytest.fixture
def add(tmp_path):
    def run(service, scans, project="demo", secret="", cipher="ecb", version="v4", state="state", check=False):
        settings = Settings(
            "http://odin/rest_api", secret or SECRETS[cipher], service.root, service.username, service.password
        )
        with JobApi(service.root, service.username, service.password) as api:
            make = JobMaker(settings, project, version, cipher)
            rows = ((1, scan, line) for line, scan in enumerate(scans, 1))
            return Adding(api, make, project, tmp_path / state / project, patience=60).run(rows, check)

    return run


def stored(service, project):
    jobs = JobApi(service.root).jobs(project)
    assert len({job["Id"] for job in jobs}) == len(jobs)
    return {int(job["Id"].partition(":")[2]) for job in jobs}


@pytest.mark.parametrize(("cipher", "version"), [("ecb", "v4"), ("eax", "v5")])
def test_jobs_are_added_once_and_are_there_afterwards(shared_job_service, add, cipher, version):
    project = f"once{cipher}"
    options = {"project": project, "cipher": cipher, "version": version}
    would = add(shared_job_service, range(1, 1001), check=True, **options)
    assert (would.counts.added, would.changed) == (1000, True)
    assert JobApi(shared_job_service.root).project(project) is None
    assert add(shared_job_service, range(1, 1001), **options).counts.added == 1000
    assert not add(shared_job_service, range(1, 1001), **options).changed
    without_ledger = add(shared_job_service, range(1, 1001), state="other", **options)
    assert (without_ledger.counts.were_there, without_ledger.failed) == (1000, False)
    assert JobApi(shared_job_service.root).project(project)["NrJobsAdded"] == 1000


def test_conflicts_are_named_and_the_rest_is_added(shared_job_service, add):
    add(shared_job_service, [5, 6], "clash", secret="another secret !", state="other")
    result = add(shared_job_service, range(1, 101), "clash")
    assert (result.counts.added, result.counts.conflict) == (98, 2)
    assert [str(fault.scan) for fault in result.faults] == ["1:5", "1:6"]
    assert stored(shared_job_service, "clash") == set(range(1, 101))


def test_a_project_that_was_deleted_is_filled_again(shared_job_service, add):
    add(shared_job_service, range(1, 11), "deleted")
    JobApi(shared_job_service.root, shared_job_service.username, shared_job_service.password)._authorised(
        "DELETE", "/v4/deleted"
    )
    result = add(shared_job_service, range(1, 11), "deleted")
    assert (result.counts.added, result.gone) == (10, 10)


def test_two_runs_from_two_machines_add_each_job_once(shared_job_service, add):
    results = []
    threads = [
        threading.Thread(
            target=lambda name=name: results.append(add(shared_job_service, range(1, 3001), "race", state=name))
        )
        for name in ("one", "two")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(result.failed for result in results), [result.complaint() for result in results]
    assert stored(shared_job_service, "race") == set(range(1, 3001))


def test_a_service_that_is_killed_and_comes_back_gets_every_job_once(job_service, add):
    adding = threading.Thread(target=add, args=(job_service, range(1, 20_001)))
    adding.start()
    for _ in range(2):
        time.sleep(0.5)
        job_service.kill()
        job_service.start()
    adding.join()
    result = add(job_service, range(1, 20_001))
    assert not result.failed, result.complaint()
    assert stored(job_service, "demo") == set(range(1, 20_001))
    assert JobApi(job_service.root).project("demo")["NrJobsAdded"] == 20_000
