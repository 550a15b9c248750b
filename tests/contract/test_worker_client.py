"""The worker's client of the job service, under faults that only a double gives (worker_double.py)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from contract.worker_double import Double, running_double
from uworker import client
from uworker.client import DockerProject, Job, JobService, ServiceError


@pytest.fixture
def double() -> Iterator[Double]:
    with running_double() as double:
        yield double


class Pauses(list[float]):
    """The waits between tries, without the waiting."""

    patience = 100

    def __call__(self, seconds: float) -> bool:
        self.append(seconds)
        return len(self) < self.patience


def service_of(double: Double, pauses: Pauses | None = None, **more: Any) -> JobService:
    pauses = Pauses() if pauses is None else pauses
    return JobService(double.root, "p", "lab", "pä$$wörd€", "UWorker_me", pause=pauses, timeout=(1.0, 0.3), **more)


def fetched(double: Double, service: JobService) -> Job:
    double.add("j1")
    job = service.fetch()
    assert job is not None
    return job


def test_a_token_is_bought_once_with_the_account_and_used_for_all(double: Double) -> None:
    service = service_of(double, job_type="qsmr")
    job = fetched(double, service)
    assert service.claim(job)
    assert double.calls[:2] == [("GET", "/rest_api/token"), ("GET", "/rest_api/v4/p/jobs/fetch?type=qsmr")]
    assert double.called("GET", "token") == 1
    account, *tokens = [headers["Authorization"] for headers in double.headers]
    assert account == requests.auth._basic_auth_str(b"lab", "pä$$wörd€".encode())
    assert set(tokens) == {requests.auth._basic_auth_str("token-1", "")}


def test_a_token_is_renewed_on_401_and_the_call_repeated(double: Double) -> None:
    service = service_of(double)
    job = fetched(double, service)
    double.faults.append(("PUT", "/claim", 401))
    double.token = "token-2"
    assert service.claim(job)
    assert double.headers[-1]["Authorization"] == requests.auth._basic_auth_str("token-2", "")


def test_a_token_is_renewed_ahead_of_its_end(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RENEW_AT", 0.0)
    service = service_of(double)
    service.fetch()
    service.fetch()
    assert double.called("GET", "token") == 2


def test_a_refused_account_is_told_as_such(double: Double) -> None:
    double.faults.append(("GET", "token", lambda body: 401))
    with pytest.raises(ServiceError, match="refuses the account") as error:
        service_of(double).fetch()
    assert error.value.transient
    assert "pä$$" not in str(error.value)


def test_a_wrong_root_is_not_taken_for_an_empty_queue(double: Double) -> None:
    double.faults.append(("GET", "token", 404))
    with pytest.raises(ServiceError, match="UWORKER_JOB_API_ROOT"):
        service_of(double).fetch()


@pytest.mark.parametrize("fault", ["reset", "lost", 500, 502, 503, 429])
def test_faults_are_overcome_with_growing_waits(double: Double, fault: Any) -> None:
    pauses = Pauses()
    service = service_of(double, pauses)
    job = fetched(double, service)
    double.faults += [("PUT", "/status", fault)] * 3
    service.set_status(job, "FINISHED", 1.5)
    assert double.jobs["j1"]["status"][-1] == "FINISHED"
    assert 1 <= len(pauses) <= 3
    assert all(0 <= wait <= 2**index for index, wait in enumerate(pauses))


def test_tries_are_bounded(double: Double) -> None:
    pauses = Pauses()
    service = service_of(double, pauses)
    job = fetched(double, service)
    double.faults.append(("PUT", "/status", lambda body: 503))
    with pytest.raises(ServiceError):
        service.set_status(job, "FINISHED", 1.0)
    assert double.called("PUT", "/status") == client.TRIES


def test_tries_end_when_there_is_no_time(double: Double) -> None:
    pauses = Pauses()
    pauses.patience = 2
    service = service_of(double, pauses)
    job = fetched(double, service)
    double.faults.append(("PUT", "/status", lambda body: 503))
    with pytest.raises(ServiceError):
        service.set_status(job, "FINISHED", 1.0)
    assert double.called("PUT", "/status") == 2


def test_retry_after_is_honoured(double: Double) -> None:
    pauses = Pauses()
    service = service_of(double, pauses)
    job = fetched(double, service)
    double.retry_after = "7"
    double.faults.append(("PUT", "/status", 503))
    service.set_status(job, "STARTED")
    assert pauses == [7.0]


def test_a_service_that_never_answers_is_left(double: Double) -> None:
    service = service_of(double)
    job = fetched(double, service)
    double.faults.append(("PUT", "/status", 1.0))
    start = time.monotonic()
    service.set_status(job, "STARTED")
    assert time.monotonic() - start < 0.9


def test_a_final_status_whose_answer_was_lost_is_not_sent_twice(double: Double) -> None:
    service = service_of(double)
    job = fetched(double, service)
    double.faults.append(("PUT", "/status", "lost"))
    service.set_status(job, "FINISHED", 1.0)
    assert double.jobs["j1"]["status"].count("FINISHED") == 1


def test_a_claim_whose_answer_was_lost_is_ours(double: Double) -> None:
    service = service_of(double)
    job = fetched(double, service)
    double.faults.append(("PUT", "/claim", "lost"))
    assert service.claim(job)


def test_a_claim_of_another_is_not_ours(double: Double) -> None:
    service = service_of(double)
    job = fetched(double, service)
    double.jobs["j1"]["worker"] = "UWorker_other"
    double.faults.append(("PUT", "/claim", "reset"))
    assert not service.claim(job)


def test_a_job_is_given_back_with_its_status_tidied(double: Double) -> None:
    service = service_of(double)
    job = fetched(double, service)
    service.claim(job)
    double.faults.append(("DELETE", "/claim", "lost"))
    service.give_back(job)
    assert double.jobs["j1"]["worker"] is None
    assert double.jobs["j1"]["status"][-1] == "AVAILABLE"


def test_a_job_that_another_holds_by_now_is_left_alone(double: Double) -> None:
    service = service_of(double)
    job = fetched(double, service)
    double.jobs["j1"]["worker"] = "UWorker_other"
    service.give_back(job)
    assert double.jobs["j1"] == {**double.jobs["j1"], "worker": "UWorker_other", "status": ["AVAILABLE"]}
    assert double.called("DELETE", "/claim") == 0


def test_credentials_go_to_our_root_only(double: Double) -> None:
    double.url_root = "http://127.0.0.1:9/prefix/rest_api"
    service = service_of(double)
    job = fetched(double, service)
    assert service.claim(job)
    assert job.claim == f"{double.root}/v4/p/jobs/j1/claim"


@pytest.mark.parametrize("view", ["{root}.evil.example/rest_api", "http://lab@other/rest_api"])
def test_a_root_that_only_begins_like_ours_is_another(double: Double, view: str) -> None:
    double.url_root = view.format(root=double.url)
    assert fetched(double, service_of(double)).claim == f"{double.root}/v4/p/jobs/j1/claim"


def test_a_redirect_is_not_followed(double: Double) -> None:
    double.faults.append(("GET", "/fetch", 302))
    with pytest.raises(ServiceError, match="redirected to http://127.0.0.1:9/elsewhere"):
        service_of(double).fetch()


def test_the_answer_of_an_older_service_has_neither_environment_nor_image(double: Double) -> None:
    job = fetched(double, service_of(double))
    assert (job.id, job.source, job.target) == ("j1", "http://source/x", "")


def test_a_project_with_an_image_is_for_docker_mode(double: Double) -> None:
    double.job_extras = {"URL-image": "registry/image"}
    with pytest.raises(DockerProject, match="processing image"):
        fetched(double, service_of(double))


@pytest.mark.parametrize(
    ("refused", "stored"),
    [
        (lambda text: any(ord(character) > 0xFFFF for character in text), "grå \u20ac ? \u4e2d"),
        (lambda text: not text.isascii(), "gr? ? ? ?"),
    ],
    ids=["utf8mb3", "ascii"],
)
def test_characters_that_the_table_cannot_hold_are_replaced(double: Double, refused: Any, stored: str) -> None:
    double.faults.append(("PUT", "/output", lambda body: 500 if refused(body["Output"]) else None))
    service = service_of(double)
    job = fetched(double, service)
    service.send_output(job, "grå \u20ac \U0001f30d \u4e2d")
    assert double.jobs["j1"]["output"] == [stored]


@pytest.mark.parametrize("answer", [{}, {"Job": None}, {"Job": {"JobID": "x", "URLS": {}}}, []])
def test_an_answer_that_is_no_job_is_an_error(double: Double, answer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    service = service_of(double)
    monkeypatch.setattr(
        double, "_answer", lambda request, path, body: (200, answer if "fetch" in path else {"token": "t"})
    )
    with pytest.raises(ServiceError, match="is no job"):
        service.fetch()


def test_an_unreachable_service_is_told_in_a_few_words() -> None:
    problems: list[str] = []
    service = JobService("http://127.0.0.1:9/rest_api", "p", "lab", "secret", "w", contact=problems.append)
    with pytest.raises(ServiceError, match=r"^the job service at .* can't be reached: Connection refused$"):
        service.fetch()
    assert len(problems) == 1


def test_contact_is_told(double: Double) -> None:
    problems: list[str] = []
    service = service_of(double, contact=problems.append)
    assert service.fetch() is None  # 404: no jobs, and a good contact
    assert set(problems) == {""}
    double.faults.append(("GET", "/fetch", 503))
    with pytest.raises(ServiceError):
        service.fetch()
    assert "answered 503" in problems[-1]
