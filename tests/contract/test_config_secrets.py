"""Settings given as the dictionary ``qsmr_config``: what is secret is never shown, and all the rest always is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from contract.job_service import JobService

REPOSITORY = Path(__file__).parents[2]
SECRET = "kept16bytesofkey"
PASSWORD = "correct horse battery"
HIDDEN = re.compile(r"VALUE_SPECIFIED_IN_NO_LOG_PARAMETER|(?<!\*)\*{8}(?!\*)|\$REDACTED\$")


class Service(JobService):
    username = "ana"
    password = PASSWORD


class Lab:
    """A job service whose user is called ana, as is the directory that all lies in, and no settings file."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home/ana"
        self.home.mkdir(parents=True)
        self.service = Service(directory)
        self.config: dict[str, object] = {
            "ODIN_API_ROOT": "http://127.0.0.1:1/rest_api",
            "ODIN_SECRET": SECRET,
            "JOB_API_ROOT": self.service.root,
            "JOB_API_USERNAME": self.service.username,
            "JOB_API_PASSWORD": PASSWORD,
        }
        (self.home / "scans.txt").write_text("7\n8\n")
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = {"all": {"children": {"control": {"hosts": {"localhost": local}}}}}
        (self.home / "hosts.json").write_text(json.dumps(inventory))

    def play(self, playbook: str, config: object = None, *words: str) -> subprocess.CompletedProcess[str]:
        settings = {
            "qsmr_config_file": "",
            "qsmr_config": self.config,
            "qsmr_project": "demo",
            "qsmr_freq_mode": 1,
            "qsmr_jobs_file": str(self.home / "scans.txt"),
            "qsmr_state_dir": str(self.home / "state"),
            "qsmr_snapshot_dir": str(self.home),
            "watch_stall_timeout": 1,
        }
        if config is not None:  # the role's own, which is not looked at before the run as settings are
            settings[f"{playbook.removesuffix('.yml')}_config"] = config
        (self.home / "vault.json").write_text(json.dumps(settings))
        return subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", self.home / "hosts.json"]
            + [f"playbooks/{playbook}", "-e", f"@{self.home / 'vault.json'}", *(words or ["-vvvv", "--diff"])],
            cwd=REPOSITORY, env=os.environ | {"NO_COLOR": "1", "ANSIBLE_INJECT_INVOCATION": "1"},
            capture_output=True, text=True, timeout=200,
        )  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.service.kill()


def test_only_what_is_secret_is_hidden(lab):
    shown = ""
    for playbook in ("jobs.yml", "project.yml"):
        done = lab.play(playbook)
        assert done.returncode == 0, done.stdout + done.stderr
        shown += done.stdout + done.stderr
    waited = lab.play("watch.yml")
    assert waited.returncode == 13, waited.stdout
    shown += waited.stdout + waited.stderr
    assert SECRET not in shown
    assert PASSWORD not in shown
    # Where something is hidden, it stands alone for the value of a secret.
    hidden = [line for line in shown.splitlines() if HIDDEN.search(line)]
    assert {re.split(r'"?: ', line.strip())[0].strip('"') for line in hidden} == {"ODIN_SECRET", "JOB_API_PASSWORD"}
    assert shown.count(f"JOB_API_ROOT: {lab.service.root}\n") >= 2
    assert shown.count("JOB_API_USERNAME: ana\n") >= 2
    assert f"jobs_file: {lab.home}/scans.txt\n" in shown


SHAPES = [
    {"JOB_API_PASSWORT": PASSWORD},  # misspelt
    {"ODIN_SECRET": {"key": PASSWORD}, "more": {"deep": [PASSWORD]}},
    [{"JOB_API_PASSWORD": PASSWORD}],
    f"JOB_API_PASSWORT='{PASSWORD}'",
    PASSWORD,
]


@pytest.mark.parametrize("config", SHAPES, ids=repr)
def test_settings_of_another_shape_are_refused_and_not_shown(lab, config):
    refused = lab.play("jobs.yml", config)
    assert refused.returncode
    assert PASSWORD not in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
    assert refused.stdout.count("fatal: ") + refused.stdout.count("failed=1 ") == 2, refused.stdout


def test_misspelt_setting_is_named_by_modules_and_actions(lab):
    """With what there is in its place."""
    for playbook in ("project.yml", "watch.yml"):
        refused = lab.play(playbook, {"JOB_API_PASSWORT": PASSWORD})
        assert refused.returncode == 2
        said = " ".join(refused.stdout.split())
        assert "config.JOB_API_PASSWORT. Supported parameters include: JOB_API_PASSWORD," in said
        assert PASSWORD not in refused.stdout + refused.stderr


def test_wrong_argument_of_a_role_shows_no_secret_beside_it(lab):
    """Ansible shows the role's whole specification then, with its defaults."""
    refused = lab.play("jobs.yml", None, "-e", "jobs_on_conflict=never")
    assert refused.returncode == 2
    assert "got: never" in " ".join(refused.stdout.split())
    tasks = [{"include_role": {"name": "job_service"}, "vars": {"job_service_labels": "none"}}]
    tasks += [{"include_role": {"name": "odin_service"}, "vars": {"odin_service_labels": "none"}}]
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars_files": [f"{REPOSITORY}/playbooks/group_vars/all.yml", f"{lab.home}/vault.json"],
    }
    for task in tasks:
        (lab.home / "role.json").write_text(json.dumps([play | {"tasks": [task]}]))
        services = lab.play(f"{os.path.relpath(lab.home, REPOSITORY / 'playbooks')}/role.json")
        assert services.returncode == 2
        assert "Validation of arguments failed" in services.stdout, services.stdout
        refused.stdout += services.stdout + services.stderr
    assert SECRET not in refused.stdout + refused.stderr
    assert PASSWORD not in refused.stdout + refused.stderr
