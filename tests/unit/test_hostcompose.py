"""Which Compose starts workers, and on which engine."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
import yaml
from qsmr.dockercli import Docker, Result
from qsmr.errors import QsmrError
from qsmr.hostcompose import Compose, has_network

V1 = "docker-compose version 1.29.2, build unknown\ndocker-py version: 5.0.3\n"
V2 = "Docker Compose version v2.26.1-4\n"
PODMAN_COMPOSE = "podman-compose version 1.6.0\npodman version 5.8.6\n"
PLUGIN = {"ClientInfo": {"Plugins": [{"Name": "buildx", "Version": "0.1"}, {"Name": "compose", "Version": "v2.26.1"}]}}
BROKEN_PLUGIN = {"ClientInfo": {"Plugins": [{"Name": "compose", "Err": "exec format error"}]}}


class Host:
    """A host whose docker-compose says ``version`` of itself. Notes the environment of each command."""

    def __init__(self, version: str = V2, **environ: str) -> None:
        self.version = version
        self.environments: list[dict[str, str]] = []
        self.docker = Docker(self.run, {"PATH": "/bin", **environ})

    def run(self, argv, env, timeout):
        self.environments.append(dict(env))
        if argv[0] == "docker-compose" and self.version:
            return Result(0, self.version)
        return Result(127, "", "?")


def podman(socket: str = "", rootless: bool = False) -> dict:
    return {"Driver": "podman", "Rootless": rootless, "Socket": socket}


@pytest.mark.parametrize(
    ("info", "version", "command", "wanted"),
    [
        (PLUGIN, "", ("docker", "compose"), "2.26.1"),
        ({}, V1, ("docker-compose",), "1.29.2"),
        ({}, V2, ("docker-compose",), "2.26.1-4"),
        (BROKEN_PLUGIN, V1, ("docker-compose",), "1.29.2"),
    ],
)
def test_compose_of_either_generation_is_found(info, version, command, wanted):
    found = Compose.of(Host(version).docker, info)
    assert (found.command, found.version) == (command, wanted)


@pytest.mark.parametrize(
    ("version", "info", "says"),
    [
        ("", {}, "Compose is missing"),
        (PODMAN_COMPOSE, podman("/run/podman/podman.sock"), "is podman-compose here.*install docker-compose"),
        (V2, podman(rootless=True), "has no socket.*systemctl --user enable --now podman.socket"),
    ],
)
def test_compose_that_cannot_start_workers_is_named_with_what_to_do(version, info, says):
    with pytest.raises(QsmrError, match=says):
        Compose.of(Host(version).docker, info)


@pytest.mark.parametrize(
    ("info", "environ", "engine"),
    [
        (podman("/run/user/1000/podman/podman.sock", rootless=True), {}, "unix:///run/user/1000/podman/podman.sock"),
        (podman("/run/podman/podman.sock"), {}, "unix:///run/podman/podman.sock"),
        (podman("/run/podman/podman.sock"), {"DOCKER_HOST": "unix:///own.sock"}, "unix:///own.sock"),
        (podman(), {}, None),
        ({"Driver": "overlay2"}, {}, None),
    ],
)
def test_compose_speaks_with_the_engine_of_the_docker_command(info, environ, engine):
    host = Host(V2, **environ)
    Compose.of(host.docker, info).run("qsmr-demo", "/opt/file.yml", ("up",), {"QSMR_CONFIG": "x"}, 10)
    assert host.environments[-1].get("DOCKER_HOST") == engine
    assert host.environments[-1]["QSMR_CONFIG"] == "x"


def test_workers_of_a_new_snapshot_take_none_of_the_address_ranges_that_docker_has_for_networks():
    template = (Path(__file__).parents[2] / "roles/snapshot/templates/docker-compose.yml.j2").read_text()
    text = jinja2.Template(template).render(image="x:1", stop_grace_seconds=1, environment=["QSMR_CONFIG"])  # noqa: S701 no HTML
    file = yaml.safe_load(text)
    assert (file["services"]["uworker"]["network_mode"], file.get("networks")) == ("bridge", None)
    assert not has_network(text)
    assert has_network(text.replace("network_mode: bridge", ""))
