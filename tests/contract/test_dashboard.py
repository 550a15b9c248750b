"""The job service's page in a real browser: what it tells, what it never shows, and that any service will do."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from browser import browser_page, fits, problems
from contract.job_service import DIES_WITH_THE_TESTS, JobService, free_port, wait_until_healthy
from contract.other_job_service import OtherJobService, job
from qsmr import dashboardserver

REPOSITORY = Path(__file__).parents[2]
MANY = 60
TOKEN = "9ZJ9cGgljTN7knxAAhW8077G4Lr2NuVa"  # noqa: S105 (what must not be seen)
OUTPUT = (
    "2026-11-24T10:00:00.1 - EXECUTOR: Starting execution\n"
    f"2026-11-24T10:00:00.2 - STDERR: <img src=x onerror=alert(1)> POST http://odin/v4/level2?d={TOKEN}== failed\n"
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobService]:
    """A project with sixty failed jobs, many in the same second, three finished, one at work, one free."""
    found = JobService(tmp_path_factory.mktemp("service"))
    api = found.login()
    jobs = [
        {"id": f"1:{n:03}", "source_url": "http://odin/", "target_url": f"http://odin/v4/level2?d={TOKEN}=="}
        for n in range(MANY + 5)
    ]
    api.post("/v4/demo/jobs", json=jobs)
    api.put("/v4/demo", json={"environment": {"PASSWORD": "environment secret"}})
    for n in range(MANY + 4):
        job = f"/v4/demo/jobs/1:{n:03}"
        api.put(f"{job}/claim", json={"Worker": f"UWorker_lab{n % 2}_<b>"})
        if n < MANY:
            api.put(f"{job}/output", json={"Output": OUTPUT})
        if n != MANY + 3:
            status = "FAILED" if n < MANY else "FINISHED"
            api.put(f"{job}/status", json={"Status": status, "ProcessingTime": 2.5})
    yield found
    found.kill()


@contextmanager
def served(root: str, log: Path) -> Iterator[str]:
    """The page as bin/dashboard.py serves it for a job service."""
    port = free_port()
    command = [sys.executable, REPOSITORY / "bin/dashboard.py", "--port", str(port), root]
    with log.open("w") as stream:
        process = subprocess.Popen([*DIES_WITH_THE_TESTS, *command], stdout=stream, stderr=stream)
    url = f"http://127.0.0.1:{port}"
    wait_until_healthy(f"{url}/", process, log)
    yield url
    process.terminate()
    process.wait(timeout=30)


@pytest.fixture(scope="module")
def elsewhere(service: JobService) -> Iterator[str]:
    with served(service.root, service.log_file.with_name("dashboard.log")) as url:
        yield url


def text_of(page: Any) -> str:
    return str(page.inner_text("body"))


@pytest.mark.parametrize("where", ["embedded", "elsewhere"])
def test_page_shows_projects_progress_workers_failures_and_output(service, request, where):
    url = service.url if where == "embedded" else request.getfixturevalue("elsewhere")
    with browser_page() as page:
        asked: list[str] = []
        page.on("request", lambda sent: asked.append(sent.url))
        page.goto(url)
        page.click("text=demo")
        page.wait_for_selector("dd:text-is('65')")
        page.wait_for_selector("text=UWorker_lab0_<b>")
        page.wait_for_selector("h3:text-is('60 jobs')")
        page.wait_for_selector("caption:text-is('Jobs 1 to 50')")
        facts = dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True))
        assert (
            facts["Finished"] == "3" and facts["Failed"] == "60" and facts["Running"] == "1" and facts["Waiting"] == "1"
        )
        assert facts["Ended"] == "96 %"
        assert page.locator("svg.chart rect").count() >= 2
        assert problems(page) == []
        seen = text_of(page)

        page.locator("h2:text-is('Failures') ~ div a").first.click()
        page.wait_for_selector("pre")
        assert page.inner_text("h1").startswith("Job 1:")
        assert "<img src=x onerror=alert(1)> POST http://odin/v4/level2?… failed" in page.inner_text("pre")
        assert problems(page) == []
        page.click("nav >> text=Projects")
        page.wait_for_selector("h1:text-is('Projects')")
        assert problems(page) == []
        for secret in (TOKEN, "environment secret", service.password, service.username):
            assert secret not in seen + text_of(page)
        assert {request.split("/")[2] for request in asked} == {url.removeprefix("http://")}, "asks its own origin only"


@pytest.fixture
def theirs() -> Iterator[OtherJobService]:
    service = OtherJobService(failed=320)
    yield service
    service.stop()


def test_page_shows_a_service_that_is_not_ours(theirs, tmp_path):
    with served(theirs.root, tmp_path / "log") as url, browser_page() as page:
        page.goto(url)
        page.click("text=their")
        page.wait_for_selector("h3:text-is('321 jobs')")
        page.wait_for_selector("caption:text-is('Jobs 1 to 50')")
        facts = dict(zip(page.locator("dt").all_inner_texts(), page.locator("dd").all_inner_texts(), strict=True))
        assert [facts[name] for name in ("Jobs", "Failed", "Finished", "Running", "Waiting")] == [
            "324",
            "321",
            "1",
            "1",
            "1",
        ]
        assert page.inner_text("pre") == "POST http://odin/v4/level2?… failed: disk 7 is full"
        assert [path for path in theirs.asked if "/failures" in path] == [
            "/rest_api/v4/their/failures?start=2026-11-24T09%3A00%3A00"
        ], "of many failures the newest are analysed"
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.wait_for_timeout(500)
        assert sum("/failures" in path for path in theirs.asked) == 1, "once, while no other number of jobs has failed"
        for _page in range(6):
            page.click("button:text-is('Later')")
            page.wait_for_timeout(100)
        page.wait_for_selector("caption:text-is('Jobs 301 to 321')")
        page.wait_for_selector("text=failed, given back")
        page.select_option("select", "")
        page.wait_for_selector("span:text-is('waiting for disk')")
        page.click("text=1:9004")
        page.wait_for_selector("pre:has-text('scan 1:9004')")
        assert problems(page) == []


def test_nothing_is_asked_below_a_project_that_does_not_exist(theirs, tmp_path):
    """It would make a table there (REST contract v4, section 1)."""
    with served(theirs.root, tmp_path / "log") as url, browser_page(bears="404") as page:
        page.goto(f"{url}/#/typo")
        page.wait_for_selector("text=There is no project typo.")
        page.wait_for_timeout(500)
    assert theirs.tables == {"their"}


@pytest.mark.parametrize(
    "path", ["jobs", "jobs?limit=1", "jobs/count", "failures", "jobs/1:7/claim", "jobs/1:7/status", "jobs/1:7/output"]
)
def test_nobody_can_ask_below_a_project_that_does_not_exist(theirs, tmp_path, path):
    """By a link to a job, or by another program: the service would make a table, even for a name of its own."""
    with served(theirs.root, tmp_path / "log") as url:
        for name in ("typo", "projects", "auth", "7up", "a-b", "%C3%A9t%C3%A9"):
            answer = requests.get(f"{url}/rest_api/v4/{name}/{path}", timeout=30)
            assert (answer.status_code, list(answer.json())) == (404, ["error"])
    assert theirs.tables == {"their"}


def test_known_project_is_not_asked_for_each_time_nor_believed_in_for_ever(theirs, monkeypatch):
    server = dashboardserver.make_server(theirs.root, REPOSITORY / "images/jobservice/jobservice/dashboard", 0)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}/rest_api/v4/their"
    for _page in range(10):
        assert requests.get(f"{url}/jobs?limit=1", timeout=30).json()["Jobs"]
    assert theirs.asked.count("/rest_api/v4/their") == 1
    theirs.jobs.clear()  # the project is deleted, and the page says so
    assert requests.get(url, timeout=30).status_code == 404
    assert requests.get(f"{url}/jobs?limit=1", timeout=30).status_code == 404
    theirs.jobs.append(job(1, "FAILED", "old worker"))
    assert requests.get(f"{url}/jobs?limit=1", timeout=30).json()["Jobs"]
    theirs.jobs.clear()
    theirs.tables.clear()
    monkeypatch.setattr(dashboardserver, "KNOWN_SECONDS", 0.0)
    assert requests.get(f"{url}/jobs?limit=1", timeout=30).status_code == 404
    server.shutdown()
    server.server_close()
    assert theirs.tables == set()


def said(url: str, request: str) -> str:
    """What the page's server answers to these very words, until it ends the connection."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        return b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:9000", "LocalHost", "127.0.0.1"])
@pytest.mark.parametrize("path", ["/", "/rest_api/v4/projects"])
def test_page_is_served_by_the_names_of_this_machine(elsewhere, host, path):
    """Any port: a tunnel may have another one."""
    assert said(elsewhere, f"GET {path} HTTP/1.1\nConnection: close\nHost: {host}").startswith("HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "hosts",
    [
        "Host: evil.example",
        "Host: evil.example:8080",
        "Host: 127.0.0.1.evil.example",
        "Host: localhost.evil.example:80",
        "Host: evil.example#@127.0.0.1",
        "Host: ana@127.0.0.1",
        "Host:",
        "Host: 127.0.0.1\nHost: evil.example",
        "X-No-Host: 127.0.0.1",
    ],
)
@pytest.mark.parametrize("path", ["/", "/dashboard/dashboard.js", "/rest_api/v4/projects", "/nothing"])
def test_page_of_somebody_else_cannot_read_by_a_name_that_leads_here(elsewhere, hosts, path):
    """A name of another site may be made to lead to this machine (DNS rebinding): its scripts may read what it says."""
    answer = said(elsewhere, f"GET {path} HTTP/1.1\nConnection: close\n{hosts}")
    assert answer.startswith("HTTP/1.1 403 ")
    assert "127.0.0.1" in answer.partition("\r\n\r\n")[2], "the address that works is told"
    assert "demo" not in answer


@pytest.mark.parametrize("target", ["http://evil.example/rest_api/v4/projects", "http://127.0.0.1/", "*", "rest_api"])
def test_target_that_is_no_path_is_refused(elsewhere, target):
    answer = said(elsewhere, f"GET {target} HTTP/1.1\nConnection: close\nHost: 127.0.0.1")
    assert answer.startswith(("HTTP/1.1 400 ", "HTTP/1.1 404 "))


def test_answer_that_breaks_off_is_no_whole_one(tmp_path):
    """Nothing can be said any more once it has begun: the connection ends, which is no end of an answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer_in_part() -> None:
            for part in (b"Content-Length: 2\r\n\r\n{}", b"Content-Length: 200000\r\n\r\n" + bytes(100000)):
                connection, _address = listener.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + part)

        threading.Thread(target=answer_in_part, daemon=True).start()
        with served(f"http://127.0.0.1:{listener.getsockname()[1]}/rest_api", tmp_path / "log") as url:
            answer = said(url, "GET /rest_api/v4/demo/jobs HTTP/1.1\nHost: localhost")
    assert answer.count("HTTP/1.1") == 1
    assert "\r\n10000\r\n" in answer, "a part of it came"
    assert not answer.endswith("0\r\n\r\n")


def test_reader_who_goes_away_is_nothing_to_speak_of(theirs, tmp_path):
    with served(theirs.root, tmp_path / "log") as url:
        host, port = url.removeprefix("http://").split(":")
        for _reader in range(3):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(b"GET /rest_api/v4/their/jobs HTTP/1.1\r\nHost: localhost\r\n\r\n")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert requests.get(f"{url}/rest_api/v4/projects", timeout=30).ok
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_all_jobs_can_be_paged_through_though_a_second_has_more_than_a_page(service):
    with browser_page() as page:
        page.goto(f"{service.url}/#/demo")
        listed: list[str] = []
        for first, last in ((1, 50), (51, 60)):
            page.wait_for_selector(f"caption:text-is('Jobs {first} to {last}')")
            listed += page.locator("h2:text-is('Jobs') ~ div tbody th").all_inner_texts()
            if last < MANY:
                page.click("button:text-is('Later')")
        assert sorted(listed) == [f"1:{n:03}" for n in range(MANY)]
        assert page.is_disabled("button:text-is('Later')")
        page.click("button:text-is('Earlier')")
        page.wait_for_selector("caption:text-is('Jobs 1 to 50')")
        page.select_option("select", "")
        page.wait_for_selector("caption:text-is('Jobs 1 to 50')")
        page.click("button:text-is('Later')")
        page.wait_for_selector("caption:text-is('Jobs 51 to 65')")
        page.fill("input[name=worker]", "UWorker_lab1_<b>")
        page.click("button:text-is('Show')")
        page.wait_for_selector("caption:text-is('Jobs 1 to 32')")
        assert set(page.locator("h2:text-is('Jobs') ~ div tbody td:nth-child(3)").all_inner_texts()) == {
            "UWorker_lab1_<b>"
        }
        page.fill("input[name=id]", "1:007")
        page.click("button:text-is('Show')")
        page.wait_for_selector("h1:text-is('Job 1:007')")


# The answers with lists of jobs take their time, and the first one says that no job has failed. In the browser itself,
# for its driver does one thing after the other.
SLOW_LISTS = """
const asked = window.fetch;
window.fetch = async (url, ...more) => {
  if (/jobs\\?/.test(url)) await new Promise(done => setTimeout(done, 700));
  return /status=failed&limit=1$/.test(url) ? new Response('{"Jobs": []}') : asked(url, ...more);
};
"""


def test_no_click_is_lost_while_an_answer_is_on_its_way(service):
    with browser_page() as page:
        page.add_init_script(SLOW_LISTS)
        page.goto(f"{service.url}/#/demo")
        page.select_option("select", "finished")  # before the page has chosen for itself
        page.wait_for_selector("caption:text-is('Jobs 1 to 3')")
        page.wait_for_timeout(1500)
        assert page.input_value("select") == "finished"
        page.select_option("select", "failed")
        page.click("button:text-is('Later')", timeout=500)
        page.wait_for_selector("caption:text-is('Jobs 51 to 60')")
        page.select_option("select", "")
        page.click("button:text-is('Later')")
        page.click("button:text-is('Earlier')")
        page.click("button:text-is('Later')")
        page.wait_for_selector("caption:text-is('Jobs 51 to 65')")
        page.wait_for_timeout(1500)
        assert page.inner_text("caption >> nth=-1") == "Jobs 51 to 65"
        page.click("button:text-is('Earlier')")
        page.select_option("select", "failed")  # what was chosen last counts, from its first page
        page.wait_for_selector("caption:text-is('Jobs 1 to 50')")
        page.wait_for_timeout(1500)
        assert page.inner_text("caption >> nth=-1") == "Jobs 1 to 50"
        assert page.is_hidden("#trouble")


def test_page_says_when_the_service_is_away_and_comes_back(service):
    with browser_page(bears="503") as page:
        page.goto(service.url)
        page.wait_for_selector("text=demo")
        page.route("**/rest_api/**", lambda route: route.fulfill(status=503, json={"error": "The database is away"}))
        page.wait_for_selector("text=The job service says: The database is away", timeout=15000)
        page.unroute("**/rest_api/**")
        page.wait_for_selector("#trouble", state="hidden", timeout=15000)


def test_page_bears_what_clients_of_other_services_put(service):
    """Any status text, or none, and jobs without times (REST contract v4, sections 6 and 7)."""
    jobs = [{"Id": f"1:{n}", "Status": status, "IsClaimed": True} for n, status in enumerate([None, "Finished", "<i>"])]
    with browser_page() as page:
        page.route("**/rest_api/v4/demo/jobs?*", lambda route: route.fulfill(json={"Jobs": jobs}))
        page.goto(f"{service.url}/#/demo")
        page.wait_for_selector("caption:text-is('Jobs 1 to 3')")
        states = page.locator("h2:text-is('Jobs') ~ div tbody td:nth-child(2)").all_inner_texts()
        assert states == ["unknown", "finished", "<i>"]
        page.wait_for_selector("text=nobody")


def test_page_fits_a_phone(service):
    with browser_page(375, "dark") as page:
        for place in ("", "#/demo", "#/demo/job/1:007"):
            page.goto(f"{service.url}/{place}")
            page.reload()
            page.wait_for_selector("h1")
            page.wait_for_timeout(500)
            assert fits(page), place
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 25, 31)"


def test_page_may_load_nothing_from_elsewhere(service, elsewhere):
    for url in (service.url, elsewhere):
        for path in ("/", "/dashboard/dashboard.js", "/dashboard/dashboard.css"):
            answer = requests.get(url + path, timeout=30)
            assert answer.status_code == 200
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "path", ["/dashboard/../__init__.py", "/dashboard/%2e%2e/auth.py", "/auth.py", "/dashboard/nothing"]
)
def test_nothing_but_the_pages_files_is_served(service, elsewhere, path):
    for url in (service.url, elsewhere):
        prepared = requests.Request("GET", url).prepare()
        prepared.url = url + path
        assert requests.Session().send(prepared, timeout=30).status_code == 404


@pytest.mark.parametrize(
    "path", ["/rest_api/token", "/rest_api/v4/demo/jobs/fetch", "/rest_api/admin/users/1", "/health"]
)
def test_only_what_the_page_reads_is_passed_on(elsewhere, path):
    assert requests.get(elsewhere + path, timeout=30).status_code == 404
    assert requests.delete(f"{elsewhere}/rest_api/v4/demo", timeout=30).status_code == 501


def test_answers_are_passed_on_as_they_are(service, elsewhere):
    for path in ("/v4/demo/jobs?status=failed&limit=3", "/v4/nothing", "/v4/demo/jobs?status=odd"):
        theirs, ours = (requests.get(f"{url}/rest_api{path}", timeout=30) for url in (service.url, elsewhere))
        assert (theirs.status_code, theirs.json()) == (ours.status_code, ours.json())


def test_wrong_service_is_told_in_a_line(tmp_path):
    command = [sys.executable, REPOSITORY / "bin/dashboard.py"]
    run = subprocess.run([*command, tmp_path / "no.conf"], capture_output=True, text=True, timeout=60)
    assert run.returncode == 1
    assert len(run.stderr.splitlines()) == 1 and "no.conf" in run.stderr


@pytest.fixture
def few() -> Iterator[OtherJobService]:
    service = OtherJobService(failed=0)
    yield service
    service.stop()


@pytest.mark.parametrize(
    ("jobs", "alarm", "hours"),
    [
        (
            [job(n, "FAILED", "w", claimed="2026-11-24T09:00:00", failed="2026-11-24T09:30:00") for n in range(3)],
            "All 3 jobs that ended have failed.",
            "at most 3 jobs an hour.",
        ),
        (
            [job(1, "FAILED", "w", claimed="2026-11-24T09:00:00", failed="2026-11-24T09:30:00")],
            "The only job that ended has failed.",
            "at most 1 job an hour.",
        ),
        (
            [job(1, "STARTED", "w", claimed="2026-11-24T09:00:00"), job(2, "AVAILABLE", None)],
            "Nothing has moved since 2026-11-24 09:00:00 UTC: no job that a worker holds has ended.",
            "(UTC): jobs were claimed, and none has ended.",
        ),
        (
            [job(n, "FINISHED", "w", claimed="2026-11-24T09:00:00", finished="2026-11-24T09:30:00") for n in range(3)],
            "",
            "at most 3 jobs an hour.",
        ),
    ],
    ids=["all failed", "one failed", "hanging", "finished"],
)
def test_page_tells_what_is_not_well(few, tmp_path, jobs, alarm, hours):
    few.jobs = jobs
    with served(few.root, tmp_path / "log") as url, browser_page() as page:
        page.goto(f"{url}/#/their")
        page.wait_for_selector(f"text={hours}")
        if alarm:
            page.wait_for_selector(f"p.note:text-is('{alarm}')")
        else:
            assert page.locator("p.note").count() == 0
        text = text_of(page)
        assert "done" not in text
        assert ("none\n" in text) == (jobs[0]["Status"] != "STARTED"), "nothing is left to do"
