"""Job service contract v4, section 4: projects, counters, states, ETA, priority."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest


def add(api, project, number, **fields):
    jobs = [{"id": f"1:{n}", "source_url": "http://s"} | fields for n in range(number)]
    assert api.post(f"/v4/{project}/jobs", json=jobs).status_code == 201


def claim(api, project, *numbers):
    for number in numbers:
        assert api.put(f"/v4/{project}/jobs/1:{number}/claim", json={"Worker": "w"}).status_code == 200


def unclaim(api, project, number):
    assert api.delete(f"/v4/{project}/jobs/1:{number}/claim").status_code == 200


def report(api, project, number, status, seconds=None):
    body = {"Status": status} if seconds is None else {"Status": status, "ProcessingTime": seconds}
    assert api.put(f"/v4/{project}/jobs/1:{number}/status", json=body).status_code == 200


def counters(api, project):
    answer = api.get(f"/v4/{project}").json()
    return [answer[f"NrJobs{name}"] for name in ("Added", "Claimed", "Finished", "Failed")]


def listed(api, project, query=""):
    """The project's entry in the list of projects."""
    return next((p for p in api.get(f"/v4/projects{query}").json()["Projects"] if p["Id"] == project), None)


def in_an_hour(**more):
    return (datetime.now(UTC) + timedelta(hours=1, **more)).replace(tzinfo=None).isoformat()


def test_new_project(api, project):
    answer = api.put(f"/v4/{project}")
    assert (answer.status_code, answer.json()) == (201, {"Version": "v4", "ID": project})
    links = api.root + f"/v4/{project}"
    answer = api.get(f"/v4/{project}").json()
    created = datetime.fromisoformat(answer.pop("CreatedAt"))
    assert (created.tzinfo, created.microsecond) == (None, 0)
    assert abs(datetime.now(UTC).replace(tzinfo=None) - created) < timedelta(seconds=30)
    assert answer == {
        "Version": "v4",
        "Project": project,
        "Id": project,
        "Name": project,
        "CreatedBy": "operator",
        "Deadline": None,
        "Environment": {},
        "LastJobAddedAt": None,
        "LastJobClaimedAt": None,
        "NrJobsAdded": 0,
        "NrJobsClaimed": 0,
        "NrJobsFinished": 0,
        "NrJobsFailed": 0,
        "TotalProcessingTime": 0.0,
        "PrioScore": None,
        "JobStates": {},
        "ETA": "0:00:00",
        "URLS": {
            "URL-Status": links,
            "URL-Processing-image": None,
            "URL-DailyCount": f"{links}/jobs/count?period=daily",
            "URL-Jobs": f"{links}/jobs",
            "URL-Workers": f"{links}/workers",
        },
    }


def test_settings(api, project):
    body = {
        "name": "Ozone, Ålesund ☃",
        "processing_image_url": "registry/image:1",
        "environment": {"A": "b", "c": [1, None]},
        "deadline": "2030-01-02T03:04:05",
    }
    assert api.put(f"/v4/{project}", json=body).status_code == 201
    answer = api.get(f"/v4/{project}").json()
    assert (answer["Name"], answer["Environment"]) == (body["name"], body["environment"])
    assert (answer["Deadline"], answer["URLS"]["URL-Processing-image"]) == (body["deadline"], "registry/image:1")

    update = api.put(f"/v4/{project}", json={"deadline": None, "environment": None})
    assert (update.status_code, update.content) == (204, b"")
    answer = api.get(f"/v4/{project}").json()
    assert (answer["Deadline"], answer["Environment"], answer["Name"]) == (None, {}, body["name"])


@pytest.mark.parametrize("body", [None, {}])
def test_put_without_fields_makes_sure_it_exists(api, project, body):
    assert api.put(f"/v4/{project}", json={"name": "kept"}).status_code == 201
    assert api.put(f"/v4/{project}", json=body).status_code == 204
    assert api.get(f"/v4/{project}").json()["Name"] == "kept"


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("2016-01-01", "2016-01-01T00:00:00"),
        ("2016-01-01 10:00", "2016-01-01T10:00:00"),
        ("20160101T100000Z", "2016-01-01T10:00:00"),
        ("2016-01-01T10:00:00.999999", "2016-01-01T10:00:00"),
        ("2016-01-01T10:00:00+02:00", "2016-01-01T10:00:00"),
        ("2038-01-19T03:14:06", "2038-01-19T03:14:06"),
    ],
)
def test_times_lose_offset_and_fraction(api, project, given, stored):
    api.put(f"/v4/{project}", json={"deadline": given})
    assert api.get(f"/v4/{project}").json()["Deadline"] == stored


@pytest.mark.parametrize(
    "body",
    [
        {"nr_added": 1},
        {"id": "x"},
        {"Name": "case"},
        {"deadline": "soon"},
        {"deadline": ""},
        {"deadline": 5},
        {"deadline": "2038-01-19T03:14:07"},
        {"name": "n" * 129},
        {"name": ["n"]},
        {"processing_image_url": "u" * 513},
        {"name": "\0"},
        {"name": "\ud800"},
    ],
)
def test_bad_settings_get_400_and_change_nothing(api, project, body):
    assert api.put(f"/v4/{project}", json=body).status_code == 400
    assert api.get(f"/v4/{project}").status_code == 404
    api.put(f"/v4/{project}", json={"name": "kept"})
    answer = api.put(f"/v4/{project}", json={"processing_image_url": "new"} | body)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert api.get(f"/v4/{project}").json()["URLS"]["URL-Processing-image"] is None


def test_unknown_fields_are_named(api, project):
    error = api.put(f"/v4/{project}", json={"b": 1, "a": 1, "name": "n"}).json()["error"]
    assert error == "These fields does not exist or are for internal use: ['a', 'b']"


def test_longest_settings(api, project):
    body = {"name": "n" * 128, "processing_image_url": "u" * 512}
    assert api.put(f"/v4/{project}", json=body).status_code == 201


def test_unknown_project(api, project):
    answer = api.get(f"/v4/{project}")
    assert (answer.status_code, list(answer.json())) == (404, ["error"])


def test_delete_removes_project_and_jobs(api, project):
    add(api, project, 3)
    claim(api, project, 0)
    for _ in range(2):
        answer = api.delete(f"/v4/{project}")
        assert (answer.status_code, answer.json()) == (200, {"Version": "v4", "Project": project})
    assert api.get(f"/v4/{project}").status_code == 404
    add(api, project, 1)
    assert counters(api, project) == [1, 0, 0, 0]
    assert [job["Id"] for job in api.get(f"/v4/{project}/jobs").json()["Jobs"]] == ["1:0"]
    assert api.get(f"/v4/{project}/workers").json()["Workers"] == []


def test_counters_states_and_times_of_a_run(api, project):
    add(api, project, 6)
    claim(api, project, 0, 1, 2, 3)
    report(api, project, 1, "STARTED")
    report(api, project, 2, "FINISHED", 4.5)
    report(api, project, 3, "FAILED", 1)
    report(api, project, 4, "my own state")
    answer = api.get(f"/v4/{project}").json()
    assert counters(api, project) == [6, 4, 1, 1]
    assert answer["TotalProcessingTime"] == 5.5
    assert answer["JobStates"] == {
        "Available": 1, "Claimed": 1, "Started": 1, "Finished": 1, "Failed": 1, "My Own State": 1,
    }  # fmt: skip
    assert answer["LastJobAddedAt"] <= answer["LastJobClaimedAt"]


def test_report_sent_twice_counts_once(api, project):
    add(api, project, 1)
    claim(api, project, 0)
    for seconds in (3, 3, 5):
        report(api, project, 0, "FINISHED", seconds)
    assert counters(api, project) == [1, 1, 1, 0]
    assert api.get(f"/v4/{project}").json()["TotalProcessingTime"] == 5
    report(api, project, 0, "FAILED", 2)
    assert counters(api, project) == [1, 1, 0, 1]
    assert api.get(f"/v4/{project}").json()["TotalProcessingTime"] == 2


def test_report_for_an_unknown_job_does_not_count(api, project):
    add(api, project, 1)
    assert api.put(f"/v4/{project}/jobs/nope/status", json={"Status": "FINISHED"}).status_code == 404
    assert counters(api, project) == [1, 0, 0, 0]


def test_unclaim_takes_back_what_the_claim_counted_and_no_more(api, project):
    add(api, project, 1)
    claim(api, project, 0)
    unclaim(api, project, 0)
    unclaim(api, project, 0)
    assert counters(api, project) == [1, 0, 0, 0]
    claim(api, project, 0)
    report(api, project, 0, "FAILED", 1)
    unclaim(api, project, 0)
    assert counters(api, project) == [1, 0, 0, 0]
    claim(api, project, 0)
    report(api, project, 0, "FINISHED", 2)
    assert counters(api, project) == [1, 1, 1, 0]
    unclaim(api, project, 0)
    assert counters(api, project) == [1, 0, 0, 0]
    assert api.get(f"/v4/{project}").json()["TotalProcessingTime"] == 3, "both runs took their time"


def test_a_job_that_runs_again_is_not_finished(api, project):
    add(api, project, 1)
    report(api, project, 0, "FINISHED", 1)
    assert counters(api, project) == [1, 0, 1, 0]
    claim(api, project, 0)
    assert counters(api, project) == [1, 1, 0, 0]


def test_eta(api, project):
    add(api, project, 7)
    now = datetime.now(UTC)
    next_hour = (now + timedelta(hours=1)).replace(tzinfo=None).isoformat()

    def eta(now):
        return api.get(f"/v4/{project}", params={"now": now}).json()["ETA"]

    assert eta(next_hour) is None
    claim(api, project, 0, 1)
    claimed = api.get(f"/v4/{project}/jobs/1:1/claim").json()["ClaimedAtTime"]
    next_hour = (datetime.fromisoformat(claimed) + timedelta(hours=1)).isoformat()
    assert eta(next_hour) == "2:30:00"
    assert eta((datetime.fromisoformat(claimed) + timedelta(hours=2)).isoformat()) is None
    add_more = [{"id": f"2:{n}", "source_url": "s"} for n in range(53)]
    api.post(f"/v4/{project}/jobs", json=add_more)
    assert eta(next_hour) == "1 day, 5:00:00"
    assert api.get(f"/v4/{project}?now=whenever").status_code == 400


def test_list_of_projects(api, project):
    api.put(f"/v4/{project}", json={"processing_image_url": "image"})
    full = api.get(f"/v4/{project}").json()
    entry = listed(api, project)
    assert entry.pop("URLS") == {"URL-Status": f"{api.root}/v4/{project}", "URL-Processing-image": "image"}
    assert entry.pop("PrioScore") == 0
    assert entry == {
        key: value for key, value in full.items()
        if key not in ("Project", "Version", "JobStates", "ETA", "URLS", "PrioScore")
    }  # fmt: skip
    assert api.get("/v4/projects").json()["Version"] == "v4"


def test_projects_never_claimed_come_first_then_by_last_claim(api, project):
    names = [f"{project}{letter}" for letter in "abc"]
    for name in names:
        add(api, name, 2)
    claim(api, names[0], 0)
    claim(api, names[1], 0)
    times = [p["LastJobClaimedAt"] for p in api.get("/v4/projects").json()["Projects"]]
    assert times == sorted(times, key=lambda time: time or "")
    order = [p["Id"] for p in api.get("/v4/projects").json()["Projects"] if p["Id"] in names]
    assert order[0] == names[2]


@pytest.mark.parametrize("value", ["1", "0", "false"])
def test_only_active_projects(api, project, value):
    add(api, project, 1)
    assert listed(api, project, f"?only_active={value}")
    claim(api, project, 0)
    assert listed(api, project, f"?only_active={value}") is None
    assert listed(api, project, "?only_active=")


def test_prio_score(api, project):
    add(api, project, 5)
    assert listed(api, project)["PrioScore"] == 1, "no deadline"
    api.put(f"/v4/{project}", json={"deadline": in_an_hour(seconds=1)})
    assert listed(api, project)["PrioScore"] == pytest.approx(5, rel=0.01), "an hour of work for each, within an hour"
    claim(api, project, 0, 1)
    report(api, project, 0, "FINISHED", 600)
    report(api, project, 1, "FAILED", 1200)
    assert listed(api, project)["PrioScore"] == pytest.approx(3 * 900 / 3600, rel=0.01)
    api.put(f"/v4/{project}", json={"deadline": "2016-01-01"})
    assert listed(api, project)["PrioScore"] == 3 * 900, "overdue"
    claim(api, project, 2, 3, 4)
    assert listed(api, project)["PrioScore"] == 0, "nothing to hand out"
