"""Waiting for a project: when it ends and why, what is said meanwhile."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from qsmr.errors import QsmrError
from qsmr.jobapi import JobApiError
from qsmr.progress import bar_of, line_of
from qsmr.status import read_host
from qsmr.verdict import HEADLINES, Ending, Tally, explain_stall
from qsmr.watch import Goal, Watch, parse_deadline

NOW = datetime(2026, 11, 24, 10, 0, 0, tzinfo=UTC)


class Service:
    """A job service whose project goes through the given states, and stays in the last."""

    def __init__(self, *states, claimed=()):
        self.states = list(states)
        self.claimed = claimed
        self.now = {}

    def project(self, _name):
        self.now = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return None if self.now is None else {"JobStates": self.now}

    def each_job(self, _name, status=None, start=None):
        if start:
            return iter([{"Worker": worker, "Claimed": "2026-11-24T09:59:00"} for worker in self.claimed])
        number = self.now.get((status or "").title(), 0)
        return iter([{"Id": f"1:{n}", "Status": status, "Worker": "UWorker_a"} for n in range(number)])


class Clock:
    """Time that passes by sleeping only."""

    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def utc(self):
        return NOW + timedelta(seconds=self.now)


def watch(service, **goal):
    clock, views = Clock(), []
    wait = Watch(service, "demo", Goal(**goal), views.append, clock=clock, sleep=clock.sleep, now=clock.utc)
    return wait.wait(), views


def test_ends_when_nothing_is_open():
    ending, views = watch(Service({"Available": 2}, {"Started": 1, "Claimed": 1}, {"Finished": 1, "Failed": 1}))
    assert (ending.how, ending.exit_code, len(views)) == ("done", 0, 2)
    assert (ending.tally.finished, ending.tally.failed, ending.tally.total) == (1, 1, 2)


def test_unknown_status_texts_count_as_running():
    ending, _views = watch(Service({"Halfway": 3, "Finished": 1}), stall_timeout=4)
    assert ending.tally.running == 3


def test_a_job_that_was_given_back_is_not_done():
    """Its status text still says Failed, and the sums of the service with it."""
    service = Service({"Failed": 1, "Finished": 1})
    service.project = lambda _name: {"JobStates": {"Failed": 1, "Finished": 1}, "NrJobsClaimed": 1}
    service.each_job = lambda _name, **_query: iter(
        [{"Id": "1:1", "Status": "Failed", "IsClaimed": False}, {"Id": "1:2", "Status": "Finished", "IsClaimed": True}]
    )
    ending, _views = watch(service, stall_timeout=10)
    assert (ending.how, ending.tally.available) == ("no claims", 1)


def test_share_is_enough_when_asked_for():
    states = [{"Available": 10 - n, "Finished": n} for n in range(11)]
    ending, _views = watch(Service(*states), share=0.5)
    assert (ending.how, ending.exit_code, ending.tally.finished) == ("share", 0, 5)


@pytest.mark.parametrize(
    ("states", "allowed", "how"),
    [
        ({"Failed": 15, "Finished": 5, "Available": 80}, 0.5, "failures"),
        ({"Failed": 15, "Finished": 4, "Available": 81}, 0.5, "no claims"),  # too few to judge
        ({"Failed": 3, "Finished": 1}, 0.5, "failures"),  # all there are
        ({"Failed": 2, "Finished": 2}, 0.5, "done"),
        ({"Failed": 1, "Finished": 100}, 0.0, "failures"),
        ({"Finished": 100}, 0.0, "done"),
    ],
)
def test_too_many_failures_end_the_wait_early(states, allowed, how):
    ending, _views = watch(Service(states), max_failed_share=allowed)
    assert ending.how == how
    if how == "failures":
        assert ending.exit_code == 10
        assert "qsmr_max_failed_share" in ending.message


@pytest.mark.parametrize("allowed", [0.5, 1.0])
def test_jobs_of_which_none_finished_are_never_done(allowed):
    """Allowing every failure does not make nothing at all a success."""
    ending, _views = watch(Service({"Failed": 60}), max_failed_share=allowed)
    assert (ending.how, ending.exit_code) == ("failures", 10)
    assert ending.message.startswith("All 60 jobs that ended have failed, and none has finished")
    ending, _views = watch(Service({"Failed": 20, "Available": 40}), max_failed_share=allowed)
    assert ending.how == "failures", "from 20 on there is no use in waiting for the rest"
    ending, _views = watch(Service({"Failed": 1}), max_failed_share=allowed)
    assert ending.message.startswith("The only job that ended has failed")


def test_a_project_without_jobs_is_nothing_to_wait_for():
    with pytest.raises(QsmrError, match=r"Project demo has no jobs: add some with playbooks/jobs.yml"):
        watch(Service({}))


def test_deadline_ends_the_wait():
    states = [{"Available": 1000 - n, "Finished": n} for n in range(1000)]
    ending, _views = watch(Service(*states), deadline=NOW + timedelta(seconds=60))
    assert (ending.how, ending.exit_code, ending.tally.finished) == ("deadline", 11, 30)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90m", 5400), ("2h", 7200), ("1.5 d", 129600), ("2026-11-24T10:01", 60), ("2026-11-24T12:00+02:00", 0)],
)
def test_deadlines_are_times_or_durations(text, seconds):
    assert parse_deadline(text, NOW) == NOW + timedelta(seconds=seconds)


def test_wrong_settings_say_which():
    with pytest.raises(QsmrError, match="qsmr_watch_deadline is soon"):
        parse_deadline("soon", NOW)
    with pytest.raises(QsmrError, match="qsmr_watch_share is 90"):
        Goal(share=90)
    with pytest.raises(QsmrError, match="qsmr_max_failed_share is -1"):
        Goal(max_failed_share=-1)
    assert parse_deadline(" ", NOW) is None


def test_stall_tells_whether_jobs_are_held():
    ending, _views = watch(Service({"Available": 2}))
    assert (ending.how, ending.exit_code) == ("no claims", 13)
    assert "0 of 2 jobs finished" in ending.message
    ending, _views = watch(Service({"Available": 2, "Started": 1}))
    assert (ending.how, ending.exit_code) == ("no ends", 14)
    assert "UWorker_a (1)" in ending.message


def host(name, **probe):
    return read_host(name, probe)


def worker(name, health="healthy", says="", state="running"):
    return {"name": name, "worker": name, "state": state, "health": health, "health_output": says, "image": "i"}


@pytest.mark.parametrize(
    ("hosts", "how", "words"),
    [
        ([host("h1", containers=[]), host("h2", containers=[])], "no workers", "No worker runs on any of 2 hosts"),
        ([host("h1", containers=[worker("a", state="exited")])], "no workers", "No worker runs"),
        ([host("h1", unreachable=True, msg="no route")], "no workers", "1 of 1 hosts do not tell .* no route"),
        ([host("h1", containers=[worker("a")])], "no claims", "1 worker runs, and says that it is well"),
        (
            [host("h1", containers=[worker("a", "unhealthy", "login refused")])],
            "no claims",
            r"h1 is unhealthy \(login refused\)",
        ),
        ([], "no claims", "Nothing moved"),
    ],
)
def test_hosts_tell_why_nothing_moves(hosts, how, words):
    found = explain_stall(Ending("no claims", Tally(0, 0, 0, 2), "Nothing moved."), hosts)
    assert found.how == how
    assert re.search(words, found.message), found.message


def test_hosts_that_were_not_asked_are_not_said_to_run_no_worker():
    """As with --limit: nothing is known of them."""
    ending = Ending("no claims", Tally(0, 0, 0, 2), "Nothing moved.")
    assert explain_stall(ending, [read_host("h1", None)]) == ending


def test_outcome_fits_into_80_columns():
    for how in HEADLINES:
        line = Ending(how, Tally(59_999, 19_999, 999, 19_003), "Long words").last_line
        assert len(line) <= 80, line
        assert line.startswith(f"{HEADLINES[how]}: 59999 of 100000 finished")


def test_unknown_project_says_what_to_do():
    with pytest.raises(QsmrError, match="jobs.yml"):
        watch(Service(None))


def test_view_has_workers_pace_and_time_left():
    """Six jobs a minute over the last minutes, so that 40 take 400 s."""
    states = [{"Available": 60 - n // 5, "Finished": n // 5} for n in range(101)]
    ending, views = watch(Service(*states, claimed=["UWorker_a", "UWorker_b"]), deadline=NOW + timedelta(seconds=199))
    assert ending.how == "deadline"
    view = views[-1]
    assert view["workers"] == 2
    assert 60 * view["rate"] == pytest.approx(6, rel=0.1)
    assert view["eta_seconds"] == pytest.approx(400, rel=0.15)
    assert line_of(view).startswith("demo: 19 of 60 jobs ended (31 %), 19 finished, 0 failed, 0 running")
    assert line_of(view).endswith("left, 2 workers alive")


def test_jobs_that_are_given_back_give_no_time_below_zero():
    states = [{"Available": 1 + n // 9, "Finished": 60 - n // 9} for n in range(500)]
    _ending, views = watch(Service(*states), deadline=NOW + timedelta(seconds=900))
    assert {view["rate"] for view in views} == {None}


def test_bar_shows_failures_and_no_rate_before_there_is_one():
    _ending, views = watch(Service({"Available": 10, "Finished": 8, "Failed": 2}), stall_timeout=3)
    assert bar_of(views[0], 200) == (
        "[########xx..........] demo: 10 of 20 jobs ended (50 %), 8 finished, 2 failed, 0 running, no worker seen"
    )


class Restarting(Service):
    """Its second and third answers don't come."""

    asked = 0
    status: int | None = None

    def project(self, name):
        self.asked += 1
        if self.asked in (2, 3):
            raise JobApiError("GET http://jobs/v4/demo: no answer (Connection refused)", self.status)
        return super().project(name)


def test_wait_bears_a_service_that_restarts():
    ending, views = watch(Restarting({"Available": 1}, {"Finished": 1}))
    assert ending.how == "done"
    assert [line_of(view) for view in views[1:]] == [
        "GET http://jobs/v4/demo: no answer (Connection refused); still waiting"
    ] * 2


def test_service_that_was_never_there_or_stays_away_is_down():
    never = Restarting({"Available": 1})
    never.asked = 1
    ending, views = watch(never)
    assert (ending.how, ending.exit_code, views) == ("service down", 15, [])
    away = Restarting({"Available": 1}, {"Available": 1})
    ending, _views = watch(away, stall_timeout=1)
    assert ending.how == "service down"


def test_refusal_is_an_error_at_once():
    refusing = Restarting({"Available": 1})
    refusing.status = 403
    with pytest.raises(JobApiError):
        watch(refusing)


def test_nothing_is_foretold_from_what_ended_long_ago():
    """One job ended yesterday: that is not "0.0/min, 960:00:00 left"."""
    service = Service({"Available": 40, "Finished": 1})
    yesterday = {"Id": "1:1", "Status": "Finished", "Finished": "2026-11-23T12:00:00", "Claimed": "2026-11-23T11:59:00"}
    service.each_job = lambda _name, status=None, start="9": iter(
        [yesterday] if status == "finished" and start <= yesterday["Finished"] else []
    )
    _ending, views = watch(service, stall_timeout=100)
    assert line_of(views[0]) == "demo: 1 of 41 jobs ended (2 %), 1 finished, 0 failed, 0 running, no worker seen"
    assert line_of(views[-1]).endswith("0 running, nothing has moved for 100 s, no worker seen")


def test_slow_rate_and_long_time_are_said_in_words():
    view = {"project": "demo", "phase": "watching", "total": 41, "done": 1, "finished": 1, "failed": 0, "running": 3}
    view |= {"workers": 3, "rate": 1 / 86400, "eta_seconds": 40 * 86400, "still": 0, "trouble": ""}
    assert line_of(view).endswith("3 running, 1 jobs/d".replace(" jobs", "") + ", 40 d 0 h left, 3 workers alive")
