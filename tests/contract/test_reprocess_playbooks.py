"""Edited code in the same project, as a user sees it: which results are by which snapshot, and how to renew them."""

from __future__ import annotations

import json
import subprocess
from itertools import count

import pytest
from contract import odin_service
from contract.reprocess_lab import A, B, Lab

odin = odin_service.odin
SCANS = 60
NUMBERS = count()


@pytest.fixture
def lab(tmp_path, job_service, odin):
    lab = Lab(tmp_path, job_service, odin, SCANS)
    lab.project = f"demo{next(NUMBERS)}"
    return lab


def words(run: subprocess.CompletedProcess[str]) -> str:
    return " ".join((run.stdout + run.stderr).split())


TOLD = (
    f"{SCANS} results are by {A}, 0 by {B}, which runs now. To have {SCANS} of them made by {B}:"
    " ansible-playbook playbooks/jobs.yml -e qsmr_reprocess=true"
)


def test_edited_code_processes_what_the_former_one_did(lab):
    # All is done by snapshot A, and nothing is to be said.
    lab.roll_out(A)
    added = lab.play("jobs.yml")
    assert (added.returncode, f"{SCANS} jobs added" in added.stdout) == (0, True), words(added)
    lab.work(A)
    assert "results are by" not in words(lab.play("jobs.yml"))

    # The code is edited, and snapshot B runs.
    lab.roll_out(B)
    jobs = lab.play("jobs.yml")
    assert TOLD in words(jobs)
    assert (jobs.returncode, "changed=0 " in jobs.stdout) == (0, True)
    assert TOLD in words(lab.play("results.yml"))
    picture = lab.directory / "status.json"
    status = lab.play("status.yml", qsmr_output_file=str(picture))
    assert json.loads(picture.read_text())["last_line"].endswith(
        "finished, 0 failed, 0 running, 0 waiting, some by old code"
    )
    assert TOLD.replace(" ", "") in words(status).replace(" ", "")
    told = json.loads(picture.read_text())["made_by"]
    assert (told["current"], told["by"], told["outdated"]) == (B, {B: 0, A: SCANS}, SCANS)

    # Check mode foretells what then happens, once.
    said = f"{SCANS} finished and 0 failed jobs {{}} available again for {B}"
    checked = lab.play("jobs.yml", "--check", qsmr_reprocess=True)
    assert said.format("would be made") in words(checked)
    assert lab.states() == {"finished": SCANS}
    again = lab.play("jobs.yml", qsmr_reprocess=True)
    assert said.format("made") in words(again)
    assert "changed=1 " in again.stdout
    assert lab.states() == {"free, available": SCANS}
    lab.work(B, most=20)
    halfway = words(lab.play("jobs.yml"))
    assert f"{SCANS - 20} results are by {A}, 20 by {B}, which runs now. The old ones stay until" in halfway
    assert "To have" not in halfway
    lab.work(B)
    over = lab.play("jobs.yml", qsmr_reprocess=True)
    assert f"0 finished and 0 failed jobs made available again for {B}, {SCANS} were before" in words(over)
    assert "changed=0 " in over.stdout
    assert lab.states() == {"finished": SCANS}
    for playbook in ("status.yml", "results.yml"):
        assert "results are by" not in words(lab.play(playbook)), playbook


def test_nothing_is_freed_for_hosts_that_run_several_snapshots_or_none(lab):
    lab.add_jobs()
    lab.work(A, most=2)
    none = lab.play("jobs.yml", qsmr_reprocess=True)
    assert none.returncode == 2
    assert "No job was made available again: no host says which snapshot it runs. Run workers.yml first" in words(none)
    assert lab.states() == {"finished": 2, "free, available": SCANS - 2}


def test_an_odin_api_that_does_not_answer_is_told_and_not_fatal(lab, odin):
    lab.add_jobs()
    lab.roll_out(B)
    lab.work(A, most=2)
    lab.config.write_text(lab.config.read_text().replace(odin.root, "http://127.0.0.1:9/rest_api"))
    run = lab.play("jobs.yml", qsmr_on_conflict="keep")
    assert run.returncode == 0, words(run)
    assert "Nobody knows by which snapshots the results are: GET http://127.0.0.1:9/rest_api/v4/level2" in words(run)
    again = lab.play("jobs.yml", qsmr_on_conflict="keep", qsmr_reprocess=True)
    assert again.returncode == 2
    assert "Is the Odin API up?" in words(again)
    assert lab.states() == {"finished": 2, "free, available": SCANS - 2}
