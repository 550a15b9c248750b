"""Compose on a host: which one there is, and that it speaks with the engine that the docker command speaks with.

Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .dockercli import DOCKER_TIMEOUT, PODMAN, Docker, Result
from .errors import QsmrError


@dataclass(frozen=True)
class Compose:
    """Docker Compose, v2 or v1. ``engine`` is the environment that leads it to the engine of the docker command."""

    docker: Docker
    command: tuple[str, ...]
    version: str
    engine: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, docker: Docker, info: Mapping[str, Any]) -> Compose:
        """The Compose of the host, v2 before v1. Raises QsmrError if there is none that can start workers.

        ``info`` (``docker info``) names the plugins, which spares the half second that Compose v1 takes to start.
        """
        for plugin in (info.get("ClientInfo") or {}).get("Plugins") or []:
            if plugin.get("Name") == "compose" and not plugin.get("Err"):
                return cls(docker, ("docker", "compose"), plugin.get("Version", "").lstrip("v"))
        result = docker.run(("docker-compose", "version"), docker.environ, DOCKER_TIMEOUT)
        if "podman-compose" in result.out + result.err:
            raise QsmrError(
                "docker-compose is podman-compose here, which does not start workers as they must be: install "
                "docker-compose in its place"
            )
        if result.code:
            raise QsmrError(
                "Docker Compose is missing: neither 'docker compose' nor 'docker-compose' works: install one"
            )
        version = re.search(r"version:? v?([0-9][^\s,]*)", result.out)
        return cls(docker, ("docker-compose",), version[1] if version else "", engine_of(docker, info))

    def run(self, project: str, file: str, words: tuple[str, ...], env: Mapping[str, str], timeout: float) -> Result:
        """``docker compose`` with these ``words`` for a project's file; ``env`` is what the file takes values from."""
        argv = (*self.command, "--project-name", project, "--file", file, *words)
        return self.docker.run(argv, {**self.docker.environ, **self.engine, **env}, timeout)


def engine_of(docker: Docker, info: Mapping[str, Any]) -> dict[str, str]:
    """What docker-compose has to be told to reach the engine of this ``info``. Raises QsmrError if it cannot.

    Podman is no service of its own: its docker command works without a socket, and Compose asks one that can be
    another user's Podman, or another engine.
    """
    if info.get("Driver") != PODMAN or "DOCKER_HOST" in docker.environ:
        return {}
    if info["Socket"]:
        return {"DOCKER_HOST": f"unix://{info['Socket']}"}
    if info["Rootless"]:
        raise QsmrError(
            "Podman of this user has no socket, so that docker-compose would ask another engine: "
            "systemctl --user enable --now podman.socket, or set ansible_become to use root's Podman"
        )
    return {}


def has_network(compose_text: str) -> bool:
    """Whether workers of this Compose file get a network of their project's, as those of older snapshots do."""
    return "network_mode:" not in compose_text


def networks(docker: Docker, compose_project: str) -> list[str]:
    """The ids of the networks that Compose has made for a project."""
    label = f"label=com.docker.compose.project={compose_project}"
    return docker.out("Listing the networks", "network", "ls", "--quiet", "--filter", label).split()


def remove_networks(docker: Docker, compose_project: str) -> None:
    """Remove the networks of a project that has no containers in them any more."""
    found = networks(docker, compose_project)
    if found:
        docker.out("Removing the network", "network", "rm", *found)
