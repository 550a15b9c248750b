"""Failed jobs and those of dead workers become available again; projects are made, changed and removed."""

import json
import shlex
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from contract.other_job_service import OtherJobService
from contract.other_job_service import job as entry
from qsmr.claims import Rules, free_jobs_of, release
from qsmr.errors import QsmrError
from qsmr.jobapi import JobApi, JobApiError
from qsmr.ledger import Ledger
from qsmr.projects import counters, current_fields, deadline_of, wanted_fields
from uworker.settings import worker_name as uworker_name

REPOSITORY = Path(__file__).parents[2]
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
    assert (released.stale, released.unsure) == (["1:5"], {"host3": {"UWorker_host3_b": 1}})
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
    assert (released.stale, released.unsure) == ([], {"host1_b": {"UWorker_host1_b_c": 1}})


def test_a_worker_of_a_host_that_nobody_knows_is_not_of_the_one_whose_name_it_begins_with(retry, api, project):
    """host1_b may be of another lab, and work on."""
    claim(api, project, "1:1", "UWorker_host1_b_0123456789ab", "STARTED")
    released = retry(failed=False, running={"host1": ["UWorker_host1_a"], "host3": ["UWorker_host3_b"]}, later=A_MINUTE)
    assert (released.stale, released.unsure) == (["1:5"], {})


LONG = "node-17.retrieval-cluster.department-of-space-science.example.org"


@pytest.mark.parametrize("host", [LONG, LONG[:44], "node_" * 9])
def test_jobs_of_dead_workers_of_hosts_with_long_names_become_available(api, project, retry, host):
    """Such names had their end cut off, and were no host's."""
    alive, *dead = (worker_of(host, own) for own in ("0123456789ab", "ba9876543210", "ba9876543211"))
    for number, worker in enumerate([alive, *dead]):
        held(api, project, f"2:{number}", worker)
    assert sorted(retry(failed=False, running={host: [alive]}, later=A_MINUTE).stale) == ["2:1", "2:2"]
    assert states(api, project)["2:0"] == ("STARTED", True)


def held(api, project, job, worker):
    """A worker is at work on one more job."""
    api.add_jobs(project, [{"id": job, "source_url": f"http://odin/{job}"}])
    claim(api, project, job, worker, "STARTED")


def worker_of(host, own):
    """As earlier versions named it, whose workers may still run."""
    return uworker_name(own, host)


def test_hosts_whose_long_names_are_cut_alike_do_not_lose_their_workers_to_each_other(api, project, retry):
    first, second = f"{LONG[:45]}-1", f"{LONG[:45]}-2"
    claim(api, project, "1:1", worker_of(second, "0123456789ab"), "STARTED")
    rules = {"failed": False, "later": A_MINUTE}
    assert "1:1" not in retry(running={first: []}, not_asked=[second], **rules).stale
    assert "1:1" not in retry(running={first: [], second: [worker_of(second, "0123456789ab")]}, **rules).stale
    unsure = retry(running={first: [], second: None}, **rules).unsure
    assert unsure == {second: {worker_of(second, "0123456789ab"): 1}}
    assert retry(running={first: [], second: []}, **rules).stale == ["1:1"]


@pytest.mark.parametrize("host", ["host3", "lab[1]", LONG])
def test_words_of_the_hint_free_the_jobs_of_a_lost_host_and_of_no_other(api, project, retry, host):
    """Copied into a shell, and read by Ansible."""
    held(api, project, "2:1", worker_of(host, "0123456789ab"))
    held(api, project, "2:2", worker_of(f"b_{host}", "0123456789ab"))
    held(api, project, "2:3", f"UWorker_{host}_b_0123456789ab"[:64])
    [hint] = retry(failed=False, running={host: None}, check=True).warnings()
    option, value = shlex.split(hint.partition(" run this with ")[2])
    assert option == "-e"
    freed = retry(failed=False, dead_workers=json.loads(value)["qsmr_dead_workers"]).stale
    assert sorted(freed) == (["1:3", "2:1"] if host == "host3" else ["2:1"])


def test_one_job_that_cannot_be_freed_keeps_no_other_of_workers_that_are_gone(api, project, monkeypatch):
    """As after a rollout, for the workers that it replaced."""
    held(api, project, "2:1", "UWorker_host1_c")
    unclaim = api.unclaim

    def refuse(project, job):
        if job == "1:5":
            raise JobApiError("DELETE claim: 500", 500)
        unclaim(project, job)

    monkeypatch.setattr(api, "unclaim", refuse)
    freed, faults = free_jobs_of(api, project, ["UWorker_host1_c", "UWorker_host3_b"])
    assert (freed, faults) == (2, ["DELETE claim: 500"])
    found = states(api, project)
    assert found["2:1"] == found["1:3"] == ("AVAILABLE", False)
    assert found["1:5"] == ("CLAIMED", True)


@pytest.fixture
def theirs():
    """A service with an odd job; ours refuses to make one."""
    service = OtherJobService(failed=2)
    claimed = "2026-11-24T09:00:00"
    service.jobs += [
        entry(7, None, "old worker", claimed=claimed),
        entry(8, "STARTED", "UWorker_down_a", claimed=claimed),
    ]
    yield service
    service.stop()


@pytest.fixture
def retry_playbook(theirs, tmp_path):
    config = tmp_path / "lab.conf"
    config.write_text(
        f"ODIN_API_ROOT=http://127.0.0.1:1/rest_api\nODIN_SECRET=0123456789abcdef\nJOB_API_ROOT={theirs.root}\n"
        "JOB_API_USERNAME=ana\nJOB_API_PASSWORD=a password\n"
    )
    config.chmod(0o600)
    inventory = tmp_path / "inventory.yml"
    here = "ansible_connection: local, ansible_python_interpreter: '{{ ansible_playbook_python }}'"
    inventory.write_text(
        f"control: {{hosts: {{localhost: {{{here}}}}}}}\n"
        "workers: {hosts: {down: {ansible_host: 127.0.0.1, ansible_port: 1}}}\n"
    )

    def run(*words):
        settings = {"qsmr_project": "their", "qsmr_config_file": config, "qsmr_state_dir": tmp_path / "state"}
        extra = [word for name, value in settings.items() for word in ("-e", f"{name}={value}")]
        playbook = str(Path(sys.executable).parent / "ansible-playbook")
        command = [playbook, "-i", str(inventory), "playbooks/retry.yml", *extra, *words]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)

    return run


def test_retry_names_a_job_without_a_status_and_frees_the_others(theirs, retry_playbook):
    run = retry_playbook()
    said = " ".join((run.stdout + run.stderr).split())
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 failed and 0 stale jobs made available, 1 tidied, 2 left alone, as they are odd: 1:7, 1:9002" in said
    assert "Job 1:7 is left as it is: it has no status" in said
    assert [(job["Status"], job["IsClaimed"]) for job in theirs.jobs[:2]] == [("AVAILABLE", False)] * 2
    assert [(job["Status"], job["IsClaimed"]) for job in theirs.jobs[-2:]] == [(None, True), ("STARTED", True)]
    hint = said.partition("if it is lost, run this with ")[2].partition("}'")[0] + "}'"
    assert retry_playbook(*shlex.split(hint)).returncode == 0
    assert (theirs.jobs[-1]["Status"], theirs.jobs[-1]["IsClaimed"]) == ("AVAILABLE", False)


def test_retry_frees_the_others_and_fails_where_the_service_refuses_one(theirs, retry_playbook):
    theirs.refuses = {"/rest_api/v4/their/jobs/1:1/claim"}
    run = retry_playbook()
    said = " ".join((run.stdout + run.stderr).split())
    assert run.returncode == 2
    assert "1 failed and 0 stale jobs made available" in said
    assert "1 could not be made available: 1:1" in said
    assert [job["IsClaimed"] for job in theirs.jobs[:2]] == [False, True]


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
