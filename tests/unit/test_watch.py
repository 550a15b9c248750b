"""Waiting for a project: when it is done, when it stalls, what is said meanwhile."""

from __future__ import annotations

import pytest
from qsmr.errors import QsmrError
from qsmr.jobapi import JobApiError
from qsmr.watch import Tally, wait_until_done


class Service:
    """A job service whose project goes through the given states, and stays in the last."""

    def __init__(self, *states):
        self.states = list(states)

    def project(self, _name):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return None if state is None else {"JobStates": state}


class Clock:
    """Time that passes by sleeping only."""

    now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def watch(service, **arguments):
    clock, lines = Clock(), []
    tally = wait_until_done(service, "demo", 600.0, lines.append, clock=clock, sleep=clock.sleep, **arguments)
    return tally, lines


def test_returns_when_nothing_is_open():
    tally, _lines = watch(Service({"Available": 2}, {"Started": 1, "Claimed": 1}, {"Finished": 1, "Failed": 1}))
    assert tally == Tally(finished=1, failed=1, running=0, available=0)


def test_unknown_status_texts_count_as_running():
    assert Tally.from_project({"JobStates": {"Halfway": 3, "Finished": 1}}).running == 3


def test_says_now_and_then_how_far_it_is():
    states = [{"Available": 9 - n, "Finished": n} for n in range(10)]
    _tally, lines = watch(Service(*states))
    assert lines == ["5 of 9 jobs finished, 0 failed, 0 running, 4 waiting"]


def test_stall_is_told_with_its_counts():
    with pytest.raises(QsmrError, match=r"Nothing moved for 600 s: 0 of 2 jobs finished, .* 2 waiting"):
        watch(Service({"Available": 2}))


def test_unknown_project_says_what_to_do():
    with pytest.raises(QsmrError, match="jobs.yml"):
        watch(Service(None))


class Restarting(Service):
    """Its second and third answers don't come."""

    asked = 0

    def project(self, name):
        self.asked += 1
        if self.asked in (2, 3):
            raise JobApiError("GET http://jobs/v4/demo: no answer (Connection refused)", self.status)
        return super().project(name)

    status = None


def test_wait_bears_a_service_that_restarts():
    tally, lines = watch(Restarting({"Available": 1}, {"Finished": 1}))
    assert tally.finished == 1
    assert lines == ["GET http://jobs/v4/demo: no answer (Connection refused); still waiting"] * 2


def test_service_that_stays_away_or_refuses_ends_the_wait():
    away = Restarting({"Available": 1})
    away.asked = 1
    with pytest.raises(JobApiError):  # never reached at all
        watch(away)
    refusing = Restarting({"Available": 1})
    refusing.status = 403
    with pytest.raises(JobApiError):
        watch(refusing)
