"""The former command: its command line, its messages and its exit codes (contract of the former scripts, section 4)."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from job_service_double import PASSWORD, USERNAME, Fault, JobServiceDouble

SCRIPT = Path("bin/add_jobs.py").absolute()


@pytest.fixture
def service():
    with JobServiceDouble() as double:
        yield double


@pytest.fixture
def settings(tmp_path):
    """What the inventory says; a test may add to it."""
    return {"qsmr_state_dir": str(tmp_path / "state")}


@pytest.fixture
def add_jobs(service, tmp_path, settings):
    """Runs the command with a system's Python, in another directory, on a config for the double."""
    config = tmp_path / "lab.conf"
    config.write_text(
        f"ODIN_API_ROOT=http://odin/rest_api\nODIN_SECRET=adsfasreerfgtres\nJOB_API_ROOT={service.root}\n"
        f"JOB_API_USERNAME={USERNAME}\nJOB_API_PASSWORD={PASSWORD}\n"
    )
    config.chmod(0o600)
    inventory = tmp_path / "inventory.yml"
    local = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}

    def run(*arguments, config=config.name, group="control"):
        # A host's variables win over the playbooks' own, as those of group_vars/fleet.yml do.
        inventory.write_text(json.dumps({group: {"hosts": {"localhost": local | settings}}}))
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ANSIBLE_INVENTORY": str(inventory)}
        environment["QSMR_PROGRESS_SECONDS"] = "0.2"
        command = ["/usr/bin/env", "python3", SCRIPT, *arguments]
        command = [str(word).replace("CONFIG", config) for word in command]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    return run


@pytest.fixture
def scans(tmp_path):
    path = tmp_path / "scanids.txt"
    path.write_text("11\n12\n\n13\n14\n")
    return path.name


def test_jobs_are_added_and_the_former_lines_are_there(service, add_jobs, scans):
    done = add_jobs("trial", "CONFIG", "--freq-mode", "1", "--jobs-file", scans, "--skip", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Skipping the first 1 rows in scanids.txt",
        "3 jobs added (skipped 1)",
        "Processed 3: 3 jobs added, 0 were there",
        "  Status code 201: 3",
        "Done",
    ]
    assert set(service.jobs) == {"1:12", "1:13", "1:14"}


def test_progress_is_shown_meanwhile(service, add_jobs, tmp_path):
    service.cost = 0.02
    (tmp_path / "scanids.txt").write_text("".join(f"{scan}\n" for scan in range(1, 101)))
    done = add_jobs("trial", "CONFIG", "--freq-mode", "1", "--jobs-file", "scanids.txt")
    assert re.match(r"trial: \d+ of 100 jobs \(\d+ %\)", done.stdout)
    assert done.stdout.endswith("  Status code 201: 100\nDone\n")


@pytest.mark.parametrize("missing", [["--freq-mode", "1"], ["--jobs-file", "scanids.txt"], []])
def test_without_file_or_mode_it_validates_and_says_so(service, add_jobs, scans, missing):
    done = add_jobs("trial", "CONFIG", *missing)
    assert (done.returncode, done.stderr) == (0, "")
    assert "No jobs were added" in done.stdout
    assert not service.requests


def test_faults_go_to_stderr_with_the_hint_and_exit_1(service, add_jobs, scans):
    service.fault = lambda method, path: Fault("say", 403, "no") if path.endswith("jobs") and method == "POST" else None
    done = add_jobs("trial", "CONFIG", "--freq-mode", "1", "--jobs-file", scans, "--skip", "2")
    assert done.returncode == 1
    assert "Add job failed: 2 of 2 jobs" in done.stderr
    assert "403 no" in done.stderr
    assert done.stderr.splitlines()[-1] == "Exiting, you can try add_jobs.py again with --skip=2"
    assert "Done" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["2trial", "CONFIG"], 1, "Project name must only contain ascii letters and digits and start with"),
        (["trial", "none.conf"], 1, "Config file none.conf cannot be read"),
        (["trial"], 2, "usage: add_jobs.py"),
        (["trial", "CONFIG", "--freq-mode", "x"], 2, "invalid int value"),
    ],
)
def test_mistakes_have_the_former_codes(service, add_jobs, arguments, code, says):
    done = add_jobs(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not service.requests


def test_a_bad_row_sends_nothing(service, add_jobs, tmp_path):
    (tmp_path / "scanids.txt").write_text("11\nx\n")
    done = add_jobs("trial", "CONFIG", "--freq-mode", "1", "--jobs-file", "scanids.txt")
    assert done.returncode == 1
    assert "line 2: 'x' is not a scan id" in done.stderr
    assert not service.requests


def test_help_lists_the_five_settings(add_jobs):
    done = add_jobs("--help")
    assert done.returncode == 0
    for setting in ("ODIN_API_ROOT", "ODIN_SECRET", "JOB_API_ROOT", "JOB_API_USERNAME", "JOB_API_PASSWORD"):
        assert setting in done.stdout


def test_the_arguments_win_over_what_an_inventory_says(service, add_jobs, scans, settings):
    settings |= {
        "qsmr_config": {"JOB_API_PASSWORD": "that of another account"},
        "qsmr_scans_from": "list",
        "qsmr_scans": [21],
    }
    done = add_jobs("trial", "CONFIG", "--freq-mode", "1", "--jobs-file", scans)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(service.jobs) == {"1:11", "1:12", "1:13", "1:14"}


def test_an_inventory_without_a_control_node_is_no_success(add_jobs, scans):
    done = add_jobs("trial", "CONFIG", "--freq-mode", "1", "--jobs-file", scans, group="workers")
    assert (done.returncode, done.stdout) == (1, "")
    assert "has no group control" in done.stderr
