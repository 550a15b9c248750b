"""Job service contract v4, sections 1 and 3: versions, names, methods, errors, bodies, health, log."""

from __future__ import annotations

import re

import pytest
import requests

ROUTES = {
    "/v4/projects": "GET",
    "/v4/projects/jobs/fetch": "GET",
    "/v4/x": "GET PUT DELETE",
    "/v4/x/jobs": "GET POST",
    "/v4/x/jobs/fetch": "GET",
    "/v4/x/jobs/count": "GET",
    "/v4/x/failures": "GET",
    "/v4/x/workers": "GET",
    "/v4/x/jobs/1/claim": "GET PUT DELETE",
    "/v4/x/jobs/1/status": "GET PUT",
    "/v4/x/jobs/1/output": "GET PUT",
    "/token": "GET",
    "/admin/users": "POST",
    "/admin/users/1": "GET DELETE",
}


@pytest.mark.parametrize("path", ROUTES)
def test_options_names_the_methods(api, path):
    answer = api.options(path)
    assert answer.status_code == 200
    assert set(ROUTES[path].split()) <= set(answer.headers["Allow"].split(", "))


@pytest.mark.parametrize("path", ROUTES)
def test_other_methods_get_405(api, path):
    for method in {"GET", "PUT", "POST", "DELETE", "PATCH"} - set(ROUTES[path].split()):
        answer = api.request(method, path)
        assert (answer.status_code, list(answer.json())) == (405, ["error"]), method


@pytest.mark.parametrize("path", ["", "/jobs", "/jobs/count", "/jobs/1/claim", "/failures", "/workers", "/jobs/fetch"])
def test_head_works_where_get_does(api, project, path):
    api.post(f"/v4/{project}/jobs", json={"id": "1", "source_url": "http://s"})
    head = api.head(f"/v4/{project}{path}")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("version", ["v1", "v2", "v3", "v4"])
def test_versions_behave_the_same_and_links_say_v4(api, project, version):
    assert api.put(f"/{version}/{project}").status_code == 201
    answer = api.get(f"/{version}/{project}")
    assert answer.status_code == 200
    assert answer.json()["URLS"]["URL-Status"] == f"{api.root}/v4/{project}"


@pytest.mark.parametrize("path", ["/v0/projects", "/v5/projects", "/4/projects", "/v4/projects/", "/nowhere", "/v4"])
def test_unknown_routes_get_404_as_json(api, path):
    answer = api.get(path, allow_redirects=False)
    assert (answer.status_code, list(answer.json())) == (404, ["error"])


def test_there_is_no_route_for_one_job(api, project):
    api.post(f"/v4/{project}/jobs", json={"id": "1", "source_url": "http://s"})
    assert api.get(f"/v4/{project}/jobs/1").status_code == 404


def test_links_follow_the_host_header(api, project):
    api.put(f"/v4/{project}")
    answer = api.get(f"/v4/{project}", headers={"Host": "lab.example.org:8080"})
    assert answer.json()["URLS"]["URL-Jobs"] == f"http://lab.example.org:8080/rest_api/v4/{project}/jobs"


@pytest.mark.parametrize("name", ["1abc", "a-b", "a_b", "a.b", "-"])
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("PUT", ""), ("GET", "/jobs"), ("POST", "/jobs")])
def test_bad_project_name_gets_404(api, method, path, name):
    assert api.request(method, f"/v4/{name}{path}").status_code == 404


def test_project_name_length(api):
    longest = "x" * 59
    assert api.put(f"/v4/{longest}").status_code == 201
    assert api.get(f"/v4/{longest}").status_code == 200
    answer = api.put(f"/v4/{longest}x")
    assert (answer.status_code, "59" in answer.json()["error"]) == (400, True)
    api.delete(f"/v4/{longest}")


@pytest.mark.parametrize(
    ("method", "name"), [("PUT", "projects"), ("PUT", "auth"), ("GET", "auth"), ("DELETE", "auth")]
)
def test_reserved_names_get_405(api, method, name):
    assert api.request(method, f"/v4/{name}").status_code == 405


def test_names_that_differ_in_case_are_two_projects(api, project):
    api.put(f"/v4/{project}", json={"name": "small"})
    assert api.get(f"/v4/{project.upper()}").status_code == 404
    api.put(f"/v4/{project.upper()}", json={"name": "big"})
    assert [api.get(f"/v4/{name}").json()["Name"] for name in (project, project.upper())] == ["small", "big"]


def test_non_ascii_letters_pass(api):
    assert api.put("/v4/Atmosphäre").status_code in (201, 204)
    assert api.get("/v4/Atmosphäre").json()["Id"] == "Atmosphäre"


def test_body_without_json_type_is_ignored(api, project):
    assert api.put(f"/v4/{project}", data='{"name": "n"}').status_code == 201
    assert api.get(f"/v4/{project}").json()["Name"] == project
    answer = api.post(f"/v4/{project}/jobs", data='{"id": "1", "source_url": "http://s"}')
    assert (answer.status_code, answer.json()) == (400, {"error": "Invalid input"})


@pytest.mark.parametrize("body", ["{", '{"a": 1} x', b"\xff", "[" * 100_000])
def test_broken_json_gets_400(api, project, body):
    answer = api.put(f"/v4/{project}", data=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert api.get(f"/v4/{project}").status_code == 404


@pytest.mark.parametrize("path", ["/v4/{}", "/v4/{}/jobs/1/claim", "/v4/{}/jobs/1/status", "/v4/{}/jobs/1/output"])
def test_body_that_is_no_object_gets_400(api, project, path):
    assert api.put(path.format(project), json=[1]).status_code == 400


@pytest.mark.parametrize(
    ("path", "key"), [("/jobs", "Jobs"), ("/jobs/count", "Counts"), ("/failures", "Lines"), ("/workers", "Workers")]
)
def test_reading_an_unknown_project_is_empty_and_makes_nothing(api, project, path, key):
    answer = api.get(f"/v4/{project}{path}")
    assert (answer.status_code, answer.json()[key], answer.json()["Project"]) == (200, [], project)
    assert api.get(f"/v4/{project}").status_code == 404
    assert project not in api.get("/v4/projects").text


def test_health(shared_job_service):
    answer = requests.get(f"{shared_job_service.url}/health", timeout=10)
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_one_log_line_for_each_request(shared_job_service, api, project):
    before = len(shared_job_service.log)
    api.put(f"/v4/{project}")
    shared_job_service.anonymous().get(f"/v4/{project}?now=2016-01-01")
    put, get = shared_job_service.log[before:].splitlines()
    assert re.search(rf" PUT /rest_api/v4/{project} 201 \d+ms user=operator$", put)
    assert re.search(rf" GET /rest_api/v4/{project} 200 \d+ms user=-$", get)


def test_log_has_no_secrets_and_no_forged_lines(shared_job_service, api, project):
    token = api.auth[0]
    api.post("/admin/users", json={"username": "logged", "password": "hidden password"})
    api.get("/token", auth=("logged", "hidden password"))
    api.get("/token", auth=("logged", "wrong password"))
    job = {"id": "1", "source_url": "http://s?d=SECRETSOURCE", "target_url": "http://t?d=SECRETTARGET"}
    for jobs in (job, job | {"target_url": "http://t?d=SECRETCHANGED"}, [job, {"id": "SECRETBAD"}]):
        api.post(f"/v4/{project}/jobs", json=jobs)
    api.get(f"/v4/{project}/jobs?token={token}")
    api.get(f"/v4/{project}/jobs/x%0A2016 forged line/claim")
    for secret in (token, "hidden password", "wrong password", shared_job_service.password, "SECRET", "Basic "):
        assert secret not in shared_job_service.log
    assert "\n2016 forged" not in shared_job_service.log
