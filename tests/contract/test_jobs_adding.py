"""Jobs are added to the embedded job service, over its own restarts, kills and conflicts."""

import base64
import secrets
import threading
import time

import pytest
from Cryptodome.Cipher import AES
from qsmr.addjobs import Adding
from qsmr.jobapi import JobApi
from qsmr.jobdoc import JobMaker
from qsmr.settings import Settings
from qsmr.target import plaintext

SECRETS = {"ecb": "adsfasreerfgtres", "eax": "rc/lY+OQYq6mvI6tCfr+tQ=="}


def maker(service, odin_project, secret="", cipher="ecb", version="v4", root="http://odin/rest_api"):
    settings = Settings(root, secret or SECRETS[cipher], service.root, service.username, service.password)
    return JobMaker(settings, odin_project, version, cipher)


@pytest.fixture
def add(tmp_path):
    def run(service, scans, project="demo", state="state", check=False, on_conflict="fail", **making):
        with JobApi(service.root, service.username, service.password) as api:
            rows = ((1, scan, line) for line, scan in enumerate(scans, 1))
            make, directory = maker(service, making.pop("odin_project", project), **making), tmp_path / state / project
            return Adding(api, make, project, directory, patience=60, on_conflict=on_conflict).run(rows, check)

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


EAX = {"cipher": "eax", "version": "v5"}


def add_as_the_successor(service, project, scans):
    """As qqjobs does, whose EAX tokens have random nonces: a target is never the same twice."""
    make, key = maker(service, project, **EAX), base64.b64decode(SECRETS["eax"])

    def job(scan):
        cipher = AES.new(key, AES.MODE_EAX, nonce=secrets.token_bytes(16))
        text, tag = cipher.encrypt_and_digest(plaintext(scan, 1, project))
        token = base64.urlsafe_b64encode(cipher.nonce + tag + text).decode()
        return {**make(1, scan), "target_url": f"http://odin/rest_api/v5/level2?d={token}"}

    with JobApi(service.root, service.username, service.password) as api:
        assert api.add_jobs(project, [job(scan) for scan in scans]).status == 201


def test_jobs_of_the_successor_are_there_though_their_targets_are_random(shared_job_service, add):
    add_as_the_successor(shared_job_service, "successor", range(1, 201))
    would = add(shared_job_service, [*range(1, 261), 5, 6], "successor", check=True, **EAX)
    assert (would.counts.added, would.counts.were_there, would.counts.conflict) == (60, 200, 0)
    result = add(shared_job_service, [*range(1, 261), 5, 6], "successor", **EAX)
    assert (result.counts.added, result.counts.were_there, result.counts.conflict) == (60, 200, 0)
    assert not result.failed
    assert result.summary() == "60 jobs added, 200 were there (200 of them with another EAX target, which is random)"
    again = add(shared_job_service, range(1, 261), "successor", **EAX)
    assert (again.changed, again.failed, again.answers) == (False, False, {})
    assert again.summary() == "0 jobs added, 260 were there (200 of them with another EAX target, which is random)"
    without_ledger = add(shared_job_service, range(1, 261), "successor", state="other", **EAX)
    assert (without_ledger.changed, without_ledger.failed) == (False, False)


def test_who_wants_no_other_target_gets_conflicts_that_say_exactly_that(shared_job_service, add):
    add_as_the_successor(shared_job_service, "strict", [1, 2])
    for _run in range(2):
        result = add(shared_job_service, [1, 2, 3, 2, 1], "strict", on_conflict="strict", **EAX)
        assert (result.failed, result.counts.conflict, result.repeated) == (True, 2, 2), "each scan counts once"
        assert "line 1, scan 1:1: conflict: only its target_url differs" in result.complaint()
        assert "ODIN_SECRET" in result.complaint() and "random" in result.complaint()
        assert not any(word in result.complaint() for word in ("ODIN_API_ROOT", "qsmr_odin_project", "_version"))
    chosen = add(shared_job_service, [1, 2, 3], "strict", **EAX)
    assert (chosen.failed, chosen.counts.were_there) == (False, 3)


def test_target_that_we_made_with_another_secret_stays_a_conflict(shared_job_service, add):
    """The ledger knows that it is no other program's: its jobs cannot deliver."""
    wrong = base64.b64encode(bytes(16)).decode()
    add(shared_job_service, [1, 2], "ours", secret=wrong, **EAX)
    for _run in range(2):
        result = add(shared_job_service, [1, 2, 3], "ours", **EAX)
        assert (result.failed, result.counts.conflict) == (True, 2)
        assert "ODIN_SECRET" in result.complaint()
    assert not add(shared_job_service, [1, 2], "ours", secret=wrong, **EAX).failed


V5 = {"version": "v5"}
ELSEWHERE = {"root": "http://elsewhere/rest_api"}


@pytest.mark.parametrize(
    ("ours", "theirs", "said", "suspects"),
    [
        (EAX, ELSEWHERE, "its source_url is http://elsewhere/", {"ODIN_API_ROOT"}),
        ({}, ELSEWHERE, "its source_url is http://elsewhere/", {"ODIN_API_ROOT"}),
        (EAX, {"odin_project": "another"}, "its view_result_url is http://odin/", {"qsmr_odin_project"}),
        (V5, {"odin_project": "another"}, "its view_result_url is http://odin/", {"qsmr_odin_project"}),
        (EAX, {"version": "v4", "cipher": "ecb"}, "it has no view_result_url", {"qsmr_target_version"}),
        (V5, {"version": "v4"}, "it has no view_result_url", {"qsmr_target_version"}),
        ({}, V5, "it has a view_result_url, ours none", {"qsmr_target_version"}),
        (V5, {"secret": "another secret !"}, "only its target_url differs", {"ODIN_SECRET"}),
        # Without a view of its result a job hides its Odin project.
        ({}, {"secret": "another secret !"}, "only its target_url differs", {"ODIN_SECRET", "qsmr_odin_project"}),
        ({}, {"odin_project": "another"}, "only its target_url differs", {"ODIN_SECRET", "qsmr_odin_project"}),
    ],
)
def test_hint_asks_for_nothing_that_is_equal(shared_job_service, add, project, ours, theirs, said, suspects):
    add(shared_job_service, [7], project, state="another", **{**ours, **theirs})
    result = add(shared_job_service, [6, 7], project, **ours)
    assert (result.failed, result.counts.added, result.counts.conflict) == (True, 1, 1)
    complaint = result.complaint()
    assert f"line 2, scan 1:7: conflict: {said}" in complaint
    settings = ("ODIN_API_ROOT", "qsmr_odin_project", "qsmr_target_version", "ODIN_SECRET")
    assert {name for name in settings if name in complaint} == suspects


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
