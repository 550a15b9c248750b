"""Failed jobs and those of dead workers become available again; projects are made, changed and removed."""

import time
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from qsmr.claims import Rules, release
from qsmr.errors import QsmrError
from qsmr.jobapi import JobApi
from qsmr.ledger import Ledger
from qsmr.projects import counters, current_fields, deadline_of, wanted_fields

names = (f"claims{number}" for number in count())


@pytest.fixture
def api(shared_job_service):
    with JobApi(shared_job_service.root, shared_job_service.username, shared_job_service.password) as client:
        yield client


@pytest.fixture
def project(api):
    """A project with jobs in every state."""
    name = next(names)
    ids = ["1:1", "1:2", "1:3", "1:4", "1:5"]
    api.add_jobs(name, [{"id": job, "source_url": f"http://odin/{job}"} for job in ids])
    for job, worker, status in [
        ("1:2", "UWorker_host1_a", "FAILED"),
        ("1:3", "UWorker_host3_b", "STARTED"),
        ("1:4", "UWorker_host1_a", "FINISHED"),
        ("1:5", "UWorker_host1_c", "CLAIMED"),
    ]:
        claim(api, name, job, worker, status)
    return name


def claim(api, project, job, worker, status):
    api._authorised("PUT", f"/v4/{project}/jobs/{job}/claim", {"Worker": worker})
    api.set_status(project, job, status)


@pytest.fixture
def retry(api, project, tmp_path):
    def run(check=False, later=timedelta(0), **rules):
        ledger = Ledger(tmp_path, throwaway=check)
        return release(api, project, ledger, Rules(**rules), datetime.now(UTC) + later, check)

    return run


def states(api, project):
    return {job["Id"]: (job["Status"].upper(), job["IsClaimed"]) for job in api.jobs(project)}


def test_failed_jobs_become_available_and_the_rest_stays(api, project, retry):
    before = states(api, project)
    assert retry(check=True).failed == ["1:2"]
    assert states(api, project) == before
    assert retry().failed == ["1:2"]
    assert states(api, project) == before | {"1:2": ("AVAILABLE", False)}
    assert not retry().changed


def test_a_job_that_failed_too_often_is_set_aside_and_named(api, project, retry):
    for _ in range(2):
        assert retry(max_attempts=3).failed == ["1:2"]
        time.sleep(1.1)  # the service tells failures apart by whole seconds
        claim(api, project, "1:2", "UWorker_host1_a", "FAILED")
    released = retry(max_attempts=3)
    assert (released.failed, released.set_aside) == ([], ["1:2"])
    assert "1 set aside after 3 failures: 1:2" in released.summary(Rules(max_attempts=3))
    assert states(api, project)["1:2"] == ("FAILED", True)


def test_looking_twice_at_one_failure_counts_it_once(tmp_path):
    ledger = Ledger(tmp_path)
    assert ledger.count_failure("1:2", "2016-01-01T10:00:00") == 1
    assert ledger.count_failure("1:2", "2016-01-01T10:00:00") == 1
    assert Ledger(tmp_path).count_failure("1:2", "2016-01-01T11:00:00") == 2


def test_jobs_of_dead_workers_become_available(api, project, retry):
    assert retry(failed=False, dead_workers=["UWorker_host3_*"]).stale == ["1:3"]
    assert states(api, project)["1:3"] == ("AVAILABLE", False)


A_MINUTE = timedelta(minutes=1, seconds=2)


def test_jobs_of_workers_that_their_host_does_not_run_become_available(api, project, retry):
    running = {"host1": ["UWorker_host1_a"], "host3": None}
    assert not retry(failed=False, running=running).changed, "a worker may have started since the host was asked"
    released = retry(failed=False, running=running, later=A_MINUTE)
    assert (released.stale, dict(released.unsure)) == (["1:5"], {"host3": 1})
    assert "host3 does not tell which workers it runs, and they hold 1 jobs" in released.warnings()[0]
    assert states(api, project)["1:3"] == ("STARTED", True)


def test_jobs_of_workers_whose_host_was_not_asked_stay_as_they_are(api, project, retry):
    claim(api, project, "1:1", "UWorker_host1_b_c", "STARTED")
    released = retry(
        failed=False, running={"host1": ["UWorker_host1_a"]}, not_asked=["host1_b", "host3"], later=A_MINUTE
    )
    assert (released.stale, released.warnings()) == (["1:5"], [])


def test_a_claim_that_is_younger_than_now_does_not_outlive_its_worker(api, project, retry):
    """The service's clock, or ours, was stepped since."""
    running = {"host1": ["UWorker_host1_a"]}
    assert retry(failed=False, running=running, later=-A_MINUTE).stale == ["1:5"]


def test_a_worker_belongs_to_the_host_with_the_longest_name(retry, api, project):
    claim(api, project, "1:1", "UWorker_host1_b_c", "STARTED")
    released = retry(failed=False, running={"host1": ["UWorker_host1_c"], "host1_b": None}, later=A_MINUTE)
    assert (released.stale, dict(released.unsure)) == ([], {"host1_b": 1})


def test_a_job_that_keeps_losing_its_workers_is_set_aside_as_failed(api, project, retry):
    rules = {"failed": False, "running": {"host3": []}, "max_attempts": 2, "later": A_MINUTE}
    assert retry(**rules).stale == ["1:3"]
    time.sleep(1.1)  # the service tells claims apart by whole seconds
    claim(api, project, "1:3", "UWorker_host3_d", "STARTED")
    assert retry(**rules).set_aside == ["1:3"]
    assert states(api, project)["1:3"] == ("FAILED", True)
    assert retry(max_attempts=2).failed == ["1:2"], "it stays aside"


def test_jobs_that_are_held_too_long_become_available(api, project, retry):
    assert retry(failed=False, stale_minutes=30).stale == []
    assert sorted(retry(failed=False, stale_minutes=30, later=timedelta(minutes=31)).stale) == ["1:3", "1:5"]
    assert states(api, project)["1:4"] == ("FINISHED", True)


def test_a_run_that_was_killed_in_between_is_completed(api, project, retry):
    api.unclaim(project, "1:2")
    released = retry()
    assert (released.failed, released.tidied) == ([], ["1:2"])
    assert states(api, project)["1:2"] == ("AVAILABLE", False)


def test_a_project_is_made_and_only_its_differences_are_set(api):
    name = next(names)
    wanted = wanted_fields("2030-01-01T01:00:00+01:00", {"A": "b"}, "registry/image:1")
    api.put_project(name, name=name, **wanted)
    record = api.project(name)
    assert current_fields(record) == wanted
    assert wanted["deadline"] == "2030-01-01T00:00:00"
    assert counters(record)["NrJobsAdded"] == 0
    api.put_project(name, deadline=deadline_of("none"))
    assert current_fields(api.project(name)) == wanted | {"deadline": None}
    api.delete_project(name)
    assert api.project(name) is None


@pytest.mark.parametrize(("text", "says"), [("soon", "give YYYY-MM-DD"), ("2040-01-01", "too late")])
def test_a_deadline_that_cannot_be_is_refused(text, says):
    with pytest.raises(QsmrError, match=says):
        deadline_of(text)
