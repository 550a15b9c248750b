"""Job service contract v4, section 2: passwords, tokens, users."""

from __future__ import annotations

import hashlib
import re
import time

import pytest
import requests
from itsdangerous import TimestampSigner, URLSafeTimedSerializer

CHALLENGE = 'Basic realm="Authentication Required"'
PROTECTED = [
    ("GET", "/token"),
    ("PUT", "/v4/x"),
    ("DELETE", "/v4/x"),
    ("POST", "/v4/x/jobs"),
    ("GET", "/v4/x/jobs/fetch"),
    ("GET", "/v4/projects/jobs/fetch"),
    ("PUT", "/v4/x/jobs/1/claim"),
    ("DELETE", "/v4/x/jobs/1/claim"),
    ("PUT", "/v4/x/jobs/1/status"),
    ("PUT", "/v4/x/jobs/1/output"),
    ("POST", "/admin/users"),
    ("GET", "/admin/users/1"),
    ("DELETE", "/admin/users/1"),
]


def forge_token(key, age, **payload):
    """A token as the service would have signed it that many seconds ago."""

    class OldSigner(TimestampSigner):
        def get_timestamp(self):
            return int(time.time()) - age

    return URLSafeTimedSerializer(
        key, salt="token", signer=OldSigner, signer_kwargs={"digest_method": hashlib.sha512}
    ).dumps(payload)  # fmt: skip


@pytest.fixture(scope="module")
def admin_id(api):
    """Number of the administrator, whose tokens the tests forge."""
    for number in range(1, 10):
        if api.get(f"/admin/users/{number}").json().get("username") == "operator":
            return number
    raise AssertionError("the administrator has no number")


@pytest.fixture
def user(api, request):
    """Name, password and number of an ordinary user."""
    name, password = f"user{time.time_ns()}", "pass:wörd"
    number = api.post("/admin/users", json={"username": name, "password": password}).json()["userid"]
    return name, password, number


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_protected_routes_want_a_login(shared_job_service, method, path):
    answer = shared_job_service.anonymous().request(method, path, json={})
    assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized access"})
    assert answer.headers["WWW-Authenticate"] == CHALLENGE


@pytest.mark.parametrize(
    "path", ["/v4/projects", "/v4/{}", "/v4/{}/jobs", "/v4/{}/jobs/count", "/v4/{}/failures", "/v4/{}/workers"]
    + [f"/v4/{{}}/jobs/1/{noun}" for noun in ("claim", "status", "output")],
)  # fmt: skip
def test_other_reading_is_open(shared_job_service, api, project, path):
    api.post(f"/v4/{project}/jobs", json={"id": "1", "source_url": "http://s"})
    assert shared_job_service.anonymous().get(path.format(project)).status_code == 200


def test_password_buys_a_token_and_a_token_the_next(shared_job_service):
    root = shared_job_service.root
    first = requests.get(f"{root}/token", auth=(shared_job_service.username, shared_job_service.password), timeout=30)
    assert (first.status_code, first.json()["duration"]) == (200, 600)
    assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", first.json()["token"])
    second = requests.get(f"{root}/token", auth=(first.json()["token"], "anything"), timeout=30)
    for token in (first.json()["token"], second.json()["token"]):
        assert requests.get(f"{root}/token", auth=(token, ""), timeout=30).status_code == 200


@pytest.mark.parametrize(
    "credentials", [("operator", "wrong"), ("nobody", ""), ("", ""), ("a.b.c", ""), ("operator", "")]
)
def test_wrong_credentials(shared_job_service, credentials):
    answer = requests.get(f"{shared_job_service.root}/token", auth=credentials, timeout=30)
    assert (answer.status_code, answer.json()) == (401, {"error": "Unauthorized access"})
    assert answer.headers["WWW-Authenticate"] == CHALLENGE


@pytest.mark.parametrize("header", ["Bearer abc", "Basic", "Basic !!!", "Basic b3BlcmF0b3I=", "nonsense"])
def test_malformed_authorization(shared_job_service, header):
    answer = shared_job_service.anonymous().get("/token", headers={"Authorization": header})
    assert answer.status_code == 401


def test_token_ends_after_600_seconds(shared_job_service, admin_id):
    def status(**changes):
        token = forge_token(**{"key": shared_job_service.secret_key, "age": 0, "id": admin_id} | changes)
        return requests.get(f"{shared_job_service.root}/token", auth=(token, ""), timeout=30).status_code

    assert status(age=590) == 200
    assert status(age=602) == 401
    assert status(key="another key") == 401
    assert status(id=99999) == 401


def test_token_and_known_password_are_much_cheaper_than_a_guess(shared_job_service, user, api):
    """A fleet's workers log in all at once; whoever guesses has to wait."""

    def fastest(*auth):
        session = shared_job_service.anonymous()
        session.auth = auth
        return min(session.get("/token").elapsed.total_seconds() for _ in range(10))

    name, password, number = user
    guess = fastest(name, "wrong")
    assert fastest(*api.auth) * 3 < guess
    assert fastest(name, password.encode()) * 3 < guess
    api.delete(f"/admin/users/{number}")
    api.post("/admin/users", json={"username": name, "password": "another"})
    assert (
        requests.get(f"{shared_job_service.root}/token", auth=(name, password.encode()), timeout=30).status_code == 401
    )


def test_user_lives_and_dies(shared_job_service, api):
    answer = api.post("/admin/users", json={"username": "mortal", "password": "p:w"})
    number = answer.json()["userid"]
    assert (answer.status_code, answer.json()) == (201, {"username": "mortal", "userid": number})
    assert answer.headers["Location"] == f"{api.root}/admin/users/{number}"
    assert api.get(answer.headers["Location"]).json() == {"username": "mortal"}

    mortal = shared_job_service.anonymous()
    mortal.auth = ("mortal", "p:w")
    mortal.auth = (mortal.get("/token").json()["token"], "")
    assert mortal.put("/v4/mortals").status_code == 201
    assert api.get("/v4/mortals").json()["CreatedBy"] == "mortal"
    assert mortal.delete("/v4/mortals").status_code == 200

    answer = api.delete(f"/admin/users/{number}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert mortal.get("/token").status_code == 401
    assert api.get(f"/admin/users/{number}").status_code == 404
    assert api.delete(f"/admin/users/{number}").status_code == 404
    again = api.post("/admin/users", json={"username": "mortal", "password": "p"}).json()["userid"]
    assert again != number, "an old token would be the new user's"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"username": "only"},
        {"password": "only"},
        {"username": "", "password": "p"},
        {"username": "u", "password": ""},
        {"username": "u" * 33, "password": "p"},
        {"username": ["u"], "password": "p"},
        {"username": "operator", "password": "p"},
    ],
)
def test_bad_new_user_gets_400(api, body):
    answer = api.post("/admin/users", json=body)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])


def test_longest_user_name(api):
    assert api.post("/admin/users", json={"username": "u" * 32, "password": "p"}).status_code == 201


def test_only_the_administrator_administers(shared_job_service, user):
    name, password, number = user
    session = shared_job_service.anonymous()
    session.auth = (name, password.encode())
    assert session.get("/token").status_code == 200
    assert session.post("/admin/users", json={"username": "x", "password": "y"}).status_code == 403
    assert session.get(f"/admin/users/{number}").status_code == 403
    assert session.delete(f"/admin/users/{number}").status_code == 403
