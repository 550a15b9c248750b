"""Hostile texts and careless umasks, through the playbooks: what others wrote stays text, and files stay closed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from contract.job_service import JobService
from qsmr.jobapi import JobApi
from qsmr.target import decode

REPOSITORY = Path(__file__).parents[2]
SECRET = "{{ 41 + 1 }}`id`"  # as long as a key


def hostile(trace: Path) -> str:
    """A text that makes a file if anything takes it for a template, or a shell for its own."""
    return f"{{{{ lookup('pipe', 'touch {trace}') }}}} $(touch {trace}) `touch {trace}` '; touch {trace} #"


class Lab:
    """A job service with a hostile password, its settings, and this machine as the only host."""

    def __init__(self, directory: Path) -> None:
        self.trace = directory / "trace"
        self.directory = directory
        self.service = type("Hostile", (JobService,), {"password": hostile(self.trace)})(directory)
        self.config = directory / "lab.conf"
        self.config.write_text(
            f"ODIN_API_ROOT=http://127.0.0.1:1/rest_api\nODIN_SECRET={SECRET}\nJOB_API_ROOT={self.service.root}\n"
            f"JOB_API_USERNAME={self.service.username}\nJOB_API_PASSWORD={self.service.password}\n"
        )
        self.config.chmod(0o600)
        (directory / "scans.txt").write_text("7\n8\n")

    def play(self, playbook: str, umask: int = -1, **settings: object) -> subprocess.CompletedProcess[str]:
        values = {
            "qsmr_project": "demo",
            "qsmr_freq_mode": 1,
            "qsmr_config_file": str(self.config),
            "qsmr_jobs_file": str(self.directory / "scans.txt"),
            "qsmr_state_dir": str(self.directory / "state"),
        }
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        inventory = {
            "all": {"children": {"control": {"hosts": {"localhost": local}}, "workers": {"hosts": {"localhost": {}}}}}
        }
        (self.directory / "hosts.json").write_text(json.dumps(inventory))
        return subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", self.directory / "hosts.json"]
            + [f"playbooks/{playbook}", "-vvv", "-e", json.dumps(values | settings)],
            cwd=REPOSITORY, env=os.environ | {"NO_COLOR": "1"}, umask=umask, capture_output=True, text=True, timeout=99,
        )  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    lab = Lab(tmp_path_factory.mktemp("lab"))
    yield lab
    lab.service.kill()


def files_of(directory: Path) -> dict[str, int]:
    return {str(path): stat.S_IMODE(path.lstat().st_mode) for path in directory.rglob("*") if not path.is_symlink()}


def test_words_of_others_are_never_run(lab):
    """The password, the Odin secret, a job's output and a worker's name go all the way to where they belong."""
    added = lab.play("jobs.yml", umask=0)
    assert added.returncode == 0, added.stdout
    with JobApi(lab.service.root, lab.service.username, lab.service.password) as api:
        assert [job["Id"] for job in api.jobs("demo")] == ["1:7", "1:8"]
    login = (lab.service.username, lab.service.password)
    fetched = requests.get(f"{lab.service.root}/v4/demo/jobs/fetch", auth=login, timeout=30).json()
    [token] = parse_qs(urlsplit(fetched["Job"]["URLS"]["URL-target"]).query)["d"]
    assert decode(token, SECRET, "ecb") == {
        "ScanID": int(fetched["Job"]["JobID"][2:]),
        "FreqMode": 1,
        "Project": "demo",
    }

    url = f"{lab.service.root}/v4/demo/jobs/1:7"
    said = f"2026-01-01T00:00:00.1 - STDERR: \x1b[31mError: {hostile(lab.trace)}"
    for noun, body in (
        ("claim", {"Worker": "UWorker_{{ 41 + 1 }}_$(id)\x1b[2J"}),
        ("output", {"Output": said}),
        ("status", {"Status": "FAILED"}),
    ):
        requests.put(f"{url}/{noun}", json=body, auth=login, timeout=30).raise_for_status()
    status = lab.play("status.yml", umask=0)
    assert status.returncode == 0, status.stdout
    screen = status.stdout[status.stdout.rindex("Project demo at") :]
    assert "UWorker_{{ 41 + 1 }}_$(id)?[2J" in screen
    assert "{{ lookup('pipe'," in screen
    assert "\x1b" not in screen
    assert not lab.trace.exists()


def test_scan_list_is_numbers_or_refused(lab):
    lines = [f"{{{{ lookup('pipe', 'touch {lab.trace}') }}}}", f"$(touch {lab.trace})", "7; id", "\x1b[2J7", "../../7"]
    (lab.directory / "bad.txt").write_text("\n".join(["7", *lines, "8"]))
    refused = lab.play("jobs.yml", qsmr_jobs_file=str(lab.directory / "bad.txt"), qsmr_project="other")
    assert refused.returncode
    assert refused.stdout.count("is not a scan id") >= len(lines)
    assert "\x1b[2J" not in refused.stdout
    assert not lab.trace.exists()
    with JobApi(lab.service.root) as api:
        assert not api.exists("other")


def test_project_name_is_letters_and_digits_or_refused(lab):
    """Also in the former command, which hands it to Ansible."""
    for name in (f"{{{{ lookup('pipe', 'touch {lab.trace}') }}}}", "../../etc", "demo; id", "-e"):
        words = [REPOSITORY / "bin/build_snapshot.sh", "--", name, lab.config]
        refused = subprocess.run(words, capture_output=True, text=True, cwd=lab.directory, timeout=60)
        assert refused.returncode
        assert "Project name must only contain ascii letters and digits" in refused.stderr
    assert not lab.trace.exists()


def test_nothing_that_outlives_a_run_is_open_to_others(lab):
    """The runs before had the umask 000."""
    files = files_of(lab.directory / "state")
    assert {Path(name).name for name in files} >= {"demo", "ledger.sqlite", "report.html"}
    assert {name: oct(mode) for name, mode in files.items() if mode & 0o022} == {}


def test_narrow_umask_is_left_narrow(lab):
    done = lab.play("jobs.yml", umask=0o077, qsmr_state_dir=str(lab.directory / "closed"))
    assert done.returncode == 0, done.stdout
    assert stat.S_IMODE((lab.directory / "closed").stat().st_mode) == 0o700
    assert stat.S_IMODE((lab.directory / "closed/demo/ledger.sqlite").stat().st_mode) == 0o600
