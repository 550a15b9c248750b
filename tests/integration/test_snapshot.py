"""Snapshots for real: playbooks, Docker, Compose, and the former command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from container_fleet import REPOSITORY, Fleet, Result, docker
from contract.job_service import JobService
from qsmr.snapshot import newest_snapshot

PROJECT = "SnapTest"
PASSWORD = "p w$HOME ${x} $$ #x \"q\" \\n 'å∂' `id` $(id) %s: y"
SECRET = "0123456789secret"
WORKER_IMAGE = "qsmr-fleet/worker"
BUILD = """#!/bin/sh
cd "$(dirname "$0")" && echo built >>../builds
tar -czf qsmr.tar.gz run_runscript.sh && tar -czf qsmr_data.tar.gz build.sh
"""


class Lab(Fleet):
    """The control node alone, with code and a config file."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.out = directory / "out"
        self.code = directory / "code"
        self.code.mkdir()
        for name, text in {"build.sh": BUILD, "run_runscript.sh": "#!/bin/sh\n"}.items():
            (self.code / name).write_text(text)
            (self.code / name).chmod(0o755)
        self.config = directory / "lab.conf"
        self.config.write_text(
            f"ODIN_API_ROOT=http://odin.example/rest_api\nODIN_SECRET={SECRET}\n"
            f"JOB_API_ROOT=http://jobs.example/rest_api\nJOB_API_USERNAME=ana\nJOB_API_PASSWORD={PASSWORD}\n"
        )
        self.config.chmod(0o600)

    def snapshot(self, project: str = PROJECT, **arguments) -> Result:
        given = {
            "qsmr_project": project,
            "qsmr_config_file": str(self.config),
            "qsmr_code_dir": str(self.code),
            "qsmr_snapshot_dir": str(self.out),
        }
        return self.play("snapshot.yml", **{**given, **arguments})

    @property
    def builds(self) -> int:
        path = self.directory / "builds"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def newest(self, project: str = PROJECT):
        return newest_snapshot(self.out, project)


def said(result: Result) -> dict:
    return result.task_results("Snapshot is there")["localhost"]


def states(directory: Path) -> dict[str, tuple[int, int, int]]:
    return {
        str(path): (path.stat().st_ino, path.stat().st_mtime_ns, path.stat().st_mode) for path in directory.rglob("*")
    }


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        yield lab
    finally:
        snapshots = ("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference=qsmr_snapshot_snap*")
        subprocess.run(["docker", "image", "rm", "--force", *docker(*snapshots).split()], capture_output=True)


@pytest.fixture(scope="module")
def first(lab) -> Result:
    """The run that made the first snapshot."""
    result = lab.snapshot(cmdline="-vvv --diff")
    assert result.rc == 0, result.stdout
    return result


def test_check_mode_says_what_would_be_made_and_makes_nothing(lab):
    result = lab.snapshot("snapchecked", cmdline="--check", qsmr_snapshot_dir=str(lab.directory / "nothing"))
    assert result.rc == 0, result.stdout
    assert said(result)["actions"] == ["image built and saved", "snapshot written"]
    assert not (lab.directory / "nothing").exists()


def test_what_is_built_keeps_what_the_worker_image_is(lab, first):
    manifest = lab.newest().manifest
    made, base = (json.loads(docker("image", "inspect", name))[0] for name in (manifest["image"]["name"], WORKER_IMAGE))
    assert made["Id"] == manifest["image"]["id"]
    assert made["RootFS"]["Layers"] == [layer["diff_id"] for layer in manifest["image"]["layers"]]
    assert made["RootFS"]["Layers"][:-2] == base["RootFS"]["Layers"]
    assert (made["Config"]["Entrypoint"], made["Config"]["Healthcheck"]) == (
        base["Config"]["Entrypoint"],
        base["Config"]["Healthcheck"],
    )
    assert {"UWORKER_JOB_TYPE=qsmr", "UWORKER_JOB_CMD=/qsmr/run_runscript.sh /opt/matlab/v90"} <= set(
        made["Config"]["Env"]
    )


def test_no_secret_on_the_screen_or_in_what_is_left(lab, first):
    for secret in (PASSWORD, SECRET):
        # As it is, and as JSON or a shell would write it.
        for form in {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}:
            assert form not in first.stdout
            for path in [*lab.artifacts.rglob("*"), *lab.out.rglob("*")]:
                if path.is_file() and path.name != "worker.env":
                    assert form.encode() not in path.read_bytes(), path


def test_the_second_run_changes_nothing(lab, first):
    before, builds = states(lab.out), lab.builds
    again = lab.snapshot()
    assert again.rc == 0, again.stdout
    assert again.changed == {}
    assert states(lab.out) == before
    assert lab.builds == builds


def test_a_new_project_needs_no_build(lab, first):
    builds = lab.builds
    result = lab.snapshot("snapother")
    assert result.rc == 0, result.stdout
    assert said(result)["actions"] == ["image reused", "snapshot written"]
    assert lab.builds == builds
    assert lab.newest("snapother").image_file.samefile(lab.newest().image_file)
    named = lab.snapshot("snapnamed", qsmr_snapshot=str(lab.newest().directory), qsmr_code_dir="")
    assert named.rc == 0, named.stdout
    assert said(named)["reused"] == str(lab.newest().directory)
    assert "Images are current" not in named.stdout, "nor are the images made that it would be built on"


def test_all_faults_are_named_and_nothing_is_built(lab, first):
    config = lab.directory / "bad.conf"
    config.write_text("ODIN_API_ROOT=odin\n# JOB_API_ROOT=http://x\nODIN_SECRET=$(touch executed)\n")
    config.chmod(0o644)
    before, builds = states(lab.out), lab.builds
    assert lab.snapshot("1st_name").rc == 2, "before any task: see test_beforehand.py"
    result = lab.snapshot("named", qsmr_config_file=str(config), qsmr_code_dir="/nowhere")
    assert result.rc == 2
    message = said(result)["msg"]
    for fault in (
        "Missing in config: JOB_API_ROOT",
        "ODIN_API_ROOT does not look like an url: odin",
        "Code directory /nowhere does not exist",
    ):
        assert fault in message
    assert "base_image" not in result.stdout
    assert (states(lab.out), lab.builds) == (before, builds)
    assert not (REPOSITORY / "executed").exists()


def test_a_config_file_that_others_can_read_is_reported(lab, first):
    config = lab.directory / "open.conf"
    config.write_text(lab.config.read_text())
    config.chmod(0o644)
    result = lab.snapshot(qsmr_config_file=str(config))
    assert result.rc == 0 and result.changed == {}
    assert f"chmod 600 {config}" in result.stdout


def test_equal_code_makes_equal_layers_without_any_cache(lab, first):
    manifest = lab.newest().manifest
    docker("image", "rm", manifest["image"]["name"])  # and with it the steps that led to it
    again = lab.directory / "again"
    (lab.code / "run_runscript.sh").touch()
    result = lab.snapshot("snapagain", qsmr_snapshot_dir=str(again))
    assert result.rc == 0, result.stdout
    assert newest_snapshot(again, "snapagain").manifest["image"]["layers"] == manifest["image"]["layers"]


@pytest.fixture
def started(lab, first) -> Iterator[Path]:
    """The snapshot's directory on a machine that never saw its image."""
    snapshot = lab.newest()
    subprocess.run(["docker", "image", "rm", "--force", snapshot.manifest["image"]["name"]], capture_output=True)
    directory = lab.directory / "copied here"
    shutil.copytree(snapshot.directory, directory)
    try:
        yield directory
    finally:
        compose = ["docker-compose", "--project-name", compose_project(directory), "down", "--timeout", "0"]
        subprocess.run(compose, cwd=directory, capture_output=True)
        shutil.rmtree(directory)


def compose_project(directory: Path) -> str:
    script = (directory / "start_worker.sh").read_text()
    return script.partition("COMPOSE_PROJECT_NAME=")[2].partition("\n")[0]


def start(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", directory / "start_worker.sh"], cwd="/", capture_output=True, text=True, timeout=120)


def test_start_worker_loads_the_image_and_starts_a_worker(lab, started):
    done = start(started)
    assert done.returncode == 0, done.stderr
    assert "Loading image from file" in done.stdout
    containers = docker("ps", "-q", "--filter", f"label=com.docker.compose.project={compose_project(started)}").split()
    assert len(containers) == 1
    environment = json.loads(docker("inspect", containers[0]))[0]["Config"]["Env"]
    assert f"UWORKER_JOB_API_PASSWORD={PASSWORD}" in environment, "every byte of it"
    assert f"UWORKER_JOB_API_PROJECT={PROJECT}" in environment
    assert f"UWORKER_HOSTNAME={os.uname().nodename}" in environment
    again = start(started)
    assert again.returncode == 0, again.stderr
    assert "Loading" not in again.stdout
    assert (
        docker("ps", "-q", "--filter", f"label=com.docker.compose.project={compose_project(started)}").split()
        == containers
    )


def test_start_worker_starts_nothing_from_a_damaged_archive(started):
    with (started / "docker_image").open("r+b") as stream:
        stream.seek(100_000)
        stream.write(b"damage")
    done = start(started)
    assert done.returncode == 1
    assert "No worker started: files are damaged or missing" in done.stderr
    assert docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={compose_project(started)}") == ""


def former(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [REPOSITORY / "bin/build_snapshot.sh", *arguments],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_the_former_command_builds_what_lies_above_its_directory(lab):
    directory = lab.code / "snapshot"
    directory.mkdir(exist_ok=True)
    done = former(directory, "snapformer", "../../lab.conf")
    assert done.returncode == 0, done.stderr
    snapshot = newest_snapshot(directory, "snapformer")
    words = done.stdout.partition("========= Snapshot built =========")[2]
    for expected in (
        str(snapshot.directory),
        ">>> bash start_worker.sh",
        "http://jobs.example/rest_api/v4/snapformer\n",
        "http://odin.example/rest_api/v4/level2/snapformer/<freqmode>/<scanid>\n",
        f"Made of {lab.code}.",
    ):
        assert expected in words
    assert PASSWORD not in done.stdout + done.stderr
    again = former(directory, "snapformer", "../../lab.conf")
    assert again.returncode == 0
    assert f"It was there: nothing changed in {lab.code}" in again.stdout


def test_the_former_command_fails_as_it_did(lab):
    (lab.directory / "scanids.txt").write_text("1\nx\n")
    for arguments, code, words in (
        ((), 2, "usage: build_snapshot.sh"),
        (("demo", "lab.conf", "scanids.txt"), 2, "FREQ_MODE"),
        (("demo", "lab.conf", "scanids.txt", "one"), 2, "FREQ_MODE"),
        (("dé mo", "nowhere", "scanids.txt", "1"), 1, "Project name must only contain ascii letters"),
        (("dé mo", "nowhere", "scanids.txt", "1"), 1, "Config file nowhere cannot be read"),
        (("dé mo", "nowhere", "scanids.txt", "1"), 1, "scanids.txt line 2: 'x' is not a scan id"),
    ):
        builds = lab.builds
        done = former(lab.directory, *arguments)
        assert (done.returncode, done.stdout, lab.builds) == (code, "", builds)
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_the_former_command_shows_why_a_build_fails(lab, tmp_path):
    (tmp_path / "build.sh").write_text("#!/bin/sh\necho the compiler says no >&2\nexit 7\n")
    (tmp_path / "build.sh").chmod(0o755)
    done = former(tmp_path, "snapformer", str(lab.config))
    assert done.returncode == 1
    assert "ended with exit code 7" in done.stderr and "the compiler says no" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["build.sh"]


def test_the_former_command_adds_the_jobs(lab, tmp_path):
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    inventory = {"control": {"hosts": {"localhost": local}}, "fleet": {"children": {"control": {}}}}
    (tmp_path / "inventory.yml").write_text(json.dumps(inventory))
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars/fleet.yml").write_text(json.dumps({"qsmr_state_dir": str(tmp_path / "state")}))
    (tmp_path / "scanids.txt").write_text("7014769645\n7014769646\n")
    service = JobService(tmp_path)
    try:
        config = lab.config.read_text().replace("http://jobs.example/rest_api", service.root)
        config = config.replace("=ana\n", f"={service.username}\n").replace(PASSWORD, service.password)
        (tmp_path / "lab.conf").write_text(config)
        arguments = ("snapjobs", str(tmp_path / "lab.conf"), str(tmp_path / "scanids.txt"), "1")
        done = former(lab.code, *arguments, ANSIBLE_INVENTORY=str(tmp_path / "inventory.yml"))
        jobs = requests.get(f"{service.root}/v4/snapjobs/jobs", timeout=10).json()["Jobs"]
    finally:
        service.kill()
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(jobs) == 2
    assert done.stdout.index("Snapshot built") < done.stdout.index(f"Adding jobs from {tmp_path}/scanids.txt")
    assert service.password not in done.stdout + done.stderr
