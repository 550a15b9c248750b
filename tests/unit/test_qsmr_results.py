"""The module qsmr_results: what it asks the services for, and what it lets be seen of its settings."""

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
    """Runs the module as Ansible does, with settings from a vault; returns what it exits with."""
    monkeypatch.setattr(ansible.module_utils, "__path__", [*ansible.module_utils.__path__, "plugins/module_utils"])
    monkeypatch.syspath_prepend("library")
    import qsmr_results
    from ansible.module_utils.testing import patch_module_args

    vault = {
        "ODIN_API_ROOT": "http://127.0.0.1:1/rest_api",
        "ODIN_SECRET": SECRET,
        "JOB_API_ROOT": service.root,
        "JOB_API_USERNAME": USERNAME,
        "JOB_API_PASSWORD": PASSWORD,
    }

    def module(**parameters):
        arguments = {
            "config_file": "",
            "config": vault,
            "directory": str(tmp_path / USERNAME),
            "snapshot_dir": str(tmp_path),
        } | parameters
        with patch_module_args(arguments), pytest.raises(SystemExit):
            qsmr_results.main()
        said = json.loads(capsys.readouterr().out)
        told = json.dumps({key: value for key, value in said.items() if key != "invocation"})
        assert SECRET not in told
        assert PASSWORD not in told
        return said

    return module


def test_user_name_from_a_vault_blackens_nothing(service, run, tmp_path):
    service.create("demo")
    assert run(project="demo")["directory"] == str(tmp_path / USERNAME)


@pytest.mark.parametrize("project", ["nosuch", "2nd"])
def test_project_that_is_none_is_told_and_its_jobs_are_not_asked_for(service, run, project):
    said = run(project=project)
    assert said["failed"]
    assert "project" in said["msg"].lower()
    assert not [request for request in service.requests if request.endswith("/jobs")]
