"""The worker's environment variables, those of the former worker."""

from __future__ import annotations

import pytest
from uworker.settings import SettingsError, load_settings, worker_name

ENVIRONMENT = {
    "UWORKER_JOB_API_ROOT": "http://service:5000/rest_api//",
    "UWORKER_JOB_API_USERNAME": "lab",
    "UWORKER_JOB_API_PASSWORD": "pa$$ word",
    "UWORKER_JOB_API_PROJECT": "Demo1",
    "UWORKER_JOB_CMD": "/qsmr/run_runscript.sh  /opt/matlab/v90",
}


def faults(**changes: str) -> str:
    with pytest.raises(SettingsError) as error:
        load_settings({**ENVIRONMENT, **changes}, "box")
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_former_variables_make_a_worker() -> None:
    settings = load_settings(ENVIRONMENT, "box")
    assert settings.root == "http://service:5000/rest_api"
    assert (settings.username, settings.password, settings.project) == ("lab", "pa$$ word", "Demo1")
    assert settings.command == ("/qsmr/run_runscript.sh", "/opt/matlab/v90")
    assert settings.worker == "UWorker_box"
    assert settings.job_timeout is None
    assert settings.grace_period == 60
    assert settings.external == ()


def test_optional_variables() -> None:
    settings = load_settings(
        {
            **ENVIRONMENT,
            "UWORKER_JOB_TIMEOUT": "90",
            "UWORKER_GRACE_PERIOD": "0",
            "UWORKER_EXTERNAL_API_USERNAME": "notused",
            "UWORKER_EXTERNAL_API_PASSWORD": "notused",
            "UWORKER_JOB_TYPE": "qsmr",
        },
        "box",
    )
    assert (settings.job_timeout, settings.grace_period, settings.job_type) == (90, 0, "qsmr")
    assert settings.external == ("notused", "notused")


def test_an_empty_timeout_is_none() -> None:
    assert load_settings({**ENVIRONMENT, "UWORKER_JOB_TIMEOUT": ""}, "box").job_timeout is None


def test_empty_external_credentials_are_left_out_one_by_one() -> None:
    changed = {**ENVIRONMENT, "UWORKER_EXTERNAL_API_USERNAME": "", "UWORKER_EXTERNAL_API_PASSWORD": "p"}
    assert load_settings(changed, "box").external == ("p",)


def test_all_missing_variables_are_named_at_once() -> None:
    with pytest.raises(SettingsError) as error:
        load_settings({"UWORKER_JOB_API_PROJECT": " "}, "box")
    for name in ENVIRONMENT:
        assert f"{name} is not set" in str(error.value)


def test_missing_and_invalid_variables_are_named_together() -> None:
    message = faults(UWORKER_JOB_CMD="", UWORKER_JOB_API_PROJECT="1demo", UWORKER_JOB_TIMEOUT="1.5")
    assert "UWORKER_JOB_CMD is not set" in message
    assert "UWORKER_JOB_API_PROJECT=1demo is no project name" in message
    assert "UWORKER_JOB_TIMEOUT=1.5" in message


@pytest.mark.parametrize("project", ["a-b", "å", "a b", "9a", "a_b", "p" * 60, "projects", "auth"])
def test_bad_project_names(project: str) -> None:
    assert f"UWORKER_JOB_API_PROJECT={project}" in faults(UWORKER_JOB_API_PROJECT=project)


@pytest.mark.parametrize(
    "root", ["service:5000", "ftp://x/rest_api", "http://", "http://x:port/rest_api", "http://x/r?a=1"]
)
def test_bad_roots(root: str) -> None:
    assert "UWORKER_JOB_API_ROOT" in faults(UWORKER_JOB_API_ROOT=root)


def test_a_password_in_the_root_is_refused_and_not_repeated() -> None:
    message = faults(UWORKER_JOB_API_ROOT="http://lab:geheim@x/rest_api")
    assert "UWORKER_JOB_API_ROOT holds credentials" in message
    assert "geheim" not in message


@pytest.mark.parametrize("seconds", ["0", "-1", "ten", "1e3", "٣"])
def test_bad_timeouts(seconds: str) -> None:
    assert "UWORKER_JOB_TIMEOUT" in faults(UWORKER_JOB_TIMEOUT=seconds)


def test_secrets_are_neither_shown_nor_passed_to_the_job() -> None:
    settings = load_settings({**ENVIRONMENT, "QSMR_CONFIG": "x"}, "box")
    assert "pa$$ word" not in repr(settings)
    assert settings.job_environment["QSMR_CONFIG"] == "x"
    assert not {"UWORKER_JOB_API_PASSWORD", "UWORKER_JOB_API_USERNAME"} & set(settings.job_environment)


def test_worker_names() -> None:
    assert worker_name("c0ffee", "lab1") == "UWorker_lab1_c0ffee"
    assert worker_name("c0ffee", "lab1", "first") == "UWorker_lab1_first"
    assert worker_name("c0ffee", "", "first") == "UWorker_c0ffee"


def test_long_worker_names_fit_the_service_and_stay_unique() -> None:
    host = "a-machine-with-a-very-long-name.in-a-department.of-a-university.example.org"
    names = {worker_name(f"c0ffee{number}", host) for number in range(10)}
    assert len(names) == 10
    assert max(map(len, names)) == 64
