"""What the embedded services refuse: changes without credentials, guesses, SQL in any value, bodies without end."""

from __future__ import annotations

import base64
import re
import socket
import sys

import pytest
import requests
from contract.job_service import IMAGES, JobService
from contract.odin_service import OdinService, odin  # noqa: F401 - a fixture
from qsmr.jobapi import JobApi, JobApiError

sys.path.insert(0, str(IMAGES / "jobservice"))
from jobservice import create_app  # noqa: E402
from jobservice.guesses import Guesses  # noqa: E402

BODY = {"id": "new", "source_url": "http://s", "Worker": "w", "Status": "FINISHED", "Output": "o", "deadline": None}
SQL = ["x' OR '1'='1", "x'; DROP TABLE jobs; --", '" OR ""="', "%", "\\'; DELETE FROM users; --"]


def routes(app, **values):
    """Method and path of each route, its variables filled in; the variants that HTTP brings along left out."""
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:[^:>]*:)?(\w+)>", lambda match: str(values[match[1]]), rule.rule)
        yield from ((method, path) for method in rule.methods - {"HEAD", "OPTIONS"})


@pytest.fixture
def job(api, project):
    """A job of the project, claimed."""
    api.post(f"/v4/{project}/jobs", json={"id": "1", "source_url": "http://s"})
    api.put(f"/v4/{project}/jobs/1/claim", json={"Worker": "w1"})
    return "1"


def test_no_route_of_the_job_service_changes_anything_without_credentials(
    monkeypatch, tmp_path, shared_job_service, api, project, job
):
    """All routes that there are, so that a new one cannot be forgotten."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/routes.sqlite")
    variables = {"version": "v4", "project": project, "job_id": job, "user_id": 1, "name": "index.html"}
    changing = [(method, path) for method, path in routes(create_app(), **variables) if method != "GET"]
    assert len(changing) >= 9

    def everything():
        paths = (f"/v4/{project}", f"/v4/{project}/jobs", f"/v4/{project}/jobs/1/output", "/admin/users/1")
        return [api.get(path).text for path in paths]

    before = everything()
    for method, path in changing:
        for credentials in (None, ("", ""), ("a.forged.token", "")):
            answer = requests.request(
                method, shared_job_service.url + path, json=BODY, auth=credentials or (lambda r: r), timeout=60
            )
            assert answer.status_code == 401, (method, path)
    assert everything() == before


def test_no_route_of_the_odin_stand_in_changes_anything_without_a_token_or_the_secret(odin: OdinService):  # noqa: F811
    import odin as package

    app = package.create_app(package.Settings(secret=odin.secret, database_url="sqlite://"))
    variables = {"version": "v4", "project": "demo", "freqmode": 1, "scanid": 7, "filename": "x"}
    names = {name for rule in app.url_map.iter_rules() for name in rule.arguments}
    changing = [route for route in routes(app, **dict.fromkeys(names, "x") | variables) if route[0] != "GET"]
    assert len(changing) >= 3
    for method, path in changing:
        for query in ("", "?d=", "?d=" + base64.urlsafe_b64encode(b"x" * 64).decode()):
            answer = requests.request(method, f"{odin.url}{path}{query}", json={"L2": []}, timeout=30)
            assert answer.status_code in (400, 401), (method, path)
    assert requests.get(f"{odin.root}/v4/level2/projects/", timeout=30).json()["Info"]["Count"] == 0


@pytest.mark.parametrize("text", SQL)
def test_values_with_sql_are_values(shared_job_service, api, project, job, text):
    assert api.post(f"/v4/{project}/jobs", json={"id": text, "type": text, "source_url": text}).status_code == 201
    path = f"/v4/{project}/jobs/{requests.utils.quote(text, safe='')}"
    assert api.put(f"{path}/claim", json={"Worker": text}).status_code == 200
    assert api.put(f"{path}/output", json={"Output": text}).status_code == 200
    assert api.get(f"{path}/output").json()["Output"] == text
    for name in ("worker", "type"):
        found = api.get(f"/v4/{project}/jobs", params={name: text}).json()["Jobs"]
        assert [entry["Id"] for entry in found] == [text]
    for query in ({"status": text}, {"limit": text}, {"start": text}, {"status": "claimed", "end": text}):
        assert api.get(f"/v4/{project}/jobs", params=query).status_code == 400
    assert api.get(f"/v4/{project}/jobs/count", params={"period": text}).status_code == 400
    assert api.put(f"/v4/{requests.utils.quote(text, safe='')}").status_code == 404
    assert shared_job_service.anonymous().get("/token", auth=(text, text)).status_code == 401
    assert api.get(f"/v4/{project}/jobs/1/claim").json()["ClaimedByWorker"] == "w1"


def say(url: str, head: str, body: bytes = b"") -> str:
    """The first line of the answer to a request of which no more than this is ever sent."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"{head}\r\nHost: {host}\r\nContent-Type: application/json\r\n\r\n".encode())
        try:
            for start in range(0, len(body), 1 << 16):
                connection.sendall(body[start : start + (1 << 16)])
        except OSError:
            pass  # it does not want more
        return connection.makefile("rb").readline().decode()


def test_body_that_is_too_long_is_refused_before_it_is_read(shared_job_service, api, project):
    login = base64.b64encode(f"{api.auth[0]}:".encode()).decode()
    head = f"POST /rest_api/v4/{project}/jobs HTTP/1.1\r\nAuthorization: Basic {login}\r\n"
    assert " 413 " in say(shared_job_service.url, f"{head}Content-Length: {10**12}")
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    assert " 413 " in say(shared_job_service.url, f"{head}Transfer-Encoding: chunked", chunk * 34)
    assert api.get(f"/v4/{project}").status_code == 404
    assert shared_job_service.anonymous().get("/v4/projects").status_code == 200


def test_document_that_is_too_long_is_refused_before_it_is_read(odin: OdinService):  # noqa: F811
    path = odin.target("demo", 1, 7, "v5").removeprefix(odin.url)
    assert " 413 " in say(odin.url, f"POST {path} HTTP/1.1\r\nContent-Length: {10**12}")


@pytest.fixture
def lone(tmp_path):
    """A job service with one process, which then counts all guesses."""
    service = JobService(tmp_path, GUNICORN_WORKERS="1")
    yield service
    service.kill()


def test_guesses_of_passwords_are_limited(lone):
    token = lone.login()
    known, other = lone.username, "somebody"
    for user in (known, other):
        # Workers that still have an old password do not guess.
        for word in ["old"] * 12 + [f"wrong{number}" for number in range(9)]:
            assert requests.get(f"{lone.root}/token", auth=(user, word), timeout=30).status_code == 401
        answer = requests.get(f"{lone.root}/token", auth=(user, "wrong"), timeout=30)
        assert (answer.status_code, 0 < int(answer.headers["Retry-After"]) <= 60) == (429, True)
        assert answer.json() == {"error": "Too many wrong passwords, try again later"}
    # Nobody learns that a guess was right; who is known is not hindered, and neither are others.
    assert requests.get(f"{lone.root}/token", auth=(known, lone.password), timeout=30).status_code == 429
    assert token.put("/v4/demo").status_code == 201
    assert requests.get(f"{lone.root}/token", auth=("third", "wrong"), timeout=30).status_code == 401
    with JobApi(lone.root, known, lone.password) as api, pytest.raises(JobApiError, match="429 .*wait and try") as told:
        api.put_project("demo", deadline=None)
    assert told.value.temporary
    assert told.value.retry_after > 0


def test_guesses_count_within_a_minute_and_are_forgiven():
    now = 0.0
    guesses = Guesses(lambda: now)
    for number in range(10):
        assert guesses.wait("ana", "10.0.0.1") == 0
        guesses.note("ana", "10.0.0.1", f"wrong{number}", right=False)
    now = 20.0
    assert guesses.wait("ana", "10.0.0.1") == 40
    assert guesses.wait("ana", "10.0.0.2") == 0
    now = 60.0
    assert guesses.wait("ana", "10.0.0.1") == 0
    for number in range(9):
        guesses.note("ana", "10.0.0.1", "word", right=number == 8)
        guesses.note("ana", "10.0.0.1", f"wrong{number}", right=False)
    assert guesses.wait("ana", "10.0.0.1") == 0
    for number in range(20_000):
        guesses.note(str(number), "10.0.0.1", "wrong", right=False)
    assert len(guesses._wrong) == 10_000
