"""What status shows in check mode of the hosts and jobs that the run would have changed before."""

from __future__ import annotations

from typing import Any

import pytest
from qsmr.foretold import foretell
from qsmr.screen import render

NEW = "the snapshot to be made"
JOBS = "20 jobs to be added, 0 were there, the project is to be made"


def host(name: str, state: str = "answers", error: str | None = None) -> dict[str, Any]:
    row = {"host": name, "state": state, "error": error, "release": None, "running": [], "image": None}
    return {**row, "workers": [], "healthy": 0}


def picture(**values: Any) -> dict[str, Any]:
    """A project of nothing, on a fleet of three hosts of which one is down."""
    return {
        "time": "2026-11-23T10:00:00Z",
        "project": "demo",
        "exists": False,
        "service": "http://jobs/rest_api",
        "ending": "no project",
        "exit_code": 0,
        "message": "The job service has no project demo yet: run jobs.yml.",
        "last_line": "No project: no job is known",
        "states": {"available": 0, "claimed": 0, "started": 0, "finished": 0, "failed": 0},
        "total": 0,
        "remaining": 0,
        "counters": {"finished": None, "failed": None},
        "workers": [],
        "orphans": [],
        "overdue": None,
        "hosts": [host("h1"), host("h2"), host("h3", "unreachable", "no route")],
        "failures": [],
        "failed_by_host": [],
        "bad_releases": [],
        "level2": {"error": None},
        "urls": {},
        **values,
    }


def test_what_the_run_does_before_needs_no_look():
    told = foretell(picture(), {"h1": NEW, "h3": NEW}, JOBS)
    assert [row["state"] for row in told["hosts"]] == ["to be started", "answers", "unreachable"]
    assert told["attention"] == ["h2 has no release of demo: run workers.yml", "h3 is unreachable: no route"]
    screen = render(told, 120)
    assert f"Check mode: {JOBS}." in screen
    assert "jobs.yml" not in screen
    assert f"h1    {NEW}  to be started" in screen


@pytest.mark.parametrize("ending", ["no workers", "no claims"])
def test_a_stall_ends_with_the_workers_that_a_run_would_have_started(ending):
    states = {"available": 5, "claimed": 0, "started": 0, "finished": 0, "failed": 0}
    still = picture(exists=True, states=states, total=5, remaining=5, ending=ending, exit_code=13)
    told = foretell(still, {"h1": NEW}, "")
    assert (told["ending"], told["exit_code"]) == ("going", 0)
    assert not any("worker is healthy" in line for line in told["attention"])


def test_failures_stay_what_they_are():
    failed = picture(ending="failures", exit_code=10, message="All 60 jobs have failed", last_line="Failing: 60")
    told = foretell(failed, {"h1": NEW}, JOBS)
    assert (told["exit_code"], told["attention"][0]) == (10, "All 60 jobs have failed")
