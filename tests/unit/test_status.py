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
