"""The module qsmr_jobs: check mode, diff and idempotence as declared, faults as one clean failure."""

import json

import ansible.module_utils
import pytest
from job_service_double import PASSWORD, USERNAME, JobServiceDouble

SECRET = "adsfasreerfgtres"


@pytest.fixture
def service():
    with JobServiceDouble() as double:
        yield double


@pytest.fixture
def run(service, tmp_path, monkeypatch, capsys):
    """Runs the module as Ansible does, on three scans unless told otherwise; returns what it exits with."""
    monkeypatch.setattr(ansible.module_utils, "__path__", [*ansible.module_utils.__path__, "plugins/module_utils"])
    monkeypatch.syspath_prepend("library")
    import qsmr_jobs
    from ansible.module_utils.testing import patch_module_args

    config = tmp_path / "lab.conf"
    config.write_text(
        f"ODIN_API_ROOT=http://odin/rest_api\nODIN_SECRET={SECRET}\nJOB_API_ROOT={service.root}\n"
        f"JOB_API_USERNAME={USERNAME}\nJOB_API_PASSWORD={PASSWORD}\n"
    )
    config.chmod(0o600)
    scans = tmp_path / "scanids.txt"

    def module(check=False, rows="7\n8\n9\n", **parameters):
        scans.write_text(rows)
        arguments = {
            "config_file": str(config),
            "project": "demo",
            "freq_mode": "1",
            "jobs_file": str(scans),
            "state_dir": str(tmp_path / "state"),
            "check_scans": False,  # there is no Odin API here
        } | parameters
        with patch_module_args(arguments | {"_ansible_check_mode": check}), pytest.raises(SystemExit):
            qsmr_jobs.main()
        said = capsys.readouterr().out
        assert SECRET not in said
        assert PASSWORD not in said
        return json.loads(said)

    return module


def test_check_then_add_then_nothing(service, run):
    would = run(check=True)
    assert (would["changed"], would["added"], service.jobs) == (True, 3, {})
    did = run()
    assert (did["changed"], did["added"], len(service.jobs)) == (True, 3, 3)
    assert did["diff"] == would["diff"] == {"before": {"jobs": 0}, "after": {"jobs": 3}}
    assert did["differences"] == ["project: absent → present", "jobs of the list: 0 → 3"]
    assert did["actions"] == ["project: created", "jobs: 3 added"]
    again = run()
    assert (again["changed"], again["were_there"], again["actions"], again["differences"]) == (False, 3, [], [])
    assert not run(check=True)["changed"]


def test_check_of_a_new_project_tells_what_would_be_made_without_a_warning(run):
    would = run(check=True)
    assert would["summary"] == "3 jobs to be added, 0 were there, the project is to be made"
    assert "warnings" not in would


def test_check_names_conflicts_alone_and_says_what_the_run_would_do_about_them(run):
    run(config={"ODIN_SECRET": "another secret !", "ODIN_API_ROOT": "http://elsewhere"}, rows="8\n")
    kept = run(check=True, on_conflict="keep")
    assert kept["summary"] == "2 jobs to be added, 0 were there, 1 conflict (kept)"
    [warning] = kept["warnings"]
    assert "line 2, scan 1:8: conflict: its source_url is http://elsewhere/" in str(warning)
    refused = run(check=True)
    assert (refused["failed"], refused["resume_row"]) == (True, 1)
    assert "scan 1:7" not in refused["msg"]


def test_check_admits_what_only_sending_tells(run):
    run(config={"ODIN_SECRET": "another secret !"}, rows="8\n")
    assert run(check=True)["summary"] == (
        "2 jobs to be added, 1 were there (1 of them show no difference, but hide their target)"
    )
    assert run()["conflict"] == 1


def test_failure_names_scans_and_says_where_to_go_on(service, run):
    service.refused = {"1:8": "no such scan"}
    failed = run()
    assert failed["failed"]
    assert (failed["added"], failed["refused"], failed["resume_row"]) == (2, 1, 1)
    assert "line 2, scan 1:8: refused: 400 no such scan" in failed["msg"]


def test_kept_conflicts_are_warnings(service, run):
    run(config={"ODIN_SECRET": "another secret !"}, rows="8\n")
    done = run(on_conflict="keep")
    assert (done.get("failed", False), done["added"], done["conflict"]) == (False, 2, 1)
    assert "line 2, scan 1:8: conflict" in str(done["warnings"])


def test_user_name_from_a_vault_blackens_nothing(service, run):
    service.refused = {"1:8": f"not by {USERNAME}"}
    failed = run(config={"JOB_API_USERNAME": USERNAME})
    assert f"not by {USERNAME}" in failed["msg"]


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize(
    ("rows", "line", "resume"),
    [
        ("7\n8\n9\n", 2, 1),
        ("\n\n7\r\n\r\n  \n8\n9\n\n", 6, 1),
        ("6\n1:6\n\n6\n8\n9", 5, 3),
        ("\ufeff\n7\n8\n9", 3, 1),
    ],
)
def test_messages_number_lines_as_an_editor_does_whatever_is_skipped(service, run, rows, line, resume, skip, tmp_path):
    service.refused = {"1:8": "no such scan"}
    failed = run(rows=rows, skip=skip * resume)
    assert f"line {line}, scan 1:8: refused" in failed["msg"]
    assert f"jobs are not as {tmp_path}/" in failed["msg"]
    assert failed["resume_row"] == resume, "rows, for --skip of the former script: blank lines are none"
    assert ("1:9" in service.jobs, len(service.jobs)) == (True, 1 if skip else 2)


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"rows": "1\nx\n"}, "line 2: 'x' is not a scan id"),
        ({"project": "2demo"}, "Project name must only"),
        ({"odin_project": "é"}, "Odin project name must only"),
        ({"freq_mode": ""}, "set qsmr_freq_mode"),
        ({"jobs_file": ""}, "set qsmr_jobs_file"),
        ({"config": {"ODIN_SECRET": "short"}}, "ODIN_SECRET has 5 bytes"),
        ({"target_cipher": "eax"}, "ODIN_SECRET is not base64"),
        ({"config_file": "/none.conf"}, "cannot be read"),
    ],
)
def test_a_users_mistake_is_one_failure_and_sends_nothing(service, run, parameters, says):
    failed = run(**parameters)
    assert failed["failed"]
    assert says in failed["msg"]
    assert not service.requests


def test_a_config_file_that_others_can_read_is_reported(run, tmp_path):
    (tmp_path / "lab.conf").chmod(0o644)
    assert "Others can read" in str(run()["warnings"])
