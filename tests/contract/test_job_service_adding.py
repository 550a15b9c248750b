"""Job service contract v4, section 5: adding jobs."""

from __future__ import annotations

import pytest

LIMITS = {"id": 64, "type": 64, "source_url": 512, "target_url": 512, "view_result_url": 512}
JOB = {"id": "1:1", "type": "qsmr", "source_url": "http://s", "target_url": "http://t", "view_result_url": "http://v"}


def number_of_jobs(api, project):
    """What the counter says, which must be what the list says; None if the project is not there."""
    answer = api.get(f"/v4/{project}")
    stored = len(api.get(f"/v4/{project}/jobs").json()["Jobs"])
    if answer.status_code == 404:
        assert stored == 0
        return None
    assert answer.json()["NrJobsAdded"] == stored
    return stored


def post(api, project, body, query=""):
    answer = api.post(f"/v4/{project}/jobs{query}", json=body)
    return answer.status_code, answer.json()["error"] if answer.content else ""


def test_new_job(api, project):
    assert post(api, project, JOB) == (201, "")
    [job] = api.get(f"/v4/{project}/jobs").json()["Jobs"]
    urls = job.pop("URLS")
    assert urls == {
        "URL-Input": "http://s",
        "URL-Output": f"{api.root}/v4/{project}/jobs/1:1/output",
        "URL-Result": "http://v",
    }
    assert job.pop("Added") == api.get(f"/v4/{project}").json()["LastJobAddedAt"]
    assert job == {
        "Id": "1:1", "Type": "qsmr", "Status": "AVAILABLE", "IsClaimed": False, "Worker": None,
        "Claimed": None, "Finished": None, "Failed": None, "ProcessingTime": None,
    }  # fmt: skip


def test_first_job_makes_the_project(api, project):
    assert post(api, project, JOB) == (201, "")
    answer = api.get(f"/v4/{project}").json()
    assert (answer["Name"], answer["CreatedBy"], answer["NrJobsAdded"]) == (project, "operator", 1)


@pytest.mark.parametrize("body", [JOB, {"id": "1:1", "source_url": "http://s"}])
@pytest.mark.parametrize("as_list", [False, True])
def test_identical_job_changes_nothing(api, project, body, as_list):
    post(api, project, JOB)
    before = api.get(f"/v4/{project}/jobs").json()
    assert post(api, project, [body] if as_list else body) == (201, "")
    assert number_of_jobs(api, project) == 1
    assert api.get(f"/v4/{project}/jobs").json() == before


def test_job_that_is_done_is_not_queued_again(api, project):
    post(api, project, JOB)
    api.put(f"/v4/{project}/jobs/1:1/claim", json={"Worker": "w"})
    api.put(f"/v4/{project}/jobs/1:1/status", json={"Status": "FAILED"})
    assert post(api, project, JOB) == (201, "")
    assert api.get(f"/v4/{project}/jobs/1:1/status").json()["Status"] == "FAILED"
    assert api.get(f"/v4/{project}/jobs/fetch").status_code == 404


@pytest.mark.parametrize("change", [{"source_url": "http://S"}, {"target_url": "http://t "}, {"type": None}])
def test_differing_job_gets_409(api, project, change):
    post(api, project, JOB)
    assert post(api, project, JOB | change) == (409, "A job with id 1:1 already exists.")
    assert post(api, project, [JOB | change]) == (409, "Job#0: A job with id 1:1 already exists.")
    assert post(api, project, JOB) == (201, "")


def test_ids_are_compared_exactly(api, project):
    for job_id in ("caseA", "CASEa", "caseA ", " caseA"):
        assert post(api, project, {"id": job_id, "source_url": job_id}) == (201, "")
    assert number_of_jobs(api, project) == 4


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"id": "1"}, "Missing required fields: source_url"),
        ({"source_url": "s"}, "Missing required fields: id"),
        ({}, "Missing required fields: id, source_url"),
        ({"id": "1", "source_url": "s", "b": 1, "a": 1}, "These fields do not exist or are for internal use: a, b"),
        ({"id": "1", "source_url": "s", "nr": 1}, "These fields do not exist or are for internal use: nr"),
        ({"id": 1, "source_url": "s"}, "Expected string in field 'id'"),
        ({"id": None, "source_url": "s"}, "Expected string in field 'id'"),
        ({"id": "1", "source_url": ["s"]}, "Expected string in field 'source_url'"),
        ({"id": "1", "source_url": {"s": 1}}, "Expected string in field 'source_url'"),
        ({"id": "1", "source_url": "s", "type": True}, "Expected string in field 'type'"),
        ({"id": "1", "source_url": "a\0b"}, "Field 'source_url' has characters that cannot be stored"),
        ({"id": "\ud83d", "source_url": "s"}, "Field 'id' has characters that cannot be stored"),
    ]
    + [
        (JOB | {field: "x" * (limit + 1)}, f"Field '{field}' is longer than {limit} characters")
        for field, limit in LIMITS.items()
    ],
)  # fmt: skip
def test_invalid_job_gets_400(api, project, body, reason):
    assert post(api, project, body) == (400, reason)
    assert post(api, project, [JOB, body]) == (400, f"Job#1: {reason}")
    assert number_of_jobs(api, project) is None


@pytest.mark.parametrize("body", ["text", 1, None, True])
def test_no_job_gets_400(api, project, body):
    answer = api.post(f"/v4/{project}/jobs", json=body)
    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid input"})


@pytest.mark.parametrize("item", ["text", 1, None, ["nested"]])
def test_list_holding_a_non_object_gets_400(api, project, item):
    status, reason = post(api, project, [JOB, item])
    assert (status, reason.startswith("Job#1: ")) == (400, True)
    assert number_of_jobs(api, project) is None


@pytest.mark.parametrize("as_list", [False, True])
def test_longest_fields(api, project, as_list):
    job = {field: "ä☃😀"[i % 3] * limit for i, (field, limit) in enumerate(LIMITS.items())}
    assert post(api, project, [job] if as_list else job) == (201, "")
    assert post(api, project, job) == (201, "")
    [stored] = api.get(f"/v4/{project}/jobs").json()["Jobs"]
    assert (stored["Id"], stored["URLS"]["URL-Result"]) == (job["id"], job["view_result_url"])


@pytest.mark.parametrize("fields", [{"id": ""}, {"source_url": ""}, {"source_url": None}, {"source_url": 17}])
def test_odd_values_are_taken_and_equal_themselves(api, project, fields):
    job = {"id": "1", "source_url": "s"} | fields
    assert [post(api, project, job), post(api, project, [job])] == [(201, "")] * 2
    assert number_of_jobs(api, project) == 1


def test_list_of_new_and_known_jobs(api, project):
    jobs = [{"id": str(n), "source_url": f"s{n}"} for n in range(10)]
    assert post(api, project, jobs[:5]) == (201, "")
    assert post(api, project, jobs + jobs[::-1]) == (201, "")
    assert number_of_jobs(api, project) == 10
    assert {job["Id"] for job in api.get(f"/v4/{project}/jobs").json()["Jobs"]} == {str(n) for n in range(10)}


def test_empty_list(api, project):
    assert post(api, project, []) == (201, "")
    assert number_of_jobs(api, project) is None


def test_conflicts_in_a_list_are_all_named_and_nothing_is_stored(api, project):
    post(api, project, [{"id": "a", "source_url": "s"}, {"id": "b", "source_url": "s"}])
    jobs = [{"id": job_id, "source_url": "other"} for job_id in ("new", "a", "b")]
    status, reason = post(api, project, jobs)
    lines = ["Job#1: A job with id a already exists.", "Job#2: A job with id b already exists."]
    assert (status, reason.split("\n")) == (409, lines)
    assert number_of_jobs(api, project) == 2


def test_conflict_inside_a_list(api, project):
    jobs = [{"id": "a", "source_url": "1"}, {"id": "a", "source_url": "2"}]
    assert post(api, project, jobs) == (409, "Job#1: A job with id a already exists.")
    assert number_of_jobs(api, project) is None


def test_invalid_jobs_in_a_list_are_all_named_and_conflicts_not_looked_at(api, project):
    post(api, project, JOB)
    status, reason = post(api, project, [JOB | {"type": "other"}, {"id": "x"}, JOB, {"source_url": "x"}])
    lines = ["Job#1: Missing required fields: source_url", "Job#3: Missing required fields: id"]
    assert (status, reason.split("\n")) == (400, lines)


def test_now_sets_the_added_time_and_is_compared(api, project):
    assert post(api, project, JOB, "?now=2016-01-01T10:00:00") == (201, "")
    [job] = api.get(f"/v4/{project}/jobs").json()["Jobs"]
    assert job["Added"] == "2016-01-01T10:00:00"
    assert api.get(f"/v4/{project}").json()["LastJobAddedAt"] == "2016-01-01T10:00:00"
    assert post(api, project, JOB, "?now=2016-01-01T10:00:00")[0] == 201
    assert post(api, project, JOB, "?now=2016-01-01T10:00:01")[0] == 409
    assert post(api, project, JOB) == (201, "")
    assert post(api, project, JOB, "?now=whenever")[0] == 400


def test_long_list_in_one_request(api, project):
    jobs = [{"id": f"1:{n}", "source_url": f"http://s/{n}"} for n in range(12_000)]
    assert post(api, project, jobs) == (201, "")
    assert post(api, project, [*jobs, {"id": "last", "source_url": "s"}]) == (201, "")
    assert number_of_jobs(api, project) == 12_001
