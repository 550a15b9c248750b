"""Job service contract v4, section 6: fetch, claim, status, output."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest


@pytest.fixture
def job(api, project):
    """URL of the one job of a project."""
    body = {"id": "1:7014791071", "source_url": "http://s", "target_url": "http://t?d=x", "view_result_url": "http://v"}
    assert api.post(f"/v4/{project}/jobs", json=body).status_code == 201
    return f"/v4/{project}/jobs/1:7014791071"


@pytest.fixture
def empty(api):
    """No project of another test has jobs to hand out."""
    for entry in api.get("/v4/projects?only_active=1").json()["Projects"]:
        api.delete(f"/v4/{entry['Id']}")


def now():
    return datetime.now(UTC).replace(tzinfo=None)


def listed(api, job):
    return api.get(job.rpartition("/")[0]).json()["Jobs"][0]


def test_fetch(api, project, job):
    api.put(f"/v4/{project}", json={"processing_image_url": "image", "environment": {"A": "b"}})
    answer = api.get(f"/v4/{project}/jobs/fetch?type=other")
    url = api.root + job
    assert answer.status_code == 200
    assert answer.json() == {
        "Version": "v4",
        "Project": project,
        "Job": {
            "JobID": "1:7014791071",
            "Environment": {"A": "b"},
            "URLS": {
                "URL-image": "image",
                "URL-source": "http://s",
                "URL-target": "http://t?d=x",
                "URL-claim": f"{url}/claim",
                "URL-status": f"{url}/status",
                "URL-output": f"{url}/output",
            },
        },
    }


def test_fetch_reserves_nothing_and_gives_no_claimed_job(api, project, job):
    assert [api.get(f"/v4/{project}/jobs/fetch").status_code for _ in range(2)] == [200, 200]
    api.put(f"{job}/claim", json={"Worker": "w"})
    answer = api.get(f"/v4/{project}/jobs/fetch")
    assert (answer.status_code, answer.json()) == (404, {"error": "No unclaimed jobs available"})
    api.delete(f"{job}/claim")
    assert api.get(f"/v4/{project}/jobs/fetch").status_code == 200


def test_fetch_from_an_unknown_project(api, project):
    answer = api.get(f"/v4/{project}/jobs/fetch")
    assert (answer.status_code, answer.json()) == (404, {"error": "No unclaimed jobs available"})
    assert api.get(f"/v4/{project}").status_code == 404


def test_fetch_is_random_so_that_workers_seldom_get_the_same(api, project):
    api.post(f"/v4/{project}/jobs", json=[{"id": str(n), "source_url": "s"} for n in range(600)])
    fetched = {api.get(f"/v4/{project}/jobs/fetch").json()["Job"]["JobID"] for _ in range(40)}
    assert len(fetched) > 20


@pytest.mark.parametrize("job_id", ["a b", "50%", "what?", "a#b", "ä", "a+b", "a&b=c"])
def test_links_of_unusual_ids_lead_to_their_job(api, project, job_id):
    api.post(f"/v4/{project}/jobs", json={"id": job_id, "source_url": "s"})
    urls = api.get(f"/v4/{project}/jobs/fetch").json()["Job"]["URLS"]
    assert api.put(urls["URL-claim"], json={"Worker": "w"}).json()["ID"] == job_id
    assert api.put(urls["URL-output"], json={"Output": job_id}).status_code == 200
    [listed] = api.get(f"/v4/{project}/jobs").json()["Jobs"]
    assert api.get(listed["URLS"]["URL-Output"]).json()["Output"] == job_id


def test_prio_fetch_without_work(api, empty, project):
    api.put(f"/v4/{project}")
    answer = api.get("/v4/projects/jobs/fetch")
    assert (answer.status_code, answer.json()) == (404, {"error": "No unclaimed jobs available"})


def test_prio_fetch_prefers_what_is_urgent(api, empty, project):
    urgent, calm = f"{project}urgent", f"{project}calm"
    for name in (urgent, calm):
        api.post(f"/v4/{name}/jobs", json=[{"id": str(n), "source_url": "s"} for n in range(9)])
    soon = (now() + timedelta(minutes=1)).isoformat()
    api.put(f"/v4/{urgent}", json={"deadline": soon})  # 9 jobs of an hour in a minute: 540 against 1
    fetched = [api.get("/v4/projects/jobs/fetch").json()["Project"] for _ in range(20)]
    assert set(fetched) <= {urgent, calm}
    assert fetched.count(urgent) >= 17
    api.delete(f"/v4/{urgent}")
    assert api.get("/v4/projects/jobs/fetch").json()["Project"] == calm


def test_claim(api, project, job):
    before = api.get(f"{job}/claim").json()
    assert before == {
        "Version": "v4", "Project": project, "ID": "1:7014791071",
        "Claimed": False, "ClaimedByWorker": None, "ClaimedAtTime": None,
    }  # fmt: skip
    answer = api.put(f"{job}/claim", json={"Worker": "w1"})
    claimed = answer.json()
    time = datetime.fromisoformat(claimed.pop("Time"))
    assert abs(now() - time) < timedelta(seconds=30)
    assert (answer.status_code, claimed) == (
        200, {"Version": "v4", "Project": project, "ID": "1:7014791071", "Call": "PUT", "ClaimedBy": "w1"},
    )  # fmt: skip
    time = time.replace(microsecond=0).isoformat()
    assert api.get(f"{job}/claim").json() == before | {"Claimed": True, "ClaimedByWorker": "w1", "ClaimedAtTime": time}
    row = listed(api, job)
    assert [row[key] for key in ("Status", "IsClaimed", "Worker", "Claimed")] == ["CLAIMED", True, "w1", time]
    assert api.get(f"/v4/{project}").json()["LastJobClaimedAt"] == time


def test_claim_time_has_microseconds(api, job):
    assert len(api.put(f"{job}/claim", json={"Worker": "w"}).json()["Time"]) == len("2016-01-01T10:00:00.000000")


def test_second_claim_gets_409_and_changes_nothing(api, job):
    api.put(f"{job}/claim", json={"Worker": "first"})
    before = listed(api, job)
    answer = api.put(f"{job}/claim", json={"Worker": "second"})
    assert (answer.status_code, answer.json()) == (409, {"error": "The job is already claimed"})
    assert listed(api, job) == before


@pytest.mark.parametrize("body", [{}, {"worker": "w"}, {"Worker": None}, {"Worker": "w" * 65}, {"Worker": ["w"]}])
def test_bad_claim_gets_400_and_leaves_the_job_free(api, job, body):
    assert api.put(f"{job}/claim", json=body).status_code == 400
    assert api.get(f"{job}/claim").json()["Claimed"] is False
    assert api.put(f"{job}/claim", json={"Worker": "w" * 64}).status_code == 200


@pytest.mark.parametrize(
    ("method", "noun", "body"),
    [
        ("GET", "claim", None),
        ("PUT", "claim", {"Worker": "w"}),
        ("DELETE", "claim", None),
        ("GET", "status", None),
        ("PUT", "status", {"Status": "s"}),
        ("GET", "output", None),
        ("PUT", "output", {"Output": "o"}),
    ],
)
@pytest.mark.parametrize("known_project", [True, False])
def test_unknown_job_gets_404(api, project, method, noun, body, known_project):
    if known_project:
        api.put(f"/v4/{project}")
    answer = api.request(method, f"/v4/{project}/jobs/nope/{noun}", json=body)
    assert (answer.status_code, list(answer.json())) == (404, ["error"])
    assert (api.get(f"/v4/{project}").status_code == 200) is known_project


@pytest.mark.parametrize("status", ["CLAIMED", "STARTED", "FINISHED", "FAILED"])
def test_unclaim_frees_the_job_and_leaves_the_rest(api, project, job, status):
    api.put(f"{job}/claim", json={"Worker": "w"})
    api.put(f"{job}/output", json={"Output": "kept"})
    api.put(f"{job}/status", json={"Status": status, "ProcessingTime": 2.5})
    before = listed(api, job)
    answer = api.delete(f"{job}/claim")
    assert (answer.status_code, answer.json()) == (
        200, {"Version": "v4", "Project": project, "ID": "1:7014791071", "Call": "DELETE"},
    )  # fmt: skip
    assert listed(api, job) == before | {"IsClaimed": False, "Worker": None, "Claimed": None}
    assert api.get(f"{job}/output").json()["Output"] == "kept"
    assert api.get(f"/v4/{project}").json()["JobStates"] == {status.title(): 1}
    assert api.get(f"/v4/{project}/jobs/fetch").status_code == 200
    api.put(f"{job}/status", json={"Status": "AVAILABLE"})
    assert api.get(f"/v4/{project}").json()["JobStates"] == {"Available": 1}


def test_unclaim_of_a_free_job_has_no_effect(api, job):
    before = listed(api, job)
    assert api.delete(f"{job}/claim").status_code == 200
    assert listed(api, job) == before


@pytest.mark.parametrize("status", ["AVAILABLE", "STARTED", "FINISHED", "FAILED", "finished", "any text", ""])
def test_status(api, project, job, status):
    answer = api.put(f"{job}/status", json={"Status": status})
    base = {"Version": "v4", "Project": project, "ID": "1:7014791071", "Status": status}
    assert (answer.status_code, answer.json()) == (200, base | {"Call": "PUT"})
    assert api.get(f"{job}/status").json() == base
    assert listed(api, job)["ProcessingTime"] == 0


@pytest.mark.parametrize(
    ("status", "key"), [("AVAILABLE", "Added"), ("CLAIMED", "Claimed"), ("FINISHED", "Finished"), ("FAILED", "Failed")]
)
def test_status_notes_its_time(api, project, status, key):
    old = "2016-01-01T10:00:00"
    api.post(f"/v4/{project}/jobs?now={old}", json={"id": "1", "source_url": "s"})
    job = f"/v4/{project}/jobs/1"
    api.put(f"{job}/status", json={"Status": status.lower()})
    unset = {"Added": old, "Claimed": None, "Finished": None, "Failed": None}
    assert {name: listed(api, job)[name] for name in unset} == unset
    api.put(f"{job}/status", json={"Status": status})
    times = {name: listed(api, job)[name] for name in unset}
    assert abs(now() - datetime.fromisoformat(times.pop(key))) < timedelta(seconds=30)
    assert times == {name: value for name, value in unset.items() if name != key}


@pytest.mark.parametrize(("seconds", "stored"), [(2, 2.0), (0.25, 0.25), ("1.5", 1.5), (None, 0.0)])
def test_processing_time(api, job, seconds, stored):
    api.put(f"{job}/status", json={"Status": "STARTED", "ProcessingTime": seconds})
    assert listed(api, job)["ProcessingTime"] == stored


@pytest.mark.parametrize(
    "body",
    [{}, {"status": "x"}, {"Status": None}, {"Status": "s" * 65}, {"Status": {}}, {"Status": "\0"}]
    + [{"Status": "FINISHED", "ProcessingTime": bad} for bad in ("long", [], True, -1, float("nan"), "inf", 10**400)],
)  # fmt: skip
def test_bad_status_gets_400_and_changes_nothing(api, project, job, body):
    before = listed(api, job)
    answer = api.put(f"{job}/status", data=json.dumps(body), headers={"Content-Type": "application/json"})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert listed(api, job) == before
    assert api.get(f"/v4/{project}").json()["NrJobsFinished"] == 0


def test_longest_status(api, job):
    assert api.put(f"{job}/status", json={"Status": "s" * 64}).status_code == 200


def test_output(api, project, job):
    base = {"Version": "v4", "Project": project, "ID": "1:7014791071"}
    assert api.get(f"{job}/output").json() == base | {"Output": None}
    for text in ("first\nsecond", "replaces it: ☃ 😀", ""):
        answer = api.put(f"{job}/output", json={"Output": text})
        assert (answer.status_code, answer.json()) == (200, base | {"Call": "PUT"})
        assert api.get(f"{job}/output").json() == base | {"Output": text}


def test_output_limit_is_in_bytes(api, job):
    longest = "ä" * 32767 + "x"
    assert api.put(f"{job}/output", json={"Output": longest}).status_code == 200
    for longer in (longest + "x", "x" * 65536, "x" * 1_000_000):
        answer = api.put(f"{job}/output", json={"Output": longer})
        assert (answer.status_code, "65535" in answer.json()["error"]) == (413, True)
    assert api.get(f"{job}/output").json()["Output"] == longest


@pytest.mark.parametrize("body", [{}, {"output": "x"}, {"Output": {"a": 1}}, {"Output": "\ud800"}])
def test_bad_output_gets_400(api, job, body):
    assert api.put(f"{job}/output", json=body).status_code == 400
    assert api.get(f"{job}/output").json()["Output"] is None


def test_output_with_a_nul_keeps_the_rest(api, job):
    assert api.put(f"{job}/output", json={"Output": "a\0b"}).status_code == 200
    assert api.get(f"{job}/output").json()["Output"] == "a\N{REPLACEMENT CHARACTER}b"


def test_job_id_is_unescaped_once(api, project):
    for job_id in ("100%25", "100%"):
        api.post(f"/v4/{project}/jobs", json={"id": job_id, "source_url": "s"})
        assert api.get(f"/v4/{project}/jobs/{quote(job_id)}/status").json()["ID"] == job_id
