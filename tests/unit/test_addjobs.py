"""Adding jobs: exactly once, whatever the service is and whatever goes wrong. Each service is a double (see there)."""

import itertools
import json
import sqlite3
import subprocess
import sys

import pytest
from job_service_double import PASSWORD, USERNAME, Fault, JobServiceDouble
from qsmr import addjobs, sender
from qsmr.addjobs import Adding
from qsmr.errors import QsmrError
from qsmr.jobapi import JobApi
from qsmr.jobdoc import JobMaker
from qsmr.ledger import run_lock
from qsmr.settings import Settings

SECRET = "adsfasreerfgtres"
ERAS = ["2016-09", "2022"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(sender, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(addjobs, "FIRST_PAUSE", 0.01)


@pytest.fixture(params=ERAS)
def any_service(request):
    with JobServiceDouble(request.param) as double:
        yield double


@pytest.fixture
def service():
    with JobServiceDouble() as double:
        yield double


@pytest.fixture
def old_service():
    with JobServiceDouble("2016-09") as double:
        yield double


@pytest.fixture
def add(tmp_path):
    """Adds scans to a double; the state stays for the next call."""

    def run(
        service,
        scans,
        check=False,
        patience=5.0,
        root="http://odin/rest_api",
        directory="state",
        on_conflict="fail",
        **making,
    ):
        settings = Settings(root, making.pop("secret", SECRET), service.root, USERNAME, PASSWORD)
        make = JobMaker(settings, "demo", **making)
        with JobApi(service.root, USERNAME, PASSWORD, read_timeout=0.5) as api:
            rows = ((1, scan, line) for line, scan in enumerate(scans, 1))
            adding = Adding(api, make, "demo", tmp_path / directory, patience=patience, on_conflict=on_conflict)
            return adding.run(rows, check)

    return run


def ids(scans):
    return {f"1:{scan}" for scan in scans}


def once(fault, when):
    """A fault at the first request that fits."""
    left = [fault]

    def decide(method, path):
        return left.pop() if left and when(method, path) else None

    return decide


def post_of_jobs(method, path):
    return method == "POST" and path.endswith("/jobs")


def test_all_are_added_and_a_second_run_sends_nothing(any_service, add):
    first = add(any_service, range(1, 61))
    assert (first.counts.added, first.changed, first.failed) == (60, True, False)
    assert set(any_service.jobs) == ids(range(1, 61))
    any_service.requests.clear()
    second = add(any_service, range(1, 61))
    assert (second.counts.were_there, second.changed, second.failed) == (60, False, False)
    assert any_service.requests == ["GET /v4/demo"]


def test_new_lines_alone_are_sent(service, add):
    add(service, range(1, 1001))
    service.posts.clear()
    result = add(service, range(1, 1011))
    assert (result.counts.added, result.counts.were_there) == (10, 1000)
    assert [set(post) for post in service.posts] == [ids(range(1001, 1011))]


def test_check_mode_says_what_would_be_added_and_leaves_no_trace(service, add, tmp_path):
    result = add(service, [1, 2, 3], check=True)
    assert (result.counts.added, result.new_project, result.failed) == (3, True, False)
    assert not any(request.startswith(("POST", "PUT")) for request in service.requests)
    assert not list(tmp_path.iterdir())


def test_check_mode_knows_what_is_there_and_changes_no_ledger(service, add, tmp_path):
    add(service, [1, 2])
    service.wipe()
    before = (tmp_path / "state/ledger.sqlite").read_bytes()
    result = add(service, [1, 2, 3], check=True)
    assert (result.counts.added, result.gone) == (3, 2)
    assert (tmp_path / "state/ledger.sqlite").read_bytes() == before


def test_documents_are_the_contracts(service, add):
    add(service, [7123991206], root="http://example.com/odin_api")
    assert service.jobs["1:7123991206"] == {
        "id": "1:7123991206",
        "type": "qsmr",
        "source_url": "http://example.com/odin_api/v4/l1_log/1/7123991206/",
        "target_url": "http://example.com/odin_api/v4/level2?d=" + JobMaker(
            Settings("", SECRET, "", "", ""), "demo"
        )(1, 7123991206)["target_url"].partition("d=")[2],
    }  # fmt: skip


@pytest.mark.parametrize("making", [{}, {"version": "v5"}, {"cipher": "eax", "secret": "rc/lY+OQYq6mvI6tCfr+tQ=="}])
def test_without_a_ledger_the_service_is_asked_and_nothing_is_added_twice(service, add, making):
    add(service, range(1, 101), **making)
    stored = dict(service.jobs)
    result = add(service, range(1, 101), directory="another", **making)
    assert (result.counts.were_there, result.changed, result.failed) == (100, False, False)
    assert service.jobs == stored


def test_rows_that_repeat_are_folded(service, add):
    result = add(service, [5, 6, 5, 5])
    assert (result.counts.wanted, result.repeated) == (2, 2)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("drop"),
        Fault("lose"),
        Fault("cut"),
        Fault("wait", seconds=0.8),
        Fault("say", 500),
        Fault("say", 502),
        Fault("say", 503, body=""),
        Fault("say", 429, headers={"Retry-After": "1"}),
        Fault("say", 200, "<html>please log in to the network</html>"),
        Fault("expire"),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}",
)
@pytest.mark.parametrize("at", [0, 3])
def test_one_fault_loses_and_doubles_nothing(any_service, add, fault, at):
    posts = itertools.count()
    any_service.fault = lambda method, path: fault if post_of_jobs(method, path) and next(posts) == at else None
    result = add(any_service, range(1, 41))
    assert not result.failed, result.complaint()
    assert set(any_service.jobs) == ids(range(1, 41))
    assert result.counts.added == 40
    assert any_service.project["NrJobsAdded"] == 40


@pytest.mark.parametrize("path", ["GET /token", "GET /v4/demo", "GET /v4/demo/jobs", "PUT /v4/demo"])
@pytest.mark.parametrize("fault", [Fault("drop"), Fault("cut"), Fault("say", 503), Fault("say", 200, "<html>")])
def test_a_fault_at_any_other_request_is_survived(service, add, path, fault):
    if path.endswith("/jobs"):
        add(service, [1], directory="another")
    service.fault = once(fault, lambda method, where: f"{method} {where}" == path)
    assert not add(service, range(1, 11)).failed
    assert set(service.jobs) == ids(range(1, 11))


def test_an_applied_batch_whose_answer_was_lost_counts_as_added(service, add):
    service.fault = once(Fault("lose"), post_of_jobs)
    result = add(service, range(1, 101))
    assert (result.counts.added, result.counts.were_there) == (100, 0)
    assert result.retries == 1


def test_conflicting_jobs_are_named_and_the_others_added(service, add):
    add(service, [3, 7], secret="another secret !", directory="another")
    result = add(service, range(1, 11))
    assert (result.counts.added, result.counts.conflict, result.counts.remain) == (8, 2, 0)
    assert set(service.jobs) == ids(range(1, 11))
    assert "line 3, scan 1:3: conflict: only its target_url differs" in result.complaint()
    assert result.failed


def test_a_job_of_another_root_is_shown_with_both(service, add):
    add(service, [3], root="http://elsewhere/rest_api", directory="another")
    service.posts.clear()
    complaint = add(service, [3]).complaint()
    assert (
        "its source_url is http://elsewhere/rest_api/v4/l1_log/1/3/, ours http://odin/rest_api/v4/l1_log/1/3/"
        in complaint
    )
    assert not service.posts


def test_conflicts_may_be_kept(service, add):
    add(service, [3], secret="another secret !", directory="another")
    stored = dict(service.jobs)
    result = add(service, [3, 4], on_conflict="keep")
    assert (result.failed, result.counts.conflict, result.counts.added) == (False, 1, 1)
    assert result.summary() == "1 jobs added, 0 were there, 1 conflict (kept)"
    assert service.jobs["1:3"] == stored["1:3"]


def test_an_old_service_cannot_tell_more_than_the_source(old_service, add):
    add(old_service, [3], root="http://elsewhere/rest_api", directory="another")
    add(old_service, [4], directory="another")
    result = add(old_service, [3, 4, 5])
    assert (result.counts.added, result.counts.were_there, result.counts.conflict) == (1, 1, 1)


def test_jobs_of_the_python_2_script_count_as_there(service, add):
    settings = Settings("http://odin/rest_api", SECRET, "", "", "")
    make = JobMaker(settings, "demo")
    service.add("demo", [make(1, scan, python2_order=True) for scan in (1, 2)])
    service.add("demo", [JobMaker(Settings("http://odin/rest_api", "another secret !", "", "", ""), "demo")(1, 3)])
    result = add(service, [1, 2, 3, 4])
    assert (result.counts.added, result.counts.were_there, result.counts.conflict) == (1, 2, 1)
    service.posts.clear()
    add(service, [1, 2, 4])
    assert not service.posts


def test_refused_jobs_are_named_and_the_others_added(any_service, add):
    any_service.refused = {"1:2": "no such scan"}
    result = add(any_service, range(1, 11))
    assert (result.counts.added, result.counts.refused) == (9, 1)
    assert "line 2, scan 1:2: refused: 400 no such scan" in result.complaint()


def test_a_job_that_breaks_the_service_is_found_by_halving(any_service, add):
    any_service.broken = {"1:5", "1:77"}
    result = add(any_service, range(1, 101))
    assert (result.counts.added, result.counts.refused) == (98, 2)
    assert set(any_service.jobs) == ids(range(1, 101)) - {"1:5", "1:77"}


def test_a_job_that_is_too_large_alone_is_refused(service, add):
    service.fault = lambda method, path: Fault("say", 413) if post_of_jobs(method, path) else None
    result = add(service, [1, 2])
    assert (result.counts.refused, result.counts.added) == (2, 0)


def test_a_front_end_that_limits_the_size_is_obeyed(add):
    with JobServiceDouble(largest_list=30) as service:
        result = add(service, range(1, 1001))
        assert result.counts.added == 1000
        assert sum(len(post) > 30 for post in service.posts) < 10


def test_a_service_that_dies_ends_the_run_which_can_be_taken_up(service, add):
    posts = itertools.count()
    service.fault = lambda method, path: Fault("drop") if post_of_jobs(method, path) and next(posts) > 0 else None
    broken = add(service, range(1, 1001), patience=0.3)
    assert broken.failed
    assert broken.counts.remain > 0
    assert broken.counts.added == len(service.jobs)
    assert "The run was ended: no answer of use" in broken.complaint()
    assert broken.faults[0].line == 1 + broken.counts.added
    service.fault = lambda method, path: None
    again = add(service, range(1, 1001))
    assert not again.failed
    assert again.counts.added == broken.counts.remain
    assert set(service.jobs) == ids(range(1, 1001))


def test_a_service_that_refuses_every_job_is_not_asked_for_each(service, add):
    service.fault = lambda method, path: Fault("say", 400, "<html>") if post_of_jobs(method, path) else None
    result = add(service, range(1, 1001))
    assert "refuses every job" in result.stopped
    assert len([request for request in service.requests if request.startswith("POST")]) < 200


def test_a_wrong_password_ends_the_run_at_once(service, add, tmp_path):
    settings = Settings("http://odin/rest_api", SECRET, service.root, "ana", "wrong")
    with (
        JobApi(service.root, "ana", "wrong") as api,
        pytest.raises(QsmrError, match="401 Unauthorized access; check JOB_API_USERNAME"),
    ):
        Adding(api, JobMaker(settings, "demo"), "demo", tmp_path).run([(1, 1, 0)])
    assert json.loads((tmp_path / "progress.json").read_text())["phase"] == "failed"


def test_a_service_that_is_not_there_is_named_with_its_address(service, add):
    service.root = "http://127.0.0.1:9/rest_api"
    with pytest.raises(QsmrError, match=r"http://127.0.0.1:9/rest_api/v4/demo: no answer \(Connection refused\)"):
        add(service, [1], patience=0.1)


def test_jobs_that_the_service_lost_are_added_again(service, add):
    add(service, range(1, 11))
    for job in ("1:3", "1:4"):
        del service.jobs[job]
    result = add(service, range(1, 11))
    assert (result.counts.added, result.gone) == (2, 2)
    assert set(service.jobs) == ids(range(1, 11))


def test_a_project_made_again_is_noticed_for_other_lists_too(service, add):
    add(service, range(1, 11))
    service.wipe()
    add(service, range(11, 21))
    result = add(service, range(1, 11))
    assert result.counts.added == 10
    assert set(service.jobs) == ids(range(1, 21))


def test_jobs_that_are_answered_but_not_stored_remain(service, add):
    def forgetful(name, body):
        status, text = JobServiceDouble.add(service, name, body)
        service.jobs.pop("1:5", None)
        return status, text

    service.add = forgetful
    result = add(service, range(1, 11))
    assert (result.counts.added, result.counts.remain) == (9, 1)
    assert "scan 1:5: gone" in result.complaint()


def test_somebody_else_may_add_to_the_project_meanwhile(service, add):
    others = itertools.count(1000)

    def interfere(method, path):
        if post_of_jobs(method, path):
            JobServiceDouble.add(service, "demo", {"id": f"2:{next(others)}", "source_url": "x"})

    service.fault = interfere
    assert add(service, range(1, 1001)).counts.added == 1000
    assert not add(service, range(1, 1001)).changed


def test_two_runs_at_once_are_refused_with_who_it_is(service, add, tmp_path):
    with (
        run_lock(tmp_path / "state"),
        pytest.raises(QsmrError, match=r"being added by \w+ on .*, process \d+, since 20"),
    ):
        add(service, [1])


def test_the_ledger_is_written_before_the_service_is_asked(service, add, tmp_path):
    seen = []

    def look(method, path):
        if post_of_jobs(method, path):
            with sqlite3.connect(tmp_path / "state/ledger.sqlite") as ledger:
                seen.extend(ledger.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall())

    service.fault = look
    add(service, range(1, 11))
    assert seen == [("sending", 10)]


def test_nothing_secret_is_in_the_state(service, add, tmp_path):
    add(service, range(1, 11))
    token = service.jobs["1:1"]["target_url"].partition("d=")[2].encode()
    for path in (tmp_path / "state").iterdir():
        content = path.read_bytes()
        assert not any(secret in content for secret in (SECRET.encode(), PASSWORD.encode(), token))


def test_progress_ends_with_all_done(service, add, tmp_path):
    add(service, range(1, 101))
    progress = json.loads((tmp_path / "state/progress.json").read_text())
    assert (progress["phase"], progress["total"], progress["done"]) == ("done", 100, 100)


def test_urls_that_are_too_long_are_refused_before_anything_is_sent(service, add):
    with pytest.raises(QsmrError, match="target_url of job 1:12 has .* the job service takes 512"):
        add(service, [3, 12], root="http://odin/" + "x" * 480)
    assert not service.requests


KILLED = """
import sys
sys.path[:0] = sys.argv[1].split(":")
from qsmr.addjobs import Adding
from qsmr.jobapi import JobApi
from qsmr.jobdoc import JobMaker
from qsmr.settings import Settings
from pathlib import Path
settings = Settings("http://odin/rest_api", "adsfasreerfgtres", sys.argv[2], "ana", "p w")
api = JobApi(sys.argv[2], "ana", "p w")
Adding(api, JobMaker(settings, "demo"), "demo", Path(sys.argv[3])).run((1, scan, scan) for scan in range(1, 3001))
"""


@pytest.mark.parametrize("fatal_post", [0, 1, 3])
@pytest.mark.parametrize("applied", [False, True])
def test_kill_9_and_run_again_loses_and_doubles_nothing(service, add, tmp_path, fatal_post, applied):
    posts = itertools.count()
    child = None

    def kill(method, path):
        if post_of_jobs(method, path) and next(posts) == fatal_post:
            child.kill()
            child.wait()
            return None if applied else Fault("drop")
        return None

    service.fault = kill
    child = subprocess.Popen([sys.executable, "-c", KILLED, ":".join(sys.path), service.root, str(tmp_path / "state")])
    assert child.wait(timeout=30) == -9
    service.fault = lambda method, path: None
    result = add(service, range(1, 3001))
    assert not result.failed
    assert set(service.jobs) == ids(range(1, 3001))
    assert service.project["NrJobsAdded"] == 3000
    with sqlite3.connect(tmp_path / "state/ledger.sqlite") as ledger:
        assert ledger.execute("SELECT state, count(*) FROM job GROUP BY state").fetchall() == [("added", 3000)]
