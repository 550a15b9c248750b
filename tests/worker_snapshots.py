"""Snapshots whose workers do nothing but be healthy, or not: for tests of what happens on the hosts."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import jinja2
from container_fleet import REPOSITORY, docker
from qsmr.archive import file_sha256, read_image
from qsmr.names import docker_name

PROJECT = "rollout"
PASSWORD = "pass'word \"$HOME #1"  # nothing on the way may read it as anything but text
KEYS = ("UWORKER_JOB_API_ROOT", "UWORKER_JOB_API_PASSWORD", "QSMR_CONFIG", "QSMR_SNAPSHOT_ID")
DOCKERFILE = """\
FROM qsmr-fleet/base:trixie AS base
RUN mkdir /small && cp --parents -L /bin/sh /bin/sleep $(ldd /bin/sh /bin/sleep | grep -o '/lib[^ ]*') /small
RUN printf "#!/bin/sh\\necho '%s'\\n" '{seen}' > /small/bin/python3 && chmod 755 /small/bin/python3
FROM scratch
COPY --from=base /small /
RUN echo {snapshot_id} > /code
HEALTHCHECK --interval={interval} --timeout=5s --retries=2 --start-period=30s CMD {health}
CMD echo worker of {snapshot_id} starts; trap 'exit 0' TERM; sleep 8 & wait; : > /old; sleep infinity & wait
LABEL org.qsmr.fleet.inputs=sha256:{snapshot_id}
"""
# What its python3, which would make it large, says when it is asked for the services: none of them is amiss.
SEEN = 'qsmr-services:{"services": {}, "mtu": 1500, "nameservers": []}'
HEALTHY = "true"
SICK = "echo no job service; false"
CRASHING = "kill 1"
HEALTHY_AFTER_8_S = "test -e /old"


def make_snapshot(
    directory: Path,
    number: int,
    health: str = HEALTHY,
    password: str = PASSWORD,
    service: str = "",
    project: str = PROJECT,
    interval: str = "1s",
) -> Path:
    """A snapshot of a project in ``directory``, with an image of its own whose health ``health`` tells so often."""
    snapshot_id = f"251101-{number:010d}"
    name = f"qsmr_snapshot_{docker_name(project)}:{snapshot_id}"
    target = directory / f"qsmr_snapshot_{project}_251101_{number + 1}"
    target.mkdir(parents=True)
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", name, "-"],
        input=DOCKERFILE.format(snapshot_id=snapshot_id, health=health, interval=interval, seen=SEEN),
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "DOCKER_BUILDKIT": "0"},
        check=True,
        capture_output=True,
        text=True,
    )
    docker("save", "--output", str(target / "docker_image"), name)
    docker("rmi", name)
    image = read_image(target / "docker_image")
    manifest = {
        "format": 1,
        "project": project,
        "odin_project": project,
        "snapshot_id": snapshot_id,
        "created": f"2025-11-01T00:00:{number:02d}Z",
        "image": {
            "name": name,
            "id": image.id,
            "architecture": image.architecture,
            "size": image.size,
            "layers": [{"diff_id": layer.diff_id, "size": layer.size} for layer in image.layers],
        },
        "archive": {
            "file": "docker_image",
            "size": (target / "docker_image").stat().st_size,
            "sha256": file_sha256(target / "docker_image"),
        },
        "inputs": f"sha256:{snapshot_id}",
    }
    template = (REPOSITORY / "roles/snapshot/templates/docker-compose.yml.j2").read_text()
    compose = jinja2.Template(template, keep_trailing_newline=True, trim_blocks=True)  # noqa: S701 no HTML
    values = {"image": name, "project": project, "environment": KEYS, "stop_grace_seconds": 5}
    environment = [service, password, "", snapshot_id]
    (target / "docker-compose.yml").write_text(compose.render(values))
    (target / "start_worker.sh").write_text("")
    (target / "worker.env").write_text("".join(f"{k}={v}\n" for k, v in zip(KEYS, environment, strict=True)))
    (target / "snapshot.json").write_text(json.dumps(manifest))
    write_sums(target)
    return target


def write_sums(snapshot: Path) -> None:
    """SHA256SUMS as snapshot.json and the files say."""
    names = ("docker_image", "docker-compose.yml", "start_worker.sh", "snapshot.json")
    sums = {name: hashlib.sha256((snapshot / name).read_bytes()).hexdigest() for name in names[1:]}
    sums["docker_image"] = json.loads((snapshot / "snapshot.json").read_text())["archive"]["sha256"]
    (snapshot / "SHA256SUMS").write_text("".join(f"{sums[name]}  {name}\n" for name in names))


def copy_snapshot(snapshot: Path, name: str) -> Path:
    """A copy of a snapshot beside it, to be changed."""
    return Path(shutil.copytree(snapshot, snapshot.parent / name))
