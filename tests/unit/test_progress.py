"""Progress in words and as a bar, and the file that it is read from."""

import json

import pytest
from qsmr import progress
from qsmr.progress import Progress, PushProgress, bar_of, line_of
from qsmr.transport import Report

ADDING = {
    "project": "demo",
    "phase": "adding",
    "total": 20_000,
    "done": 5_000,
    "retries": 0,
    "rate": 900.4,
    "eta_seconds": 16.7,
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "demo: 5,000 of 20,000 jobs (25 %), 900/s, 0:17 left"),
        ({"retries": 3}, "demo: 5,000 of 20,000 jobs (25 %), 900/s, 0:17 left, 3 retries"),
        ({"eta_seconds": 4000.0}, "demo: 5,000 of 20,000 jobs (25 %), 900/s, 1:06:40 left"),
        ({"rate": None, "eta_seconds": None, "done": 0}, "demo: 0 of 20,000 jobs (0 %)"),
        ({"phase": "asking"}, "demo: asking the job service what it has"),
        ({"phase": "checking"}, "demo: checking that the jobs are there"),
    ],
)
def test_a_line_says_how_far_it_is(changes, says):
    assert line_of(ADDING | changes) == says


def test_a_bar_fits_the_terminal():
    assert bar_of(ADDING, 200).startswith("[#####...............] demo: 5,000")
    assert len(bar_of(ADDING, 30)) == 29
    assert bar_of(ADDING | {"total": 0, "done": 0}, 80).startswith("[....")


def test_the_file_says_where_the_run_is(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    path = tmp_path / "progress.json"
    run = Progress(path, "demo")
    run.say("asking", total=1000)
    assert json.loads(path.read_text())["phase"] == "asking"
    run.say("adding", done=200)
    now = 104.0
    run.say("adding", done=600, retries=1)
    said = json.loads(path.read_text())
    assert (said["done"], said["retries"], said["rate"], said["eta_seconds"]) == (600, 1, 100.0, 4.0)


def test_it_is_not_written_for_each_word(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(progress, "write_state", lambda path, text: written.append(text))
    run = Progress(tmp_path / "progress.json", "demo")
    for done in range(1000):
        run.say("adding", done=done)
    assert len(written) < 10


PUSHING = {
    "project": "demo",
    "phase": "sending",
    "total": 145_000_000,
    "done": 63_000_000,
    "hosts": 3,
    "complete": 1,
    "loading": 0,
    "failed": 0,
    "shares": {"host1": 100, "host2": 12, "host3": 17},
    "rate": 15_200_000,
    "eta_seconds": 5.4,
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "demo: 63 of 145 MB (43 %), 15.2 MB/s, 0:05 left, 1 of 3 hosts complete, last host2: 12 %"),
        (
            {"failed": 1, "shares": {"host1": 100}, "rate": None},
            "demo: 63 of 145 MB (43 %), 1 of 3 hosts complete, 1 failed",
        ),
        (
            {"done": 145_000_000, "complete": 3, "loading": 2, "shares": {}, "rate": None},
            "demo: 145 of 145 MB (100 %), 3 of 3 hosts complete, 2 loading",
        ),
        ({"phase": "packing"}, "demo: packing what the hosts lack"),
    ],
)
def test_a_line_says_how_far_a_push_is(changes, says):
    assert line_of(PUSHING | changes) == says


def test_a_push_tells_its_rate_without_what_was_there_before(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    path = tmp_path / "demo" / "push.json"
    push = PushProgress(path, "demo")
    assert json.loads(path.read_text())["phase"] == "packing"
    push.follow(Report(1000, 500, 500, 0, hosts=2, complete=0, loading=0, failed=0, shares={"host1": 50}))
    now += 2
    push.follow(Report(1000, 700, 500, 200, hosts=2, complete=0, loading=0, failed=0, shares={"host1": 60}))
    assert json.loads(path.read_text()) | {"rate": 100, "eta_seconds": 3.0, "shares": {"host1": 60}} == json.loads(
        path.read_text()
    )
    push.end()
    assert json.loads(path.read_text())["phase"] == "failed"
