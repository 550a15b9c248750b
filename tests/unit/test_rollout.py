"""What the hosts' answers do to a rollout."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from qsmr.errors import QsmrError
from qsmr.jobapi import JobApiError
from qsmr.machines import check_machines
from qsmr.rollout import (
    Rollout,
    canary_fault,
    clock_faults,
    fault_table,
    host_faults,
    hosts_to_send_to,
    plan,
    require,
)
from qsmr.stages import batches

HOSTS = ("h1", "h2", "h3", "h4", "h5")
GOOD = {"differences": [], "worker_names": ["w"], "gone": [], "release": "r2"}
BACK = {**GOOD, "release": "r1"}
SICK = {"failed": True, "msg": "long\nstory", "differences": ["release"], "check": "w1 is sick", "log": ["a", "b"]}
UNREACHABLE = {"unreachable": True, "msg": "Failed to connect to the host via ssh: over ssh: timed out"}


def look(release="r1", target="r2", **fields):
    """What a host answers that runs ``release``, healthy."""
    differences = [] if release == target else [f"release: {release} -> {target}"]
    back_to = "r1" if target == "r2" else ""
    found = {"target": target, "release": release, "back_to": back_to, "has_image": True, "faults": []}
    return {**found, "differences": differences, **fields}


def begin(found=None, locks=None, resumed=(), sizes=(1, "50%", "100%"), **fields):
    settings = {"max_failed": 0, "revert_all": True, "canary_jobs": 0, "canary_deadline": 60, **fields}
    rollout = Rollout("id", "rollout", "demo", {}, [], **settings)
    found = {host: look() for host in HOSTS} | (found or {})
    return plan(found, {host: {"taken_from": ""} for host in found} | (locks or {}), resumed, list(sizes), rollout)


def go(rollout, *rounds):
    """Play rounds with the answers that differ from good ones; every round passes through a registered variable."""
    for answers in rounds:
        rollout = Rollout.from_record(json.loads(json.dumps(rollout.record)))
        rollout.judge(dict.fromkeys(rollout.members, GOOD) | answers)
    return rollout


@pytest.mark.parametrize(
    ("sizes", "numbers"),
    [
        ([1, "25%", "100%"], [1, 1, 3]),
        ("[1,'50%','100%']", [1, 2, 2]),
        (2, [2, 2, 1]),
        ("1,4", [1, 4]),
        ("100%", [5]),
    ],
)
def test_stages_are_numbers_or_percentages(sizes, numbers):
    stages = batches(HOSTS, sizes)
    assert [len(stage) for stage in stages] == numbers
    assert [host for stage in stages for host in stage] == list(HOSTS)


def test_one_machine_under_two_names_is_named_and_others_are_not():
    answers = {"a": {"machine": "m1"}, "b": {"machine": "m2"}, "c": {"machine": "m1"}, "d": {"machine": ""}, "e": None}
    with pytest.raises(QsmrError, match="^Nothing was changed: a and c are one machine"):
        check_machines(answers)
    check_machines({"a": answers["a"], "b": answers["b"], "d": {"machine": ""}, "f": {"machine": ""}, "e": None})


@pytest.mark.parametrize("sizes", ["some", [0], ["25 %"], "0.25", 0.25, [], True, "101%"])
def test_sizes_that_are_neither_are_refused(sizes):
    """They would be a rollout without the canary that was meant."""
    with pytest.raises(QsmrError, match="qsmr_rollout_batches cannot be"):
        batches(HOSTS, sizes)


def test_good_rollout_switches_stage_after_stage_and_looks_at_all_in_the_end():
    rollout = begin()
    seen = []
    while rollout.open and rollout.round < rollout.record["rounds"]:
        seen.append((rollout.stage, rollout.hold))
        rollout = go(rollout, {})
    assert seen == [
        (["h1"], []),
        (["h2", "h3"], ["h1"]),
        (["h4", "h5"], ["h1", "h2", "h3"]),
        ([], list(HOSTS)),
    ]
    assert rollout.succeeded
    assert rollout.summary() == "r2 runs on 5 hosts now (5 workers, all healthy)."


def test_rollback_is_marked_with_the_last_look_at_all():
    """A mark changes which release is the one before: after a kill in between it has to be the same for all."""
    marks = {}
    for what in ("rollout", "rollback"):
        rollout = begin()
        rollout.what = what
        seen = [rollout.record["mark"]]
        for _stage in rollout.stages:
            rollout = go(rollout, {})
            seen.append(rollout.record["mark"])
        marks[what] = seen
    assert marks == {"rollout": ["stable"] * 4, "rollback": ["none", "none", "none", "stable"]}


def test_sick_canary_stops_all_and_nothing_has_to_be_taken_back():
    rollout = go(begin(), {"h1": {**SICK, "reverted": True}})
    assert (rollout.open, rollout.stage, rollout.to_take_back) == (False, [], [])
    assert rollout.summary().splitlines() == [
        "h1: w1 is sick",
        "    a",
        "    b",
        "Stopped: no host of stage 1 got healthy; h1 failed (w1 is sick), and is back on r1; "
        "h2, h3, h4, h5 not touched.",
    ]
    assert rollout.runs("h1") == "r1"


@pytest.mark.parametrize("answer", [UNREACHABLE, None, {**SICK, "reverted": False}, {"failed": True, "msg": "boom"}])
def test_any_loss_in_a_later_stage_stops_and_takes_back_those_before(answer):
    rollout = go(begin(), {}, {"h3": answer})
    assert not rollout.open
    assert rollout.to_take_back == ["h1", "h2"]
    rollout.taken_back({"h1": BACK, "h2": UNREACHABLE})
    assert [rollout.ended(host) for host in HOSTS[:2]] == ["taken back", "lost"]
    assert "h2 is lost (it could not be taken back to r1: unreachable (timed out))" in rollout.summary()
    assert rollout.ended("h4") == "not begun"


def test_host_that_turns_sick_in_a_later_stage_stops_too():
    rollout = go(begin(), {}, {"h1": {**SICK, "reverted": True}})
    assert rollout.to_take_back == ["h2", "h3"]


def test_last_look_counts():
    rollout = go(begin(), {}, {}, {}, {"h5": {**SICK, "reverted": True}})
    assert not rollout.open
    assert rollout.to_take_back == ["h1", "h2", "h3", "h4"]


def test_hosts_that_were_switched_may_be_kept():
    rollout = go(begin(revert_all=False), {}, {"h2": {**SICK, "reverted": True}})
    assert rollout.to_take_back == []
    assert rollout.summary().endswith("h1, h3 kept on r2; h4, h5 not touched.")


def test_budget_is_the_fleets_and_not_the_stages():
    one = go(begin(max_failed=1), {}, {"h3": UNREACHABLE})
    assert one.open
    assert not one.succeeded
    assert (
        go(one, {}, {}).summary().endswith("Not everywhere: r2 runs on 4 hosts; h3 is lost (unreachable (timed out)).")
    )
    two = go(one, {"h4": {**SICK, "reverted": True}})
    assert (two.open, two.why) == (False, "2 of 5 hosts failed or were lost, where 1 may be")


def test_stage_that_is_bad_as_a_whole_stops_whatever_the_budget():
    assert not go(begin(max_failed=5), {"h1": UNREACHABLE}).open


def test_image_is_sent_where_it_is_lacking_and_never_for_a_rollback():
    looks = {"h1": look(), "h2": look(has_image=False), "h3": look("r2", has_image=False)}
    assert hosts_to_send_to(looks, "rollout") == ["h2"]
    assert hosts_to_send_to(looks, "rollback") == []


def test_host_that_was_lost_before_the_first_stage_uses_up_the_budget():
    assert not begin({"h5": None}).open
    assert not begin({"h5": UNREACHABLE}).open
    assert not begin({"h5": look(has_image=False)}).open
    assert not begin({"h5": look(faults=["full"])}).open
    spared = begin({"h5": None}, max_failed=1)
    assert spared.open
    assert "h5" not in [host for stage in spared.stages for host in stage]
    assert not go(spared, {}, {"h2": UNREACHABLE}).open


def test_lock_of_another_stops_before_anything_and_says_whose():
    rollout = begin(locks={"h4": {"failed": True, "msg": "bob@lab2 holds the lock", "locked": True}}, max_failed=5)
    assert not rollout.open
    assert "h4: bob@lab2 holds the lock" in rollout.summary()
    assert "qsmr_break_lock" in rollout.summary()


def test_host_that_runs_the_release_unproven_is_the_canary():
    found = {"h4": look("r2", differences=["stable release: r1 -> r2"]), "h2": look("r2")}
    rollout = begin(found)
    assert rollout.stages == [["h4"], ["h1", "h3"], ["h5"]]
    assert rollout.ended("h2") == "was there"


def test_host_that_an_earlier_run_of_it_has_switched_is_taken_back_with_the_others():
    rollout = go(begin({"h2": look("r2"), "h3": look("r2")}, resumed=["h2"]), {"h1": {**SICK, "reverted": True}})
    assert rollout.to_take_back == ["h2"]


def test_first_release_of_a_fleet_has_nothing_to_go_back_to():
    found = {host: look(release="", back_to="") for host in HOSTS}
    rollout = go(begin(found), {}, {"h2": {**SICK, "reverted": True}})
    assert rollout.to_take_back == []
    assert "its workers were stopped" in rollout.summary()


def test_hosts_that_were_left_out_are_named_in_the_end():
    rollout = go(begin(), {}, {}, {}, {})
    rollout.skipped = {"h6": ["no Docker"], "h7": ["no Docker"]}
    assert rollout.summary().splitlines()[0] == "Left out: h6, h7  no Docker"
    assert rollout.summary().endswith("left out: h6, h7.")


def test_check_mode_has_no_last_look_and_tells_what_would_be():
    rollout = begin(check_mode=True)
    assert rollout.record["rounds"] == 3
    assert go(rollout, {}, {}, {}).summary() == "Check mode: r2 would be started on h1, h2, h3, h4, h5."


def test_faults_of_all_hosts_are_one_table():
    answers = {
        "h1": look(faults=["no room", "no Compose"]),
        "h2": UNREACHABLE,
        "long3": look(faults=["no room"]),
        "h4": look(),
        "h5": {"msg": "Traceback\nKeyError: x", "failed": True},
    }
    assert fault_table(host_faults(answers)) == [
        "h1, long3  no room",
        "h1         no Compose",
        "h2         unreachable (timed out): repair it, or leave it out with -e qsmr_skip_unfit=true",
        "h5         it could not be checked: KeyError: x",
    ]


def test_clock_is_wrong_only_by_what_the_answer_cannot_explain():
    assert clock_faults(1000, 900, 1000) == []
    assert clock_faults(1059, 990, 1000) == []
    assert clock_faults(1300, 990, 1000) == ["Its clock is 300 s ahead of this machine's: set it (timedatectl)"]
    assert clock_faults(500, 990, 1000) == ["Its clock is 490 s behind this machine's: set it (timedatectl)"]


class Jobs:
    """A job service whose canary ends one more job at each look."""

    def __init__(self, canary, others=()):
        self.canary, self.others, self.looks = list(canary), list(others), 0

    def each_job(self, project, worker):
        self.looks += 1
        if self.looks == 1:
            raise JobApiError("busy", 503)
        return [{"Status": status} for status in self.canary[: self.looks]]

    def project(self, project):
        done = [*self.canary[: self.looks], *self.others]
        return {"JobStates": {name: done.count(name) for name in ("Finished", "Failed")}}


@pytest.mark.parametrize(
    ("canary", "others", "fault"),
    [
        (["Finished"] * 4, [], ""),
        (["Failed", "Finished", "Finished", "Finished"], ["Failed", "Finished"], ""),
        (
            ["Failed", "Finished", "Failed", "Finished"],
            ["Failed", "Finished", "Finished", "Finished"],
            "2 of its 4 jobs failed (50%), and 25% of 4 before",
        ),
        (["Failed", "Finished", "Finished", "Finished"], [], "1 of its 4 jobs failed (25%), and 0% of 0 before"),
        (["Finished"] * 3, [], "only 3 of 4 jobs ended within 60 s (qsmr_canary_deadline)"),
    ],
)
def test_canary_may_not_fail_a_larger_share_of_jobs_than_before(canary, others, fault):
    now = SimpleNamespace(seconds=0.0)

    def sleep(seconds):
        now.seconds += seconds

    assert canary_fault(Jobs(canary, others), "demo", ["w"], 4, 60, lambda: now.seconds, sleep) == fault


class OddJobs(Jobs):
    """One of the jobs has no status: the service cannot describe the project then."""

    def each_job(self, project, worker=None):
        found = super().each_job(project, worker)
        return found if worker else [*found, *({"Status": status} for status in self.others), {"Status": None}]

    def project(self, project):
        raise JobApiError("no", 500)


def test_canary_is_judged_though_a_job_without_a_status_is_in_the_project():
    jobs = OddJobs(["Failed", "Finished", "Failed", "Finished"], ["Failed", "Finished", "Finished", "Finished"])
    fault = canary_fault(jobs, "demo", ["w"], 4, 60, lambda: 0, lambda seconds: None)
    assert fault == "2 of its 4 jobs failed (50%), and 25% of 4 before"


def test_canary_whose_jobs_nobody_tells_is_no_proof():
    """An error in between left the hosts of the first stage on the release."""

    class Refusing(Jobs):
        def each_job(self, project, worker):
            raise JobApiError("GET jobs: 401 Unauthorized", 401)

    fault = canary_fault(Refusing([]), "demo", ["w"], 4, 60, lambda: 0, lambda seconds: None)
    assert fault == "its jobs cannot be judged: GET jobs: 401 Unauthorized"


def test_canary_whose_jobs_fail_is_taken_back():
    rollout = go(begin(canary_jobs=2), {})
    rollout.judge_jobs(Jobs(["Failed"] * 3), lambda: 0.0, lambda seconds: None)
    assert (rollout.open, rollout.to_take_back) == (False, ["h1"])
    rollout.taken_back({"h1": BACK})
    assert rollout.ended("h1") == "reverted"


@pytest.mark.parametrize("value", ["x", -1, "1.5", None])
def test_wrong_number_is_named(value):
    with pytest.raises(QsmrError, match="qsmr_x is"):
        require(value, "qsmr_x")


def test_host_that_does_not_run_what_it_should_is_believed_in_no_case():
    rollout = go(begin(), {"h1": BACK})
    assert (rollout.open, rollout.ended("h1")) == (False, "failed")
    rollout = go(begin(), {}, {"h2": {**SICK, "reverted": True}})
    rollout.taken_back({"h1": GOOD, "h3": BACK})
    assert [rollout.ended(host) for host in ("h1", "h3")] == ["failed", "taken back"]
    assert "it could not be taken back to r1: it runs r2 instead of r1" in rollout.summary()
