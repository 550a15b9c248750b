"""The execution environment, built in earnest and used on the fleet.

Its base image comes from a registry; where there is none, this project's own stands in for it, by build arguments that
ansible-builder has for that. It is Debian's, whose own Python is not for pip: hence an environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from container_fleet import NAME, REPOSITORY, Fleet, docker

IMAGE = f"{NAME}-ee"
BASE = """\
FROM qsmr-fleet/base:trixie
COPY ca-certificates.crt /etc/ssl/certs/
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && python3 -m venv /opt/ee
ENV PATH=/opt/ee/bin:$PATH PIP_CERT=/etc/ssl/certs/ca-certificates.crt
"""
ARGUMENTS = {
    "EE_BASE_IMAGE": f"{IMAGE}-base",
    "PKGMGR": "/usr/bin/apt-get",
    "PYPKG": "python3-venv",
    "PYCMD": "/opt/ee/bin/python3",
}


def build(directory: Path, tag: str, **arguments: str) -> None:
    words = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    command = ["docker", "build", "--quiet", "--tag", tag, *words, str(directory)]
    run = subprocess.run(
        command, env={**os.environ, "DOCKER_BUILDKIT": "0"}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def image(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    base, context = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("context")
    (base / "Dockerfile").write_text(BASE)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", base)
    builder = Path(sys.executable).with_name("ansible-builder")
    subprocess.run([builder, "create", "-c", context, "--output-filename", "Dockerfile"], cwd=REPOSITORY, check=True)
    try:
        build(base, f"{IMAGE}-base")
        build(context, IMAGE, **ARGUMENTS)
        yield IMAGE
    finally:
        for name in (IMAGE, f"{IMAGE}-base"):
            docker("image", "rm", "--force", name)


@pytest.mark.slow
def test_jobs_are_added_and_hosts_asked_from_the_execution_environment(fleet, image):
    variables = json.dumps({**fleet.variables, "qsmr_project": "fromee", "qsmr_report": False})
    words = ["--rm", "--network", NAME, "--user", "0", "--workdir", "/runner/project", "--env", "COLUMNS=120"]
    words += ["--volume", f"{REPOSITORY}:/runner/project:ro", "--volume", f"{fleet.directory}:{fleet.directory}"]
    for playbook, said in (("jobs.yml", "60 jobs added"), ("status.yml", "Project fromee at")):
        command = ["docker", "run", *words, image, "ansible-playbook", f"playbooks/{playbook}", "-e", variables]
        run = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
        assert said in run.stdout
    assert run.stdout.count("unreachable=0 ") == len(fleet.hosts) + 1, run.stdout  # the control node is one, too
