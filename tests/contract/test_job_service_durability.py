"""What the job service keeps whatever happens: concurrency, restarts, kill -9, migrations, its settings."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests
from contract.job_service import DIES_WITH_THE_TESTS, IMAGES, Api, JobService
from sqlalchemy import create_engine, text

on_both_databases = pytest.mark.parametrize("job_service", ["sqlite", "postgresql"], indirect=True)


def at_once(number, call):
    """Results of that many simultaneous calls, each on a connection of its own."""
    start = threading.Barrier(number)

    def run(index):
        start.wait()
        return call(index)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(run, range(number)))


def sessions(api, number):
    return [Api(api.root, api.auth) for _ in range(number)]


def stored(api, project):
    return len(api.get(f"/v4/{project}/jobs").json()["Jobs"])


def test_of_twelve_racing_claims_one_wins(api, project):
    clients = sessions(api, 12)
    for job in range(5):
        api.post(f"/v4/{project}/jobs", json={"id": f"1:{job}", "source_url": "s"})
        path = f"/v4/{project}/jobs/1:{job}/claim"
        answers = at_once(12, lambda n, path=path: clients[n].put(path, json={"Worker": f"w{n}"}))
        assert sorted(answer.status_code for answer in answers) == [200] + [409] * 11
        winner = next(answer.json()["ClaimedBy"] for answer in answers if answer.ok)
        assert api.get(path).json()["ClaimedByWorker"] == winner
    assert api.get(f"/v4/{project}").json()["NrJobsClaimed"] == 5


def test_same_list_posted_six_times_at_once(api, project):
    """The first one makes the project, too."""
    clients = sessions(api, 6)
    jobs = [{"id": str(n), "source_url": f"s{n}"} for n in range(300)]
    orders = [jobs[n * 50 :] + jobs[: n * 50] for n in range(6)]
    answers = at_once(6, lambda n: clients[n].post(f"/v4/{project}/jobs", json=orders[n]))
    assert [answer.status_code for answer in answers] == [201] * 6
    assert (stored(api, project), api.get(f"/v4/{project}").json()["NrJobsAdded"]) == (300, 300)


def test_single_jobs_posted_at_once_into_a_new_project(api, project):
    clients = sessions(api, 8)
    answers = at_once(8, lambda n: clients[n].post(f"/v4/{project}/jobs", json={"id": str(n), "source_url": "s"}))
    assert [answer.status_code for answer in answers] == [201] * 8
    assert (stored(api, project), api.get(f"/v4/{project}").json()["NrJobsAdded"]) == (8, 8)


def test_counters_are_true_after_a_scramble(api, project):
    """Claims, reports and unclaims of the same few jobs by many."""
    clients = sessions(api, 8)
    api.post(f"/v4/{project}/jobs", json=[{"id": str(n), "source_url": "s"} for n in range(4)])

    def scramble(n):
        for round_ in range(12):
            job = f"/v4/{project}/jobs/{(n + round_) % 4}"
            clients[n].put(f"{job}/claim", json={"Worker": f"w{n}"})
            clients[n].put(f"{job}/status", json={"Status": ("FINISHED", "FAILED", "STARTED")[round_ % 3]})
            if round_ % 2:
                clients[n].delete(f"{job}/claim")

    at_once(8, scramble)
    jobs = api.get(f"/v4/{project}/jobs").json()["Jobs"]
    for job in jobs:  # a claim or a report tells for sure what the job counts as
        api.put(f"/v4/{project}/jobs/{job['Id']}/claim", json={"Worker": "last"})
        api.put(f"/v4/{project}/jobs/{job['Id']}/status", json={"Status": "FAILED" if job["Id"] == "0" else "FINISHED"})
    answer = api.get(f"/v4/{project}").json()
    assert [answer[f"NrJobs{name}"] for name in ("Added", "Claimed", "Finished", "Failed")] == [4, 4, 3, 1]


def test_claims_and_reports_beside_the_deletion_of_their_project(api, project):
    """Whoever comes first, nobody's request fails: they lock the same rows."""
    clients = sessions(api, 6)

    def change(n):
        answers = []
        for job in range(20):
            if n == 0:
                answers.append(clients[n].post(f"/v4/{project}/jobs", json=[{"id": str(job), "source_url": "s"}]))
                if job % 5 == 4:
                    answers.append(clients[n].delete(f"/v4/{project}"))
                continue
            path = f"/v4/{project}/jobs/{job}"
            answers.append(clients[n].put(f"{path}/claim", json={"Worker": "w"}))
            answers.append(clients[n].put(f"{path}/output", json={"Output": "o"}))
            answers.append(clients[n].put(f"{path}/status", json={"Status": "FINISHED"}))
        return [answer.status_code for answer in answers]

    assert set(sum(at_once(6, change), [])) <= {200, 201, 404, 409}


def test_workers_of_one_name_are_counted_together(api, project):
    clients = sessions(api, 8)
    api.post(f"/v4/{project}/jobs", json=[{"id": str(n), "source_url": "s"} for n in range(8)])
    answers = at_once(8, lambda n: clients[n].put(f"/v4/{project}/jobs/{n}/claim", json={"Worker": "w"}))
    assert [answer.status_code for answer in answers] == [200] * 8
    assert [worker["NrJobsClaimed"] for worker in api.get(f"/v4/{project}/workers").json()["Workers"]] == [8]


def test_connections_of_a_large_fleet_leave_room_for_more(tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    service = JobService(tmp_path, GUNICORN_WORKERS="1")
    try:
        with contextlib.ExitStack() as connections:
            for _ in range(1100):
                connections.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=10))
            assert requests.get(f"{service.url}/health", timeout=20).status_code == 200
    finally:
        service.kill()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@on_both_databases
def test_data_survive_restart_and_kill_9_and_a_bulk_add_is_all_or_nothing(job_service):
    api = job_service.login()
    api.put("/v4/kept", json={"name": "n", "environment": {"A": "b"}, "deadline": "2030-01-01"})
    api.post("/v4/kept/jobs", json=[{"id": str(n), "source_url": "s", "type": "t"} for n in range(5)])
    api.post("/admin/users", json={"username": "kept", "password": "p"})
    api.put("/v4/kept/jobs/1/claim", json={"Worker": "w"})
    api.put("/v4/kept/jobs/1/output", json={"Output": "o"})
    api.put("/v4/kept/jobs/1/status", json={"Status": "FAILED", "ProcessingTime": 2})

    def everything():
        paths = ("", "/jobs", "/jobs/1/claim", "/jobs/1/output", "/failures", "/workers", "/jobs/count")
        return [api.get(f"/v4/kept{path}").json() for path in paths]

    before = everything()
    job_service.restart()
    assert everything() == before
    for attempt, delay in enumerate((0.05, 0.25)):
        jobs = [{"id": f"{attempt}:{n}", "source_url": "s" * 300} for n in range(10_000)]
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(post_or_lose, api, jobs)
            time.sleep(delay)
            job_service.kill()
            job_service.start()
        there = stored(api, f"bulk{attempt}")
        assert there == 10_000 if answer.result() == 201 else there in (0, 10_000)
        assert api.post(f"/v4/bulk{attempt}/jobs", json=jobs).status_code == 201, "sending again is right in any case"
        assert stored(api, f"bulk{attempt}") == api.get(f"/v4/bulk{attempt}").json()["NrJobsAdded"] == 10_000
    assert everything() == before
    assert requests.get(f"{job_service.root}/token", auth=("kept", "p"), timeout=30).status_code == 200


def post_or_lose(api, jobs):
    """Status of the answer, None if the service died before it."""
    try:
        return api.post(f"/v4/bulk{jobs[0]['id'][0]}/jobs", json=jobs).status_code
    except requests.ConnectionError:
        return None


def test_two_first_starts_on_one_database(tmp_path, postgresql):
    """One makes the schema and the administrator, the other waits for it."""
    for name, url in {"s": f"sqlite:///{tmp_path}/jobs.sqlite", "p": postgresql.new_database_url()}.items():
        directories = [tmp_path / f"{name}{n}" for n in range(2)]
        for directory in directories:
            directory.mkdir()
        with ThreadPoolExecutor(2) as pool:  # a service ends with the thread that started it
            services = list(pool.map(JobService, directories, [url] * 2))
            try:
                token = services[0].login().auth
                answers = [Api(service.root, token).get("/admin/users/1") for service in services]
                assert [answer.json() for answer in answers] == [{"username": "operator"}] * 2
            finally:
                for service in services:
                    service.kill()


def test_migrations_make_what_the_code_expects(shared_job_service, monkeypatch):
    monkeypatch.syspath_prepend(str(IMAGES / "jobservice"))
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from jobservice.schema import metadata

    url = shared_job_service.database_url.replace("postgresql://", "postgresql+psycopg://")
    with create_engine(url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        hashes = connection.execute(text("SELECT password_hash FROM users")).scalars().all()
    assert all(value.startswith("scrypt:") for value in hashes)


def test_files_and_secrets(tmp_path):
    """The token key is made once; nobody else may read key and data; a changed password takes effect."""
    (tmp_path / "password").write_text("from a file\n")
    files = {"USERVICE_ADMIN_PASSWORD": "", "USERVICE_ADMIN_PASSWORD_FILE": str(tmp_path / "password")}
    service = JobService(tmp_path, SECRET_KEY="", **files)
    try:
        made = (tmp_path / "secret_key").read_text()
        assert len(made) == 64
        data = [path for path in tmp_path.iterdir() if path.name.startswith(("jobservice.sqlite", "secret_key"))]
        assert {stat.S_IMODE(path.stat().st_mode) for path in data} == {0o600}
        assert not [path for path in data if b"from a file" in path.read_bytes()]

        login = (service.username, "from a file")
        token = requests.get(f"{service.root}/token", auth=login, timeout=30).json()["token"]
        service.stop()
        service.environment = {"SECRET_KEY": "", "USERVICE_ADMIN_PASSWORD": "changed later"}
        service.start()
        logins = [login, (service.username, "changed later"), (token, "")]
        statuses = [requests.get(f"{service.root}/token", auth=auth, timeout=30).status_code for auth in logins]
        assert statuses == [401, 200, 200]
        assert (tmp_path / "secret_key").read_text() == made
    finally:
        service.kill()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"USERVICE_ADMIN_PASSWORD_FILE": "/nowhere"}, "USERVICE_ADMIN_PASSWORD_FILE: cannot read /nowhere"),
        ({"DATABASE_URL": "mysql://u:hidden@h/d"}, "DATABASE_URL: mysql is not supported"),
        ({"DATABASE_URL": "hidden"}, "DATABASE_URL is no database URL"),
        ({"DATABASE_URL": "sqlite://"}, "DATABASE_URL: a database in memory"),
        ({"PORT": "http"}, "PORT: 'http' is not a whole number"),
        ({"GUNICORN_WORKERS": "0"}, "GUNICORN_WORKERS: '0' is not a whole number"),
    ],
)
def test_wrong_settings_are_named(monkeypatch, settings, reason):
    monkeypatch.syspath_prepend(str(IMAGES / "jobservice"))
    from jobservice.settings import Settings, SettingsError

    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as error:
        Settings.from_environment()
    assert str(error.value).startswith(reason)
    assert "hidden" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"USERVICE_ADMIN_PASSWORD": ""}, "USERVICE_ADMIN_USER and USERVICE_ADMIN_PASSWORD must be set"),
        ({"DATABASE_URL": "sqlite:////nowhere/x.sqlite"}, "DATABASE_URL: the database cannot be used"),
        ({"DATABASE_URL": "postgresql://u:hidden@127.0.0.1:1/d"}, "DATABASE_URL: the database cannot be used"),
    ],
)
def test_what_stops_the_start_ends_it_in_one_line(tmp_path, settings, reason):
    environment = {
        "PYTHONPATH": str(IMAGES / "jobservice"),
        "DATABASE_URL": f"sqlite:///{tmp_path}/x.sqlite",
        "SECRET_KEY": "k",
        "USERVICE_ADMIN_USER": "a",
        "USERVICE_ADMIN_PASSWORD": "hidden",
    } | settings
    command = [sys.executable, "-m", "jobservice"]
    result = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr.startswith(f"jobservice: {reason}")
    assert (result.stderr.count("\n"), result.stdout, "hidden" in result.stderr) == (1, "", False)


def test_lost_database_gives_503_until_it_is_back(tmp_path, postgresql):
    url = postgresql.new_database_url()
    name = url.partition("@/")[2].partition("?")[0]
    service = JobService(tmp_path, url)
    try:
        api = service.login()
        postgresql.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        postgresql.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        for path in (f"{service.url}/health", "/v4/projects", "/token"):
            answer = api.get(path)
            assert (answer.status_code, list(answer.json())) == (503, ["error"])
        assert "Traceback" not in service.log
        postgresql.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        assert api.get(f"{service.url}/health").status_code == 200
        assert api.get("/token").status_code == 200
    finally:
        service.kill()


def test_administrators_password_follows_the_setting(tmp_path):
    service = JobService(tmp_path)
    try:
        service.environment["USERVICE_ADMIN_PASSWORD"] = "another one"
        service.restart()
        assert Api(service.root, (service.username, service.password)).get("/token").status_code == 401
        assert Api(service.root, (service.username, "another one")).get("/token").status_code == 200
    finally:
        service.stop()


SLOW_TO_SERVE = """
import runpy, time
from gunicorn.workers.gthread import ThreadWorker

def slow(self, serve=ThreadWorker.init_process):
    print("a worker begins", flush=True)
    time.sleep(1)
    serve(self)

ThreadWorker.init_process = slow
runpy.run_module("jobservice", run_name="__main__")
"""


def test_ends_within_dockers_ten_seconds_when_its_workers_have_just_begun(tmp_path):
    """A made-up slowness: the moment between a worker's fork and its first signal handler is else too short to meet."""
    service = JobService(tmp_path)
    service.stop()
    with subprocess.Popen(
        [*DIES_WITH_THE_TESTS, sys.executable, "-c", SLOW_TO_SERVE],
        env=os.environ | service.settings, stdout=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == b"a worker begins\n"
        process.terminate()
        try:
            assert process.wait(timeout=5) == 0
        finally:
            process.kill()
