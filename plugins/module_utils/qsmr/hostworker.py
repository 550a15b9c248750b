"""The workers of one project on one host: what should run is compared with what runs, and only what differs is done.

Everything is decided from the state of the host, so that any run may be the one after a crash. Runs on lab hosts:
Python 3.9 and the standard library.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .dockercli import GRACE_KEY, HOSTNAME_KEY, RELEASE_KEY, Container, Docker, redact
from .errors import QsmrError
from .hostimage import Wanted
from .hostpaths import why
from .release import COMPOSE_FILE, ENV_FILE, Releases, parse_env

SERVICE = "uworker"
# A worker finishes its job at hand or gives it back; Docker kills it only when it has had time for both. Seconds.
GIVING_BACK = 15
# Compose gets as long as its containers may take to stop, and this for itself, in seconds.
COMPOSE_TIMEOUT = 300.0
LONGEST_PAUSE = 2.0
LOG_LINES = 20
# Conditions that pass by themselves, or that are what we want.
FINE = ("healthy", "starting")
# Conditions that Compose leaves alone: only a restart helps.
STUCK = ("unhealthy", "restarting", "paused", "running")


@dataclass(frozen=True)
class Desired:
    """What should run. ``files`` are the release's, by name, worker.env among them."""

    compose_project: str
    snapshot_id: str
    image: Wanted
    files: Mapping[str, str]
    hostname: str
    count: int
    drain_timeout: int

    @property
    def env(self) -> dict[str, str]:
        own = {HOSTNAME_KEY: self.hostname, GRACE_KEY: str(self.drain_timeout)}
        return {**parse_env(self.files[ENV_FILE]), **own}

    def view(self) -> dict[str, Any]:
        """What ``--diff`` shows."""
        return {"release": self.snapshot_id, "images": [self.image.name], "workers": self.count, "sick": []}


@dataclass(frozen=True)
class Found:
    """What is there. ``image_id`` is empty when the host lacks the image."""

    release: str
    differing_files: Sequence[str]
    image_id: str
    containers: Sequence[Container]

    def view(self) -> dict[str, Any]:
        return {
            "release": self.release,
            "images": sorted({container.image_name for container in self.containers}),
            "workers": len(self.containers),
            "sick": [container.name for container in self.containers if container.condition not in FINE],
        }


def compare(desired: Desired, found: Found) -> list[str]:
    """The differences, one a line, without the values of the environment."""
    sick = [f"container {c.name}: {c.condition}" for c in found.containers if c.condition not in FINE]
    return compare_settings(desired, found) + sick


def compare_settings(desired: Desired, found: Found) -> list[str]:
    """The differences that ``docker compose up`` settles."""
    lines = []
    if found.release != desired.snapshot_id:
        lines.append(f"release: {found.release or 'none'} -> {desired.snapshot_id}")
    else:
        lines += [f"{name}: differs" for name in found.differing_files]
    names = {container.image_name for container in found.containers if container.image_id != found.image_id}
    lines += [f"image: {name} -> {desired.image.name}" for name in sorted(names)]
    env = desired.env
    keys = {key for container in found.containers for key in env if container.env.get(key) != env[key]}
    if found.release != desired.snapshot_id:
        keys.discard(RELEASE_KEY)
    lines += [f"{ENV_FILE}: key {key} changed" for key in sorted(keys)]
    if len(found.containers) != desired.count:
        lines.append(f"workers: {len(found.containers)} -> {desired.count}")
    return lines


class WorkerHost:
    """One project's workers on this host. ``clock`` and ``sleep`` are what tests replace."""

    def __init__(
        self,
        docker: Docker,
        releases: Releases,
        compose_project: str,
        drain_timeout: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.docker = docker
        self.releases = releases
        self.compose_project = compose_project
        self.stop_timeout = drain_timeout + GIVING_BACK
        self.clock = clock
        self.sleep = sleep

    def containers(self) -> list[Container]:
        return self.docker.containers(self.compose_project)

    def find(self, desired: Desired) -> Found:
        image = self.docker.image(desired.image.name)
        return Found(
            release=self.releases.current,
            differing_files=self.releases.differing(desired.snapshot_id, desired.files),
            image_id=str(image["Id"]) if image and desired.image.is_(image) else "",
            containers=self.containers(),
        )

    def start(self, desired: Desired, found: Found) -> None:
        """Bring the host from ``found`` to ``desired``, short of waiting for health."""
        if not found.image_id:
            raise QsmrError(f"The host has no image {desired.image.name}: put the snapshot on it first (role push)")
        if found.differing_files:
            self.releases.write(desired.snapshot_id, {name: desired.files[name] for name in found.differing_files})
        self._compose_up(desired)
        self.releases.switch(desired.snapshot_id)
        now = self.find(desired)
        left = compare_settings(desired, now)
        if left:
            raise QsmrError(f"Compose has not taken up all of the release, {'; '.join(left)}: is it in {COMPOSE_FILE}?")
        known = {container.id for container in found.containers}
        stuck = [c.id for c in now.containers if c.id in known and c.condition in STUCK]
        if stuck:
            self._let_end("Restarting the workers", "restart", *stuck)

    def _let_end(self, what: str, verb: str, *ids: str) -> None:
        """Stop or restart workers, which get the time to end their jobs."""
        timeout = self.stop_timeout + COMPOSE_TIMEOUT
        self.docker.out(what, verb, "-t", str(self.stop_timeout), *ids, timeout=timeout)

    def _compose_up(self, desired: Desired) -> None:
        command, _ = self.docker.compose(self.docker.info())
        result = self.docker.run(
            (
                *command,
                "--project-name", self.compose_project,
                "--file", str(self.releases.directory(desired.snapshot_id) / COMPOSE_FILE),
                "up", "--detach", "--no-build", "--remove-orphans",
                "--timeout", str(self.stop_timeout),
                "--scale", f"{SERVICE}={desired.count}",
            ),
            {**self.docker.environ, **desired.env},
            self.stop_timeout + COMPOSE_TIMEOUT,
        )  # fmt: skip
        if result.code:
            running = {container.release for container in self.containers()}
            if self.releases.current and running == {desired.snapshot_id}:
                self.releases.switch(desired.snapshot_id)
            raise QsmrError(
                f"Compose did not start release {desired.snapshot_id}: {redact(result.words, desired.env)} "
                f"(the host's workers run {', '.join(sorted(running)) or 'nothing'})"
            )

    def wait_healthy(self, desired: Desired, deadline: float, before: str) -> list[Container]:
        """Wait until every worker is healthy; running is not enough. ``before`` is the release that ran before.

        Raises QsmrError after ``deadline`` seconds, with each sick worker's health check and last lines.
        """
        end = self.clock() + deadline
        pause = 0.1
        while True:
            containers = self.containers()
            sick = [container for container in containers if container.condition != "healthy"]
            if not sick and len(containers) == desired.count:
                return containers
            if self.clock() >= end:
                raise QsmrError(self._sick_message(desired, containers, sick, deadline, before))
            self.sleep(min(pause, max(end - self.clock(), 0.01)))
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def _sick_message(
        self, desired: Desired, containers: Sequence[Container], sick: Sequence[Container], deadline: float, before: str
    ) -> str:
        healthy = len(containers) - len(sick)
        kept = f"; {before}, which ran before, is still on the host" if before not in ("", desired.snapshot_id) else ""
        lines = [
            f"Release {desired.snapshot_id} is running but not healthy: {healthy} of {desired.count} workers were "
            f"healthy within {deadline:.0f} s{kept}."
        ]
        for container in sick:
            said = redact(container.health_output, {**container.env, **desired.env})
            condition = "without a health check" if container.condition == "running" else container.condition
            lines.append(f"{container.name} is {condition}" + (f", its check says: {said}" if said else ""))
            lines += [f"  {line}" for line in self.docker.last_lines(container, LOG_LINES)]
        return "\n".join(lines)

    def remove(self) -> None:
        """Stop the workers, each after its job at hand or ``drain_timeout``, and remove them and all releases."""
        ids = [container.id for container in self.containers()]
        if ids:
            self._let_end("Stopping the workers", "stop", *ids)
            self.docker.out("Removing the workers", "rm", *ids)
        label = f"label=com.docker.compose.project={self.compose_project}"
        networks = self.docker.out("Listing the networks", "network", "ls", "--quiet", "--filter", label).split()
        if networks:
            self.docker.out("Removing the network", "network", "rm", *networks)
        try:
            if self.releases.root.exists():
                shutil.rmtree(self.releases.root)
        except OSError as error:
            raise QsmrError(f"{self.releases.root} cannot be removed: {why(error)}") from None
