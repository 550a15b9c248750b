"""A container of a release, started by Compose as its workers are: does it start, and what can be reached from there?

Nothing of it stays. Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import servicecheck
from .dockercli import Result, redact
from .errors import QsmrError
from .hostcompose import Compose, has_network, networks, remove_networks
from .hostpaths import nearest, why
from .hoststate import Desired
from .hostworker import SERVICE, WorkerHost
from .release import COMPOSE_FILE

# Seconds for a container to start, to ask both services twice, and to end.
TIMEOUT = 120.0
PREFIX = ".qsmr-check-"


class Probe:
    """Containers of one project on this host that ask, and are gone."""

    def __init__(self, host: WorkerHost, compose: Compose) -> None:
        self.host = host
        self.compose = compose

    def check_file(self, desired: Desired) -> None:
        """Raise QsmrError if Compose does not see a file where releases lie, or does not take this release's."""
        with self._file(desired) as path:
            self._run(desired, path, ("config", "--quiet"))

    def view(self, desired: Desired, odin_api_root: str) -> dict[str, Any]:
        """What a worker of the release would see, as the program servicecheck prints it.

        Raises QsmrError if there can be no such worker, with the cause.
        """
        name = f"{self.host.compose_project}-check-{os.getpid()}"
        text = servicecheck.__loader__.get_source(servicecheck.__name__)  # type: ignore[union-attr]
        # Detached: Compose never gets to see the end of a container of Podman's.
        words = ("run", "--detach", "--no-deps", "--name", name, "--entrypoint", "python3", SERVICE)
        docker = self.host.docker
        with self._file(desired) as path, self._networks_as_before(desired):
            try:
                self._run(desired, path, (*words, "-c", text, odin_api_root))
                ended = docker.call("wait", name, timeout=TIMEOUT)
                said = docker.call("logs", name)
            finally:
                docker.call("rm", "--force", name)
        for line in said.out.splitlines():
            if line.startswith(servicecheck.MARK):
                seen: dict[str, Any] = json.loads(line[len(servicecheck.MARK) :])
                return seen
        raise QsmrError(redact(start_fault(ended if ended.code else said), desired.env))

    @contextmanager
    def _file(self, desired: Desired) -> Iterator[Path]:
        """The release's Compose file in a directory of its own beside the releases, while it is needed."""
        root = self.host.releases.root
        place = next((there for there in map(nearest, (root.parent, root)) if os.access(there, os.W_OK)), root)
        try:
            directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        except OSError as error:
            raise QsmrError(f"{place} cannot be written to: {why(error)}") from None
        try:
            (directory / COMPOSE_FILE).write_text(desired.files[COMPOSE_FILE], encoding="utf-8")
            yield directory / COMPOSE_FILE
        except OSError as error:
            raise QsmrError(f"{directory} cannot be written to: {why(error)}") from None
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    @contextmanager
    def _networks_as_before(self, desired: Desired) -> Iterator[None]:
        """A release of an older snapshot has a network of its project, which Compose makes and leaves."""
        mine = has_network(desired.files[COMPOSE_FILE]) and not self._networks()
        try:
            yield
        finally:
            if mine:
                remove_networks(self.host.docker, self.host.compose_project)

    def _networks(self) -> list[str]:
        return networks(self.host.docker, self.host.compose_project)

    def _run(self, desired: Desired, path: Path, words: tuple[str, ...]) -> Result:
        env = {**desired.env, **desired.limits.env}
        result = self.compose.run(self.host.compose_project, str(path), words, env, TIMEOUT)
        if result.code:
            said = result.err + result.out
            if any(path.name in line and re.search(UNSEEN, line, re.IGNORECASE) for line in said.splitlines()):
                raise QsmrError(
                    f"Compose does not see files in {self.host.releases.root.parent}: one from snap sees home "
                    "directories only; install Docker from your distribution, or set qsmr_host_dir to a directory of "
                    "the user's home"
                )
            raise QsmrError(redact(start_fault(result), env))
        return result


def start_fault(result: Result) -> str:
    """Why Compose cannot start a worker, by what was said; with what to do where the cause is a known one."""
    said = result.err + result.out
    for pattern, fault in KNOWN:
        if re.search(pattern, said, re.IGNORECASE):
            return f"{fault} (it says: {result.words})"
    return f"Compose cannot start a worker: {result.words}"


# How Compose says that it cannot read its file, and what engines and Compose say of what they lack, with what to do.
UNSEEN = r"no such file|not found|denied|cannot find|unable to find"
KNOWN = (
    (
        r"address pool|predefined address|free subnet",
        "Docker has no address range left for the network that this release needs: build the snapshot again (newer "
        "ones need none), or remove networks that nobody uses (docker network prune)",
    ),
    (
        r"network bridge not found|network \"?bridge\"? not found",
        "Docker has no bridge, which workers use: take bridge: none out of /etc/docker/daemon.json",
    ),
    (
        r"pull access denied|repository does not exist|no such image|find image|manifest unknown|pulling",
        "Compose asks another engine than docker does, which has no such image: unset DOCKER_HOST, or let both use one",
    ),
    (
        r"can't start new thread",
        "This engine is too old for the image, whose containers can start no threads: Docker 20.10.10 or newer can",
    ),
    (
        r"python3.*(executable file not found|no such file)|(executable file|no such file).*python3",
        "The image has no python3, which workers are written in: build the snapshot again",
    ),
)


def proxies_of(environ: Mapping[str, str]) -> dict[str, str]:
    """The proxies that Docker and Compose give to all containers of this user, as such a container's environment."""
    try:
        directory = Path(environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
        found = json.loads((directory / "config.json").read_text(encoding="utf-8"))["proxies"]
        own = found.get(environ.get("DOCKER_HOST", ""), found.get("default", {}))
        names = {"http_proxy": "httpProxy", "https_proxy": "httpsProxy", "no_proxy": "noProxy", "all_proxy": "allProxy"}
        return {name: str(own[key]) for name, key in names.items() if own.get(key)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError):
        return {}
