"""The job service's client against a double: tokens, faults in one line, and no credentials for others."""

import threading

import pytest
from job_service_double import PASSWORD, USERNAME, Fault, JobServiceDouble
from qsmr.jobapi import JobApi, JobApiError

JOB = {"id": "1:7", "source_url": "http://odin/v4/l1_log/1/7/"}


@pytest.fixture
def service():
    with JobServiceDouble() as double:
        yield double


@pytest.fixture
def api(service):
    with JobApi(service.root, USERNAME, PASSWORD, read_timeout=2) as client:
        yield client


def error_of(call, *arguments):
    with pytest.raises(JobApiError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    assert PASSWORD not in str(error.value)
    return error.value


def test_one_token_serves_many_requests(service, api):
    for scan in range(5):
        assert api.add_job("demo", JOB | {"id": f"1:{scan}"}).status == 201
    assert service.tokens_given == 1


def test_a_refused_token_is_renewed_once(service, api):
    api.add_job("demo", JOB)
    service.tokens.clear()
    assert api.add_job("demo", JOB).status == 201
    assert service.tokens_given == 2


def test_of_many_threads_one_renews_the_token(service, api):
    api.add_job("demo", JOB)
    service.tokens.clear()
    threads = [threading.Thread(target=api.add_job, args=("demo", JOB)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert service.tokens_given == 2


def test_a_token_that_is_refused_twice_is_an_error(service, api):
    service.fault = lambda method, path: Fault("expire") if method == "POST" else None
    error = error_of(api.add_job, "demo", JOB)
    assert error.status == 401
    assert "check JOB_API_USERNAME and JOB_API_PASSWORD" in str(error)


def test_reading_needs_no_login(service):
    with JobApi(service.root) as api:
        assert api.jobs("demo") == []
        assert api.project("demo") is None
    assert service.tokens_given == 0


def test_jobs_are_read_one_by_one(service, api):
    service.add("demo", [JOB | {"id": f"1:{scan}", "type": 'quotes " and ] é'} for scan in range(3000)])
    assert [job["Id"] for job in api.each_job("demo")] == [f"1:{scan}" for scan in range(3000)]


@pytest.mark.parametrize(
    "fault", [Fault("cut"), Fault("say", 200, '{"Jobs": [{"Id": "1:7"}, {"Id": '), Fault("say", 200, "<html>")]
)
def test_a_list_that_breaks_off_is_an_error_and_no_short_list(service, api, fault):
    service.add("demo", [JOB | {"id": f"1:{scan}"} for scan in range(3000)])
    service.fault = lambda method, path: fault
    error = error_of(api.jobs, "demo")
    assert error.temporary


@pytest.mark.parametrize(
    ("fault", "status", "says", "temporary"),
    [
        (Fault("drop"), None, "no answer", True),
        (Fault("say", 503, headers={"Retry-After": "7"}), 503, "503 <html><title>Bad gateway", True),
        (Fault("say", 200, "<html>log in</html>"), 200, 'no JSON object: "<html>log in', True),
        (Fault("say", 403, '{"error": "no\\nentry"}'), 403, "403 no;", False),
        (
            Fault("say", 302, "", {"Location": "http://u:p@elsewhere/x?y"}),
            302,
            "redirected to http://elsewhere/x;",
            False,
        ),
    ],
)
def test_what_went_wrong_is_said_in_a_line(service, api, fault, status, says, temporary):
    service.fault = lambda method, path: fault
    error = error_of(api.project, "demo")
    assert (error.status, error.temporary) == (status, temporary)
    assert f"GET {service.root}/v4/demo: " in str(error)
    assert says in str(error)
    assert error.retry_after == (7 if status == 503 else None)


@pytest.mark.parametrize("body", ['{"Jobs": [1, 2]}', '{"Jobs": [{"Id": "1:7"}, null]}', '{"Jobs": ["x"]}'])
def test_list_of_what_is_no_job_is_the_services_fault_and_told(service, api, body):
    service.fault = lambda method, path: Fault("say", 200, body)
    assert "no whole job list" in str(error_of(api.jobs, "demo"))


@pytest.mark.parametrize(
    ("ask", "lacks"),
    [
        (lambda api: api.status("demo", "1:7"), "Status"),
        (lambda api: api.claim("demo", "1:7"), "ClaimedByWorker, ClaimedAtTime"),
        (lambda api: api.put_project("demo", name="demo"), "token"),
    ],
)
def test_answer_without_what_was_asked_for_is_told(service, api, ask, lacks):
    service.fault = lambda method, path: Fault("say", 200, '{"Version": "v4", "Claimed": true}')
    assert f"200 without {lacks}; check JOB_API_ROOT" in str(error_of(ask, api))


def test_credentials_follow_no_redirect(service, api):
    with JobServiceDouble() as other:
        service.fault = lambda method, path: (
            Fault("say", 307, "", {"Location": f"{other.root}/v4/demo/jobs"}) if method == "POST" else None
        )
        assert api.add_job("demo", JOB).status == 307
        assert not other.requests


def test_a_slow_service_is_not_waited_for_for_ever(service):
    service.fault = lambda method, path: Fault("wait", seconds=1)
    with JobApi(service.root, read_timeout=0.1) as api:
        error = error_of(api.project, "demo")
    assert "it took too long" in str(error)


def test_credentials_in_a_root_are_not_shown():
    error = error_of(JobApi("http://ana:secret@127.0.0.1:9/rest_api").project, "demo")
    assert "secret" not in str(error)
