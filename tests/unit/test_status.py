"""From what services and hosts answer to the picture: every number that a user decides by."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from qsmr.jobapi import JobApiError
from qsmr.status import Level2, read_host, take_picture

NOW = datetime(2026, 11, 23, 10, 0, 0, tzinfo=UTC)
RELEASE, OTHER = "261123-0a1b2c3d4e", "261122-5566778899"


class Service:
    """A job service by its contract: one record, a job list, and the filters that the list takes."""

    root = "http://jobs/rest_api"

    def __init__(self, record: Any = None, jobs: list[dict] | None = None, outputs: dict | None = None) -> None:
        self.record, self.listed, self.outputs = record, jobs or [], outputs or {}
        self.asked: list[tuple[str, Any]] = []

    def project(self, name: str) -> dict | None:
        self.asked.append(("project", name))
        if isinstance(self.record, Exception):
            raise self.record
        return self.record

    def each_job(self, name: str, **query: Any) -> Iterator[dict]:
        self.asked.append(("jobs", query))
        status, start = query.get("status", ""), query.get("start")
        for found in self.listed:
            time = found.get(status.title()) or ""
            # With a time the list goes by that timestamp, whatever the present status is.
            if (start <= time) if start else (not status or str(found["Status"]).lower() == status):
                yield found

    def output(self, name: str, job: str) -> str | None:
        self.asked.append(("output", job))
        return self.outputs.get(job)


def job(number: int, status: str | None, worker: str | None = None, **more: Any) -> dict:
    claimed = worker is not None or status in ("Claimed", "Started", "Finished", "Failed")
    return {"Id": f"1:{number}", "Status": status, "IsClaimed": claimed, "Worker": worker, "Claimed": None, **more}


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")


def record(states: dict, **counters: int) -> dict:
    return {"JobStates": states, "ETA": None, **{f"NrJobs{name.title()}": number for name, number in counters.items()}}


def probe(*workers: dict, release: str = RELEASE) -> dict:
    return {"release": release, "containers": list(workers)}


def worker(name: str, health: str = "healthy", state: str = "running", release: str = RELEASE, says: str = "") -> dict:
    return {
        "name": f"qsmr-demo_{name}",
        "worker": name,
        "state": state,
        "health": health,
        "health_output": says,
        "image": f"qsmr_snapshot_demo:{release}",
        "release": release,
    }


@pytest.fixture(autouse=True)
def odin(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"reachable": True, "scans": None, "failed": None, "error": None}
    monkeypatch.setattr(Level2, "read", lambda self: dict(answer))


def picture(service: Service, **probes: dict | None) -> dict:
    hosts = [read_host(host, found) for host, found in probes.items()]
    level2 = Level2("http://odin/rest_api", "v4", "demo", "1")
    return take_picture(service, "demo", level2, hosts, NOW)  # type: ignore[arg-type]


def test_unknown_project_is_not_asked_about_any_further():
    """The service makes a table for any project name whose jobs are asked for."""
    service = Service(None)
    seen = picture(service)
    assert not seen["exists"]
    assert (seen["total"], seen["eta_seconds"], seen["rate"]) == (0, 0, None)
    assert service.asked == [("project", "demo")]


@pytest.mark.parametrize("title", [str.title, str.upper, str.lower, lambda text: f" {text} "])
def test_states_are_the_same_however_they_are_written(title):
    service = Service(record({title("available"): 3, title("finished"): 2}, added=5, claimed=2, finished=2, failed=0))
    seen = picture(service)
    assert seen["states"] == {"available": 3, "claimed": 0, "started": 0, "finished": 2, "failed": 0}
    assert (seen["total"], seen["remaining"]) == (5, 3)
    assert seen["attention"] == []


def test_a_state_that_a_client_made_up_is_counted_as_not_done():
    seen = picture(Service(record({"Aborted": 2, "Finished": 1})))
    assert seen["states"]["aborted"] == 2
    assert (seen["total"], seen["remaining"]) == (3, 2)


def test_job_list_is_left_alone_when_states_and_counters_agree():
    service = Service(record({"Available": 60}, added=60, claimed=0, finished=0, failed=0))
    picture(service)
    assert service.asked == [("project", "demo")]


def test_given_back_jobs_are_free_whatever_their_status_text_says():
    jobs = [job(1, "Failed", IsClaimed=False), job(2, "Failed"), job(3, "Started", IsClaimed=False)]
    seen = picture(Service(record({"Failed": 2, "Started": 1}, added=3, claimed=1, finished=-1, failed=1), jobs))
    assert seen["states"]["available"] == 2
    assert (seen["states"]["failed"], seen["states"]["started"], seen["remaining"]) == (1, 0, 2)
    assert any("finished -1 instead of 0" in line for line in seen["attention"])


def test_counters_that_count_twice_are_reported_and_not_shown_as_jobs():
    seen = picture(Service(record({"Finished": 4}, added=4, claimed=4, finished=8, failed=0)))
    assert (seen["states"]["finished"], seen["eta_seconds"]) == (4, 0)
    assert any("finished 8 instead of 4" in line for line in seen["attention"])


def test_a_null_status_that_breaks_the_project_route_costs_only_the_shortcut():
    error = JobApiError("500", status=500)
    seen = picture(Service(error, [job(1, None), job(2, None, "UWorker_x"), job(3, "Finished")]))
    assert seen["exists"]
    assert seen["states"]["available"] == 1
    assert (seen["states"]["unknown"], seen["total"], seen["remaining"]) == (1, 3, 2)


@pytest.mark.parametrize("status", [None, 401])
def test_a_service_that_does_not_answer_is_an_error(status):
    with pytest.raises(JobApiError):
        picture(Service(JobApiError("no answer", status=status)))


def test_an_old_service_without_states_and_counters_is_counted_by_its_jobs():
    jobs = [{"Id": "1:1", "Status": "FINISHED"}, {"Id": "1:2", "Status": "AVAILABLE"}]
    seen = picture(Service({"Version": "v4", "Project": "demo"}, jobs))
    assert (seen["states"]["finished"], seen["states"]["available"]) == (1, 1)
    assert set(seen["counters"].values()) == {None}
    assert seen["rate"] is None


def finished(count: int, first: float, last: float, **more: Any) -> list[dict]:
    """``count`` jobs that finished evenly between ``first`` and ``last`` seconds ago."""
    step = (first - last) / max(count - 1, 1)
    return [
        job(n, "Finished", "UWorker_a", Finished=ago(first - n * step), Claimed=ago(first + 1 - n * step), **more)
        for n in range(count)
    ]


def test_rate_and_eta_while_jobs_are_at_work():
    """60 jobs ended in the last 61 s, so 60 others take as long."""
    jobs = finished(60, 60, 0)
    seen = picture(Service(record({"Finished": 60, "Available": 60}, claimed=60), jobs))
    assert seen["rate"] == {"jobs": 60, "seconds": 61, "per_minute": 59.0164}
    assert seen["eta_seconds"] == 61


def test_rate_of_a_long_run_is_that_of_the_last_minutes_only():
    jobs = finished(100, 7200, 3600) + finished(40, 115, 5)
    seen = picture(Service(record({"Finished": 140, "Available": 1}, claimed=140), jobs))
    assert (seen["rate"]["jobs"], seen["rate"]["seconds"]) == (40, 116)


def test_rate_of_slow_jobs_looks_back_far_enough():
    jobs = finished(24, 86000, 3000)
    seen = picture(Service(record({"Finished": 24, "Available": 24}, claimed=24), jobs))
    assert seen["rate"]["jobs"] == 24
    assert seen["eta_seconds"] == pytest.approx(86001, abs=5)


def test_rate_of_a_done_project_ends_with_its_last_job():
    seen = picture(Service(record({"Finished": 30}, claimed=30), finished(30, 90, 60)))
    assert (seen["rate"]["seconds"], seen["eta_seconds"]) == (31, 0)


def test_failed_jobs_end_too_and_bring_the_end_nearer():
    jobs = [job(n, "Failed", "UWorker_a", Failed=ago(30), Claimed=ago(60)) for n in range(20)]
    seen = picture(Service(record({"Failed": 20, "Available": 20}, claimed=20), jobs))
    assert seen["eta_seconds"] == 60


def test_no_eta_when_nothing_ended():
    seen = picture(Service(record({"Available": 5, "Started": 1}, claimed=1), [job(1, "Started", "UWorker_a")]))
    assert (seen["rate"], seen["eta_seconds"]) == (None, None)


def test_clock_ahead_of_the_service_gives_no_negative_rate():
    jobs = finished(30, -60, -90)
    seen = picture(Service(record({"Finished": 30, "Available": 1}, claimed=30), jobs))
    assert seen["rate"]["per_minute"] > 0
    assert seen["eta_seconds"] >= 0


def test_timestamps_that_are_missing_or_broken_are_left_out():
    jobs = [job(1, "Finished", Finished="0000-00-00T00:00:00"), job(2, "Finished", Finished="9999-soon")]
    assert picture(Service(record({"Finished": 2}, claimed=2), jobs))["rate"] is None


def test_workers_are_told_with_their_host_and_what_they_do():
    jobs = [*finished(25, 60, 1), job(99, "Started", "UWorker_b")]
    seen = picture(
        Service(record({"Finished": 25, "Started": 1}, claimed=26), jobs),
        host1=probe(worker("UWorker_a"), worker("UWorker_b")),
    )
    assert seen["workers"] == [
        {"name": "UWorker_a", "host": "host1", "holds": 0, "ended": 25},
        {"name": "UWorker_b", "host": "host1", "holds": 1, "ended": 0},
    ]
    assert seen["orphans"] == []


def orphaned(seen: dict) -> list[str]:
    return [job["id"] for job in seen["orphans"]]


def test_jobs_of_workers_that_no_host_has_are_flagged():
    jobs = [job(1, "Started", "UWorker_gone"), job(2, "Claimed", None), job(3, "Started", "UWorker_a")]
    states = record({"Started": 2, "Claimed": 1}, claimed=3)
    seen = picture(Service(states, jobs), host1=probe(worker("UWorker_a")))
    assert sorted(orphaned(seen)) == ["1:1", "1:2"]
    assert any("UWorker_gone (1)" in line and "nobody (1)" in line for line in seen["attention"])
    dead = picture(Service(states, jobs), host1=probe(worker("UWorker_a", state="exited")))
    assert sorted(orphaned(dead)) == ["1:1", "1:2", "1:3"]


@pytest.mark.parametrize(
    "silent", [{"unreachable": True, "msg": "no route"}, {"failed": False, "msg": "no docker"}, None]
)
def test_workers_of_a_silent_host_are_not_taken_for_dead(silent):
    jobs = [job(1, "Started", "UWorker_there"), job(2, "Claimed", None)]
    seen = picture(Service(record({"Started": 1, "Claimed": 1}, claimed=2), jobs), host1=probe(), host2=silent)
    assert orphaned(seen) == ["1:2"]


@pytest.mark.parametrize(
    ("found", "state", "error"),
    [
        ({"unreachable": True, "msg": "Task failed: no route\nto host"}, "unreachable", "no route"),
        ({"failed": False, "msg": "the Docker engine does not run"}, "fails", "the Docker engine does not run"),
        ({"skipped": True}, "not asked", None),
        (None, "not asked", None),
    ],
)
def test_host_that_does_not_tell(found, state, error):
    row = read_host("host1", found)
    assert (row["state"], row["error"], row["workers"], row["release"]) == (state, error, [], None)


def test_picture_of_a_healthy_fleet_is_the_same_while_nothing_happens():
    probes = [probe(worker("a", says=f"healthy: idle, last contact 10:0{minute}")) for minute in (1, 2)]
    service = Service(record({"Available": 1}, claimed=0))
    first, second = (picture(service, host1=found) for found in probes)
    assert first == second


IDLE = {"Finished": 1}


@pytest.mark.parametrize(
    ("probes", "words"),
    [
        ({"host1": probe(release="")}, "host1 has no release of demo"),
        ({"host1": probe()}, "host1 runs no worker"),
        ({"host1": probe(worker("a", "unhealthy", says="login refused\nat 10:00"))}, "is unhealthy (login refused)"),
        ({"host1": probe(worker("a", state="restarting"))}, "is restarting"),
        ({"host1": probe(worker("a", release=OTHER))}, f"host1 should run {RELEASE} and runs {OTHER}"),
        (
            {"host1": probe(worker("a")), "host2": probe(worker("b", release=OTHER), release=OTHER)},
            f"The fleet is mixed: {OTHER} on host2; {RELEASE} on host1",
        ),
        ({"host1": {"unreachable": True, "msg": "no route"}}, "host1 is unreachable: no route"),
        ({"host1": {"failed": False, "msg": "no Docker"}}, "host1 cannot tell its workers: no Docker"),
    ],
)
def test_what_is_wrong_with_a_host_is_said(probes, words):
    attention = picture(Service(record(IDLE, claimed=1)), **probes)["attention"]
    assert any(words in line for line in attention), attention


def test_a_fleet_that_is_well_says_nothing():
    probes = {"host1": probe(worker("a"), worker("b")), "host2": probe(worker("c"))}
    assert picture(Service(record({"Available": 1}, claimed=0)), **probes)["attention"] == []


def test_jobs_without_any_healthy_worker_are_said():
    seen = picture(Service(record({"Available": 7}, claimed=0)), host1=probe(worker("a", "starting")))
    assert "7 jobs remain and no worker is healthy" in seen["attention"]


def test_hosts_that_were_not_asked_may_have_healthy_workers():
    seen = picture(Service(record({"Available": 7}, claimed=0)), host1=probe(worker("a", "starting")), host2={})
    assert not any("no worker is healthy" in line for line in seen["attention"])


def failed(number: int, worker: str = "UWorker_h1_c", seconds: float = 60) -> dict:
    return job(number, "Failed", worker, Failed=ago(seconds), Claimed=ago(seconds + 5))


def test_failures_are_grouped_by_what_explains_them():
    jobs = [failed(n) for n in range(5)] + [failed(9, "UWorker_h2_c")]
    outputs = {
        f"1:{n}": f"T - STDERR: no file /data/{n}.mat\nT - EXECUTOR: Job process exited with code 1" for n in range(5)
    }
    outputs["1:9"] = "T - STDERR: out of memory"
    seen = picture(Service(record({"Failed": 6}, claimed=6), jobs, outputs))["failures"]
    assert [(group["template"], group["count"]) for group in seen] == [("no file <path>", 5), ("out of memory", 1)]
    assert seen[0]["line"] == "no file /data/0.mat"
    assert seen[0]["jobs"] == ["1:0", "1:1", "1:2"]
    assert seen[0]["hosts"] == {"h1": 5}
    assert seen[0]["output"] == "http://jobs/rest_api/v4/demo/jobs/1:0/output"


def test_newest_failures_are_read_and_those_given_back_are_none():
    jobs = [failed(n, seconds=n) for n in range(600)] + [{**failed(700), "IsClaimed": False}]
    service = Service(record({"Failed": 601}, claimed=600), jobs)
    seen = picture(service)
    assert seen["failures_read"] == 500
    read = {id for kind, id in service.asked if kind == "output"}
    assert read == {f"1:{n}" for n in range(500)}


def test_host_where_more_fails_than_elsewhere_is_named():
    jobs = [failed(n, "UWorker_bad_c") for n in range(9)]
    jobs += [job(100 + n, "Finished", f"UWorker_good{n % 3}_c", Finished=ago(60), Claimed=ago(65)) for n in range(60)]
    seen = picture(Service(record({"Failed": 9, "Finished": 60}, claimed=69), jobs))
    (line,) = [line for line in seen["attention"] if "fails more than the others" in line]
    assert line.startswith("bad fails more than the others: 9 of the 9 jobs")
    assert seen["failed_by_host"] == [
        {"host": "bad", "ended": 9, "failed": 9, "p": pytest.approx(1.77e-11, rel=0.01), "bad": True}
    ]


def test_failures_are_not_read_when_nothing_failed():
    service = Service(record({"Finished": 1}, claimed=1))
    picture(service)
    assert not [kind for kind, _ in service.asked if kind == "output"]


def test_target_tokens_in_failure_lines_are_left_out():
    """Possession of a token is the permission to write level 2."""
    outputs = {"1:1": "T - STDERR: POST http://odin/v4/level2?d=secrettoken== gave error 400"}
    (group,) = picture(Service(record({"Failed": 1}, claimed=1), [failed(1)], outputs))["failures"]
    assert group["line"] == "POST http://odin/v4/level2?... gave error 400"
    assert "secrettoken" not in str(group)


@pytest.mark.parametrize(
    ("version", "freq_mode", "url"),
    [
        ("v4", "1", "http://odin/rest_api/v4/level2/demo/1"),
        ("v5", "1", "http://odin/rest_api/v5/level2/development/demo/1"),
        ("v4", "", "http://odin/rest_api/v4/level2/demo/<freqmode>"),
    ],
)
def test_level2_url(version, freq_mode, url):
    assert Level2("http://odin/rest_api", version, "demo", freq_mode).url == url


def crashed(count: int, worker: str = "UWorker_host1_old", seconds: float = 60) -> list[dict]:
    return [job(1000 + n, "Failed", worker, Failed=ago(seconds), Claimed=ago(seconds + 5)) for n in range(count)]


def test_project_whose_jobs_all_crash_is_not_well():
    seen = picture(Service(record({"Failed": 60}, claimed=60), crashed(60)))
    assert (seen["ending"], seen["exit_code"]) == ("failures", 10)
    assert seen["attention"][0].startswith("All 60 jobs that ended have failed, and none has finished")
    assert seen["last_line"] == "Failing: 0 of 60 finished, 60 failed, 0 running, 0 waiting"


@pytest.mark.parametrize(
    ("states", "code", "words"),
    [
        (
            {"Failed": 31, "Finished": 29},
            10,
            "31 of 60 jobs that ended have failed, more than qsmr_max_failed_share=0.5",
        ),
        ({"Failed": 30, "Finished": 30}, 0, ""),
        ({"Failed": 20, "Available": 40}, 10, "All 20 jobs that ended have failed"),
        ({"Failed": 3, "Available": 57}, 0, "All 3 jobs that have ended so far have failed"),
        ({"Failed": 2, "Available": 58}, 0, ""),
        ({"Failed": 1}, 10, "The only job that ended has failed"),
    ],
)
def test_failures_are_judged_as_watch_does_and_said_before(states, code, words):
    seen = picture(Service(record(states, claimed=sum(states.values()) - states.get("Available", 0))))
    assert seen["exit_code"] == code
    assert any(line.startswith(words) for line in seen["attention"]) if words else seen["attention"] == []


def test_release_that_fails_more_than_what_ran_before_is_named():
    jobs = [job(n, "Finished", "UWorker_host1_old", Finished=ago(3600), Claimed=ago(3605)) for n in range(40)]
    states = record({"Finished": 40, "Failed": 10, "Available": 10}, claimed=50)
    bad = Service(states, jobs + crashed(10, "UWorker_host1_new"))
    seen = picture(bad, host1=probe(worker("UWorker_host1_new")))
    assert seen["exit_code"] == 10
    assert seen["attention"][0].startswith(
        f"Release {RELEASE} fails more than what ran before: 10 of its 10 jobs, and 0 of 40 others"
    )
    before = Service(states, jobs + crashed(10, "UWorker_host1_old"))
    assert picture(before, host1=probe(worker("UWorker_host1_new")))["exit_code"] == 0, "the former release is gone"
    alone = Service(record({"Failed": 10, "Available": 50}, claimed=10), crashed(10, "UWorker_host1_new"))
    assert picture(alone, host1=probe(worker("UWorker_host1_new")))["bad_releases"] == [], "nothing to hold it against"


def test_release_of_another_host_is_what_a_bad_one_is_held_against():
    """A fleet that is mixed: the old release goes on elsewhere."""
    jobs = [job(n, "Finished", "UWorker_host2_a", Finished=ago(60), Claimed=ago(65)) for n in range(40)]
    service = Service(record({"Finished": 40, "Failed": 10}, claimed=50), jobs + crashed(10, "UWorker_host1_a"))
    seen = picture(
        service,
        host1=probe(worker("UWorker_host1_a")),
        host2=probe(worker("UWorker_host2_a", release=OTHER), release=OTHER),
    )
    assert [line.split(" fails")[0] for line in seen["bad_releases"]] == [f"Release {RELEASE}"]


def started(text: str, name: str = "UWorker_host1_a") -> dict:
    return {**worker(name), "started": text}


@pytest.mark.parametrize(
    ("states", "probes", "ending", "code"),
    [
        ({"Available": 5}, {"host1": probe()}, "no workers", 12),
        ({"Available": 5}, {"host1": probe(started(ago(4000)))}, "no claims", 13),
        ({"Available": 4, "Started": 1}, {"host1": probe(started(ago(4000)))}, "no ends", 14),
        ({"Available": 5}, {"host1": probe(started(ago(30)))}, "going", 0),  # just started
        ({"Available": 5}, {"host1": None}, "no claims", 13),
        ({"Available": 5}, {}, "no claims", 13),
    ],
)
def test_project_that_stands_still_is_told_as_watch_does(states, probes, ending, code):
    listed = [job(n, "Available", Added=ago(3600)) for n in range(4)]
    listed += [job(9, "Started", "UWorker_host1_a", Claimed=ago(3500))] if "Started" in states else []
    found = {**record(states, claimed=states.get("Started", 0)), "LastJobAddedAt": ago(3600)}
    seen = picture(Service({**found, "LastJobClaimedAt": ago(3500)}, listed), **probes)
    assert (seen["ending"], seen["exit_code"]) == (ending, code)
    if code:
        assert seen["attention"][0].startswith("Nothing has moved since 2026-11-23 09:01 UTC: 0 of 5 jobs finished")


def test_jobs_that_were_made_available_again_are_not_a_stall():
    """retry.yml: the service knows no later claim, and the workers have not looked yet."""
    listed = [job(n, "Available", Added=ago(5)) for n in range(5)]
    found = {**record({"Available": 5}, claimed=0), "LastJobAddedAt": ago(90000), "LastJobClaimedAt": ago(80000)}
    assert picture(Service(found, listed), host1=probe(started(ago(90000))))["ending"] == "going"


def test_slow_jobs_at_work_are_no_stall_and_one_that_hangs_is_named():
    """Retrievals that take 20 minutes each; one worker has been at its job for four hours."""
    jobs = [job(n, "Finished", "UWorker_host1_a", Finished=ago(1300), Claimed=ago(2500)) for n in range(20)]
    jobs += [
        job(50, "Started", "UWorker_host1_a", Claimed=ago(1299)),
        job(51, "Started", "UWorker_host1_b", Claimed=ago(14400)),
    ]
    found = {**record({"Finished": 20, "Started": 2}, claimed=22), "LastJobClaimedAt": ago(1299)}
    two = probe(started(ago(90000)), started(ago(90000), "UWorker_host1_b"))
    seen = picture(Service(found, jobs), host1=two)
    assert seen["ending"] == "going"
    assert [late["id"] for late in seen["overdue"]["jobs"]] == ["1:51"]
    assert seen["attention"] == [
        "1 job runs far longer than the project's others, of which 95 % took 1200 s at most: 1:51 by UWorker_host1_b"
        " since 2026-11-23T06:00:00 UTC; if the code hangs, restart these workers;"
        " qsmr_job_timeout ends such jobs"
    ]


def test_one_job_that_ended_gives_no_rate_that_nobody_can_know():
    """Times of the service are whole seconds: one job in one of them is not sixty a minute."""
    jobs = [job(1, "Finished", "UWorker_a", Finished=ago(1), Claimed=ago(1))]
    seen = picture(Service(record({"Finished": 1, "Available": 9}, claimed=1), jobs))
    assert seen["rate"]["per_minute"] == 6


def test_replaced_workers_are_their_hosts():
    """Not those of no host here: a rollout makes new ones, and theirs were the jobs that ended before it."""
    jobs = [*finished(25, 60, 1), job(99, "Finished", "UWorker_elsewhere_a", Finished=ago(3), Claimed=ago(9))]
    for old in jobs[:25]:
        old["Worker"] = "UWorker_host1_old"
    seen = picture(Service(record({"Finished": 26}, claimed=26), jobs), host1=probe(worker("UWorker_host1_new")))
    assert {found["name"]: found["host"] for found in seen["workers"]} == {
        "UWorker_elsewhere_a": None,
        "UWorker_host1_new": "host1",
        "UWorker_host1_old": "host1",
    }


def test_a_project_without_jobs_is_not_done():
    seen = picture(Service(record({})))
    assert (seen["ending"], seen["exit_code"]) == ("no jobs", 0)
    assert seen["last_line"] == "No jobs: no job is known"
