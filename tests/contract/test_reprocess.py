"""Jobs of another snapshot become available for the one that runs, each once, whatever is killed when."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from itertools import count

import pytest
from contract.job_service import JobService
from contract.odin_service import OdinService
from contract.reprocess_lab import A, B, Lab
from qsmr.errors import QsmrError
from qsmr.jobapi import JobApi
from qsmr.ledger import Ledger
from qsmr.odinapi import OdinApi

SCANS = 12
NUMBERS = count()


@pytest.fixture(scope="module", params=["2020", "2016"])
def odin(request, tmp_path_factory):
    """The stand-in with the rules of either year: a second delivery is taken, or refused."""
    service = OdinService(tmp_path_factory.mktemp("odin"), ODIN_RULES=request.param)
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    service = JobService(tmp_path_factory.mktemp("jobs"))
    yield service
    service.kill()


@pytest.fixture
def lab(tmp_path, jobs, odin):
    """All scans are done by snapshot A."""
    lab = Lab(tmp_path, jobs, odin, SCANS)
    lab.project = f"demo{next(NUMBERS)}"
    lab.add_jobs()
    lab.work(A)
    assert lab.results_by(A) == SCANS
    return lab


def test_each_job_of_another_snapshot_is_done_again_once(lab, odin):
    again = lab.again(B)
    assert (again.finished, again.failed, again.deletes) == (SCANS, 0, odin.rules == "2016")
    assert lab.states() == {"free, available": SCANS}
    # What the new snapshot has not replaced yet stays where it may.
    assert lab.results_by(A) == (0 if odin.rules == "2016" else SCANS)
    assert lab.work(B) == SCANS
    assert (lab.results_by(A), lab.results_by(B)) == (0, SCANS)
    again = lab.again(B)
    assert (again.changed, again.before) == (False, SCANS)
    assert lab.states() == {"finished": SCANS}


def test_what_the_snapshot_has_done_itself_stays(lab):
    lab.again(B)
    lab.work(B)
    (lab.state / "ledger.sqlite").unlink()
    assert not lab.again(B).changed


def test_going_back_and_forth_has_each_snapshot_do_all_again(lab):
    for snapshot in (B, A, B):
        assert lab.again(snapshot).finished == SCANS
        assert not lab.again(snapshot).changed
        lab.work(snapshot)
        assert lab.results_by(snapshot) == SCANS


def test_what_a_host_that_is_behind_did_again_is_told(lab):
    lab.again(B)
    lab.work(A, most=1)
    lab.work(B)
    again = lab.again(B)
    assert (again.changed, again.before, again.behind) == (False, SCANS, 1)
    assert "1 that were made available before are by another snapshot nevertheless" in again.summary()


def test_failed_jobs_become_available_and_jobs_at_work_stay(lab):
    ids = [job["Id"] for job in lab.api.jobs(lab.project)]
    lab.api.set_status(lab.project, ids[0], "FAILED")
    lab.api.set_status(lab.project, ids[1], "STARTED")
    again = lab.again(B)
    assert (again.finished, again.failed, again.at_work) == (SCANS - 2, 1, 1)
    assert lab.states() == {"free, available": SCANS - 1, "started": 1}
    assert "1 are being worked on and stay as they are" in again.summary()
    # When the older snapshot's worker is done with it, the next run has it.
    lab.api.set_status(lab.project, ids[1], "FINISHED")
    assert lab.again(B).finished == 1


def test_what_failed_of_the_former_code_does_not_count_for_the_new_one(lab):
    job = lab.api.jobs(lab.project)[0]["Id"]
    lab.api.set_status(lab.project, job, "FAILED")
    lab.state.mkdir(parents=True)
    for time in ("2026-11-27T10:00:00", "2026-11-27T11:00:00"):
        Ledger(lab.state).count_failure(job, time)
    lab.again(B)
    assert Ledger(lab.state).count_failure(job, "2026-11-28T10:00:00") == 1


def test_check_mode_tells_and_touches_nothing(lab):
    again = lab.again(B, check=True)
    assert again.finished == SCANS
    assert f"{SCANS} finished and 0 failed jobs would be made available again for {B}" in again.summary()
    assert lab.states() == {"finished": SCANS}
    assert lab.results_by(A) == SCANS
    assert not (lab.state / "ledger.sqlite").exists()


def test_asking_what_the_odin_api_does_leaves_nothing_there(lab, odin):
    lab.again(B)
    for listed in ("scans", "failed"):
        assert 1 not in list(OdinApi(odin.root).level2_scans(lab.project, 1, listed, ""))


def test_nothing_is_freed_where_the_odin_api_does_not_take_our_targets(lab):
    lab.config.write_text(lab.config.read_text().replace(f"={lab.odin.secret}", f"={'0' * 32}"))
    with pytest.raises(QsmrError, match="status 400. Are ODIN_SECRET, qsmr_target_version and qsmr_target_cipher"):
        lab.again(B)
    assert lab.states() == {"finished": SCANS}


def die_in(monkey: Callable[[], None], lab: Lab) -> int:
    """Run in a process of its own that kills itself as told; its exit code."""

    def run() -> None:
        monkey()
        lab.api._session.close()
        lab.again(B)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    return process.exitcode or 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["unclaim", "set_status"])
def test_a_run_that_is_killed_is_completed_by_the_next_and_frees_each_job_once(lab, monkeypatch, step, when):
    def kill_at_the_fifth() -> None:
        real, calls = getattr(JobApi, step), iter(range(1000))

        def fatal(self: JobApi, *words: str) -> None:
            fifth = next(calls) == 4
            if fifth and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            real(self, *words)
            if fifth:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(JobApi, step, fatal)

    assert die_in(kill_at_the_fifth, lab) == -signal.SIGKILL
    # The workers go on: what is free is taken, and some of it is done. What they deliver says no snapshot here.
    free = [job["Id"] for job in lab.api.jobs(lab.project) if not job["IsClaimed"]]
    assert 0 < len(free) < SCANS
    for job in free[:2]:
        lab.claim(job, "UWorker_host1_new")
        lab.deliver(int(job[2:]), None)
        lab.api.set_status(lab.project, job, "FINISHED")
    lab.claim(free[2], "UWorker_host1_new")
    lab.again(B)
    states = {job["Id"]: (str(job["Status"]).upper(), job["IsClaimed"]) for job in lab.api.jobs(lab.project)}
    assert states == dict.fromkeys(states, ("AVAILABLE", False)) | {
        free[0]: ("FINISHED", True), free[1]: ("FINISHED", True), free[2]: ("CLAIMED", True)
    }  # fmt: skip
    assert lab.work(B) == SCANS - 3
    assert not lab.again(B).changed


def test_results_that_say_no_snapshot_are_told_by_the_time_of_the_rollout(lab):
    lab.again(B)
    lab.work(None)
    (lab.state / "ledger.sqlite").unlink()
    assert not lab.again(B, check=True, everywhere="2020-01-01T00:00:00.000000Z").changed
    assert lab.again(B, check=True, everywhere="2100-01-01T00:00:00.000000Z").finished == SCANS
    assert lab.again(B, check=True).finished == SCANS


def test_a_service_in_trouble_ends_the_run_and_the_next_goes_on(lab, monkeypatch):
    """A service that fails in the middle is a fault that the real one does not give on demand."""
    real, calls = JobApi.unclaim, iter(range(1000))

    def troubled(self: JobApi, *words: str) -> None:
        if next(calls) >= 5:
            raise QsmrError("DELETE claim: 503")
        real(self, *words)

    monkeypatch.setattr(JobApi, "unclaim", troubled)
    with pytest.raises(QsmrError, match="503. 5 finished and 0 failed jobs made available again .* Run it again"):
        lab.again(B)
    monkeypatch.undo()
    again = lab.again(B)
    assert (again.finished, again.before) == (SCANS - 5, 5)
    assert lab.states() == {"free, available": SCANS}
