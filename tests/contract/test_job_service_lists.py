"""Job service contract v4, section 7: job lists, counts, failures, and the workers that its links promise."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
import requests


@pytest.fixture
def url(api, project):
    """A project with jobs 0..5: free, claimed, started, finished, failed, and one that failed and was freed."""
    jobs = [{"id": str(n), "source_url": f"s{n}", "type": "even" if n % 2 == 0 else "odd"} for n in range(6)]
    url = f"/v4/{project}"
    api.post(f"{url}/jobs", json=jobs)
    for job, worker in enumerate(["w1", "w1", "w2", "w2", "w1"], start=1):
        api.put(f"{url}/jobs/{job}/claim", json={"Worker": worker})
    for job, status in {2: "STARTED", 3: "FINISHED", 4: "FAILED", 5: "FAILED"}.items():
        api.put(f"{url}/jobs/{job}/status", json={"Status": status, "ProcessingTime": job})
    api.delete(f"{url}/jobs/5/claim")
    return url


def ids(api, url, query=""):
    answer = api.get(f"{url}/jobs{query}")
    assert answer.status_code == 200
    return [job["Id"] for job in answer.json()["Jobs"]]


def day(offset=0):
    return (datetime.now(UTC) + timedelta(days=offset)).strftime("%Y-%m-%d")


def test_list_echoes_the_query(api, project, url):
    answer = api.get(f"{url}/jobs?status=claimed&start=2016-01-01&end=2016-02-01T10:00&worker=w1").json()
    assert answer == {
        "Version": "v4", "Project": project, "Jobs": [],
        "Status": "CLAIMED", "Start": "2016-01-01T00:00:00", "End": "2016-02-01T10:00:00", "Worker": "w1",
    }  # fmt: skip
    assert api.get(f"{url}/jobs?status=failed").json()["Status"] == "FAILED"
    answer = api.get(f"{url}/jobs").json()
    assert [answer[key] for key in ("Status", "Start", "End", "Worker")] == [None] * 4
    assert len(answer["Jobs"]) == 6


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?status=available", "0"),
        ("?status=CLAIMED", "1"),
        ("?status=Started", "2"),
        ("?status=finished", "3"),
        ("?status=failed", "45"),
        ("?type=even", "024"),
        ("?type=none", ""),
        ("?worker=w1", "12"),
        ("?worker=w2&type=odd", "3"),
        ("?worker=w2&status=failed", "4"),
        ("?limit=0", ""),
        ("?limit=100", "012345"),
        ("?status=&worker=&type=", "012345"),
    ],
)
def test_filters(api, url, query, expected):
    assert sorted(ids(api, url, query)) == list(expected)


def test_limit(api, url):
    assert len(ids(api, url, "?limit=2")) == 2
    assert len(ids(api, url, "?status=failed&limit=1")) == 1


@pytest.mark.parametrize(
    "query",
    [
        "?status=done",
        "?limit=-1",
        "?limit=ten",
        "?limit=1.5",
        "?limit=" + "9" * 30,
        "?start=2016-01-01",
        "?end=2016-01-01",
        "?status=available&start=2016-01-01",
        "?status=started&end=2016-01-01",
        "?status=failed&start=whenever",
    ],
)
def test_bad_query_gets_400(api, url, query):
    answer = api.get(f"{url}/jobs{query}")
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_period_selects_by_the_time_whatever_the_status(api, url):
    assert ids(api, url, f"?status=claimed&start={day()}") == ["1", "2", "3", "4"]
    assert ids(api, url, f"?status=finished&end={day(1)}") == ["3"]
    assert ids(api, url, f"?status=failed&start={day()}&end={day(1)}") == ["4", "5"]
    api.put(f"{url}/jobs/4/status", json={"Status": "STARTED"})
    assert ids(api, url, f"?status=failed&start={day()}") == ["4", "5"]
    assert ids(api, url, "?status=failed") == ["5"]
    assert ids(api, url, f"?status=claimed&start={day(1)}") == []


def test_period_includes_its_start_and_excludes_its_end(api, url):
    time = api.get(f"{url}/jobs/1/claim").json()["ClaimedAtTime"]
    api.put(f"{url}/jobs/1/status", json={"Status": "FINISHED"})
    time = api.get(f"{url}/jobs?worker=w1&status=finished").json()["Jobs"][0]["Finished"]
    assert "1" in ids(api, url, f"?status=finished&start={time}")
    assert "1" not in ids(api, url, f"?status=finished&end={time}")


def test_long_list_arrives_whole(api, project):
    api.post(f"/v4/{project}/jobs", json=[{"id": str(n), "source_url": f"s{n}"} for n in range(3500)])
    # In whatever order the database has them.
    assert sorted(ids(api, f"/v4/{project}"), key=int) == [str(n) for n in range(3500)]


def test_reader_that_leaves_in_the_middle_holds_nothing_up(api, project):
    api.post(f"/v4/{project}/jobs", json=[{"id": str(n), "source_url": "s" * 500} for n in range(20_000)])
    for _ in range(20):
        with requests.get(f"{api.root}/v4/{project}/jobs", stream=True, timeout=30) as answer:
            next(answer.iter_content(1000))
    assert api.get(f"/v4/{project}").status_code == 200
    assert api.delete(f"/v4/{project}").status_code == 200


def test_count(api, project, url):
    answer = api.get(f"{url}/jobs/count").json()
    [count] = answer.pop("Counts")
    assert answer == {"Version": "v4", "Project": project, "PeriodType": "Daily", "Start": None, "End": None}
    urls = count.pop("URLS")
    assert count == {"Period": day(), "JobsClaimed": 4, "JobsFailed": 2, "JobsFinished": 1, "ActiveWorkers": 2}
    assert sorted(job["Id"] for job in api.get(urls["URL-JobsClaimed"]).json()["Jobs"]) == list("1234")
    assert [job["Id"] for job in api.get(urls["URL-JobsFinished"]).json()["Jobs"]] == ["3"]
    assert [worker["Name"] for worker in api.get(urls["URL-ActiveWorkers"]).json()["Workers"]] == ["w1", "w2"]
    zoomed = api.get(urls["URL-Zoom"]).json()
    assert zoomed["PeriodType"] == "Hourly"
    assert sum(count["JobsClaimed"] for count in zoomed["Counts"]) == 4


@pytest.mark.parametrize(
    ("period", "form"), [("hourly", "%Y-%m-%d %H:00"), ("daily", "%Y-%m-%d"), ("monthly", "%Y-%m"), ("yearly", "%Y")]
)
def test_periods(api, url, period, form):
    time = datetime.fromisoformat(api.get(f"{url}/jobs/4/claim").json()["ClaimedAtTime"])
    answer = api.get(f"{url}/jobs/count?period={period}").json()
    assert answer["PeriodType"] == period.title()
    assert answer["Counts"][-1]["Period"] == time.strftime(form)
    for count in answer["Counts"]:
        shown = api.get(count["URLS"]["URL-JobsClaimed"]).json()["Jobs"]
        assert len(shown) == count["JobsClaimed"], "the links lead to what was counted"


def test_count_within_a_period(api, url):
    assert len(api.get(f"{url}/jobs/count?start={day()}&end={day(1)}").json()["Counts"]) == 1
    answer = api.get(f"{url}/jobs/count?start={day(1)}").json()
    assert (answer["Counts"], answer["Start"]) == ([], f"{day(1)}T00:00:00")


def test_period_without_claims_has_no_active_workers(api, project):
    api.post(f"/v4/{project}/jobs", json={"id": "1", "source_url": "s"})
    api.put(f"/v4/{project}/jobs/1/status", json={"Status": "FAILED"})
    [count] = api.get(f"/v4/{project}/jobs/count").json()["Counts"]
    assert ("ActiveWorkers" in count, count["JobsClaimed"], count["JobsFailed"]) == (False, 0, 1)


def link(api, project, path, period, *names):
    start, end = (time.replace(":", "%3A") for time in period)
    return f"{api.root}/v4/{project}/{path}{'&'.join([*names, ''])}start={start}&end={end}"


@pytest.fixture
def old(api, project):
    """Two jobs claimed at ten, one failed and one finished then; one claimed and finished at eleven; one free."""
    url = f"/v4/{project}/jobs"
    api.post(url, json=[{"id": str(n), "source_url": "s"} for n in range(4)])
    ten, eleven = "2000-01-01 10:00", "2000-01-01T11:00:00"
    for job, worker, time, status in (
        ("0", "w1", ten, "FINISHED"),
        ("1", "w2", ten, "FAILED"),
        ("2", "w1", eleven, "FINISHED"),
    ):
        api.put(f"{url}/{job}/claim", json={"Worker": worker}, params={"now": time})
        api.put(f"{url}/{job}/status", json={"Status": status, "ProcessingTime": 2}, params={"now": time})
    return url


def test_counts_are_the_real_services_to_the_letter(api, project, old):
    """But for ActiveWorkers: the real service counts states, not workers."""
    hours = [(f"2000-01-01T{hour}:00:00", f"2000-01-01T{hour + 1}:00:00") for hour in (10, 11)]

    def links(period, *states):
        found = {f"URL-Jobs{state.title()}": link(api, project, "jobs?", period, f"status={state}") for state in states}
        return found | {"URL-ActiveWorkers": link(api, project, "workers?", period)}

    query = "?period=HOURLY&start=2000-01-01+10:00&end=2000-01-01T12:00"
    assert api.get(f"{old}/count{query}").json() == {
        "Version": "v4", "Project": project, "PeriodType": "Hourly",
        "Start": "2000-01-01T10:00:00", "End": "2000-01-01T12:00:00",
        "Counts": [
            {
                "Period": "2000-01-01 10:00",
                "JobsClaimed": 2, "JobsFailed": 1, "JobsFinished": 1, "ActiveWorkers": 2,
                "URLS": links(hours[0], "CLAIMED", "FAILED", "FINISHED"),
            },
            {
                "Period": "2000-01-01 11:00",
                "JobsClaimed": 1, "JobsFailed": 0, "JobsFinished": 1, "ActiveWorkers": 1,
                "URLS": links(hours[1], "CLAIMED", "FINISHED"),
            },
        ],
    }  # fmt: skip
    [day] = api.get(f"{old}/count?period=daily").json()["Counts"]
    whole = ("2000-01-01T00:00:00", "2000-01-02T00:00:00")
    assert day["URLS"] == links(whole, "CLAIMED", "FAILED", "FINISHED") | {
        "URL-Zoom": link(api, project, "jobs/count?", whole, "period=HOURLY")
    }
    assert [count["Period"] for count in api.get(day["URLS"]["URL-Zoom"]).json()["Counts"]] == [
        "2000-01-01 10:00", "2000-01-01 11:00"
    ]  # fmt: skip
    [month] = api.get(f"{old}/count?period=monthly").json()["Counts"]
    assert "URL-Zoom" not in month["URLS"]


def test_now_sets_the_time_of_a_claim_and_of_an_outcome(api, project, old):
    jobs = {job["Id"]: job for job in api.get(old).json()["Jobs"]}
    assert jobs["0"]["Claimed"] == jobs["0"]["Finished"] == "2000-01-01T10:00:00"
    assert (jobs["1"]["Claimed"], jobs["1"]["Failed"]) == ("2000-01-01T10:00:00", "2000-01-01T10:00:00")
    claim = api.put(f"{old}/3/claim?now=2000-01-01T12:30:00", json={"Worker": "w"}).json()
    assert claim["Time"] == "2000-01-01T12:30:00"
    assert api.get(f"{old}/3/claim").json()["ClaimedAtTime"] == "2000-01-01T12:30:00"
    for noun, body in (("claim", {"Worker": "w"}), ("status", {"Status": "FAILED"})):
        assert api.put(f"{old}/3/{noun}?now=whenever", json=body).status_code == 400


def test_eta_is_cut_to_whole_seconds(api, project, old):
    """One job waits, and in the hour before eleven two were claimed; seven claims make no whole number."""
    url = f"/v4/{project}"
    assert api.get(f"{url}?now=2000-01-01T11:00:00").json()["ETA"] == "0:30:00"
    api.post(f"{url}/jobs", json=[{"id": f"more{n}", "source_url": "s"} for n in range(8)])
    for n in range(7):
        api.put(f"{url}/jobs/more{n}/claim?now=2001-01-01T10:00", json={"Worker": "w"})
    assert api.get(f"{url}?now=2001-01-01T11:59").json()["ETA"] == "0:17:08", "2 of 7 hours are 1028.57 s"


@pytest.mark.parametrize("query", ["?period=weekly", "?start=whenever", "?end=whenever"])
def test_bad_count_gets_400(api, url, query):
    assert api.get(f"{url}/jobs/count{query}").status_code == 400


OUTPUTS = {
    "1": "2016-01-01T10:00:00.1 - EXECUTOR: Starting execution\n"
    "2016-01-01T10:00:01.2 - STDERR: Error   using fetch  (line 12)\n"
    "2016-01-01T10:00:01.3 - STDERR: cannot read http://odin/level1?scan=1 now\n",
    "2": "2016-01-01T11:00:00.1 - EXECUTOR: Starting execution\n"
    "2016-01-01T11:00:01.2 - STDERR: Error using fetch (line 12)\n"
    "2016-01-01T11:00:01.3 - STDERR: cannot read http://odin/level1?scan=2 now\n",
    "3": "2016-01-01T12:00:00.1 - EXECUTOR: Starting execution\n"
    "2016-01-01T12:00:00.2 - STDOUT: ------------------------------------------\n"
    "\n"
    "2016-01-01T12:00:01.3 - STDERR: segmentation fault in the retrieval of this scan\n",
}


@pytest.fixture
def failing(api, project):
    """A project with three failed jobs and one that speaks but did not fail."""
    url = f"/v4/{project}/jobs"
    api.post(url, json=[{"id": job, "source_url": "s"} for job in "1234"])
    for job in "1234":
        api.put(f"{url}/{job}/claim", json={"Worker": f"w{job}"})
        api.put(f"{url}/{job}/output", json={"Output": OUTPUTS.get(job, "all is well")})
        api.put(f"{url}/{job}/status", json={"Status": "FINISHED" if job == "4" else "FAILED", "ProcessingTime": 1.5})
    return f"/v4/{project}/failures"


def test_failures_group_the_lines_of_the_same_jobs(api, project, failing):
    answer = api.get(failing).json()
    assert [answer[key] for key in ("Version", "Project", "Start", "End")] == ["v4", project, None, None]
    lines = {tuple(group["Jobs"]): sorted(line["Line"] for line in group["CommonLines"]) for group in answer["Lines"]}
    assert lines == {
        ("1", "2", "3"): ["Starting execution"],
        ("1", "2"): ["Error using fetch (line 12)", "cannot read http://odin/level1?scan=1 now"],
        ("3",): ["-" * 42, "segmentation fault in the retrieval of this scan"],
    }


def test_failures_put_the_telling_lines_first(api, failing):
    groups = api.get(failing).json()["Lines"]
    scores = [group["Score"] for group in groups]
    assert scores == sorted(scores, reverse=True)
    for group in groups:
        inside = [line["Score"] for line in group["CommonLines"]]
        assert inside == sorted(inside, reverse=True)
        assert group["CommonLines"][0] == {"Line": group["Line"], "Score": group["Score"]}, "the first is there, too"
    alone = next(group for group in groups if group["Jobs"] == ["3"])
    assert alone["Line"][:12] == "segmentation"


def test_score_is_made_of_how_many_jobs_print_each_trigram(api, project):
    """By hand: of line2's trigrams lin and ine are in all jobs, which tells nothing, and ne2 is in one of two."""
    url = f"/v4/{project}"
    api.post(f"{url}/jobs", json=[{"id": job, "source_url": "s"} for job in "12"])
    for job, output in {"1": "line1\nline2\nlineX\nline1", "2": "T - STDERR: line1\n\nline3\n  lineX "}.items():
        api.put(f"{url}/jobs/{job}/claim", json={"Worker": "w"})
        api.put(f"{url}/jobs/{job}/output", json={"Output": output})
        api.put(f"{url}/jobs/{job}/status", json={"Status": "FAILED"})
    both, *alone = api.get(f"{url}/failures").json()["Lines"]
    assert (both["Score"], both["Jobs"]) == (0, ["1", "2"])
    assert sorted(line["Line"] for line in both["CommonLines"]) == ["line1", "lineX"]
    of_one = pytest.approx(math.log(-0.5 * math.log2(0.5)) * 1 / 4)  # of four lines in all
    assert [(group["Line"], group["Score"], group["Jobs"]) for group in alone] == [
        ("line2", of_one, ["1"]),
        ("line3", of_one, ["2"]),
    ]
    assert [line["Score"] for line in alone[0]["CommonLines"]] == [of_one]


def test_failures_of_jobs_that_print_much_are_told_in_few_lines(api, project):
    """Each of these jobs has hundreds of lines of its own, which tell nothing and would fill megabytes."""
    url = f"/v4/{project}/jobs"
    ids = [str(number) for number in range(6)]
    api.post(url, json=[{"id": job, "source_url": "s"} for job in ids])
    for job in ids:
        api.put(f"{url}/{job}/claim", json={"Worker": "w"})
        lines = [f"spectrum {number} of scan {job}" for number in range(900)]
        api.put(f"{url}/{job}/output", json={"Output": "\n".join(["no convergence at all", *lines])})
        api.put(f"{url}/{job}/status", json={"Status": "FAILED"})
    groups = api.get(f"/v4/{project}/failures").json()["Lines"]
    assert (groups[0]["Line"], groups[0]["Jobs"]) == ("no convergence at all", ids)
    assert [len(group["CommonLines"]) for group in groups[1:]] == [50] * 6
    assert groups[1]["CommonLines"][-1]["Line"].startswith("spectrum 8")


def test_failures_show_their_jobs(api, failing):
    jobs = api.get(failing).json()["Jobs"]
    assert sorted(jobs) == ["1", "2", "3"]
    failed = jobs["2"].pop("Failed")
    assert jobs["2"] == {"Id": "2", "ProcessingTime": 1.5, "Worker": "w2"}
    assert failed.startswith(day()[:4])


def test_failures_of_a_period(api, failing):
    assert len(api.get(f"{failing}?start={day()}&end={day(1)}").json()["Jobs"]) == 3
    answer = api.get(f"{failing}?start={day(1)}").json()
    assert (answer["Lines"], answer["Jobs"], answer["Start"]) == ([], {}, f"{day(1)}T00:00:00")
    assert api.get(f"{failing}?start=whenever").status_code == 400


def test_failed_job_without_output_is_shown(api, project):
    api.post(f"/v4/{project}/jobs", json={"id": "1", "source_url": "s"})
    api.put(f"/v4/{project}/jobs/1/status", json={"Status": "FAILED"})
    answer = api.get(f"/v4/{project}/failures").json()
    assert (answer["Lines"], list(answer["Jobs"])) == ([], ["1"])


def test_workers(api, project, url):
    answer = api.get(f"{url}/workers").json()
    assert [answer[key] for key in ("Version", "Project", "Start", "End")] == ["v4", project, None, None]
    shown = [(w["Name"], w["State"], w["NrJobsClaimed"]) for w in answer["Workers"]]
    assert shown == [("w1", "Active", 3), ("w2", "Active", 2)]
    jobs = api.get(answer["Workers"][1]["URLS"]["URL-Jobs"]).json()["Jobs"]
    assert sorted(job["Id"] for job in jobs) == ["3", "4"]
    assert api.get(answer["Workers"][0]["URLS"]["URL-Jobs"]).status_code == 200


def test_worker_not_heard_of_for_an_hour_is_inactive(api, url):
    last = max(w["LastActive"] for w in api.get(f"{url}/workers").json()["Workers"])
    later = datetime.fromisoformat(last) + timedelta(hours=1)
    states = [w["State"] for w in api.get(f"{url}/workers", params={"now": later.isoformat()}).json()["Workers"]]
    assert states == ["Inactive", "Inactive"]
    assert api.get(f"{url}/workers?now=whenever").status_code == 400


def test_workers_of_a_period(api, url):
    assert len(api.get(f"{url}/workers?start={day()}&end={day(1)}").json()["Workers"]) == 2
    assert api.get(f"{url}/workers?start={day(1)}").json()["Workers"] == []
