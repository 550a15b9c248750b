"""The workers of one project on one host: what should run is compared with what runs, and only what differs is done.

Everything is decided from the state of the host, so that any run may be the one after a crash. Runs on lab hosts:
Python 3.9 and the standard library.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from .dockercli import Container, Docker, redact
from .errors import QsmrError
from .hostcompose import Compose, has_network, remove_networks
from .hostfit import Limits, checked_job_timeout, host_cores, host_memory, worker_count
from .hostimage import Wanted
from .hostpaths import why
from .hoststate import Desired, Found, compare, compare_settings
from .release import COMPOSE_FILE, ENV_FILE, MANIFEST, Releases

SERVICE = "uworker"
# A worker finishes its job at hand or gives it back; Docker kills it only when it has had time for both. Seconds.
GIVING_BACK = 15
# Compose gets as long as its containers may take to stop, and this for itself, in seconds.
COMPOSE_TIMEOUT = 300.0
LONGEST_PAUSE = 2.0
LOG_LINES = 20
NO_IMAGE = Wanted("", "", (), "")
# Conditions that Compose leaves alone: only a restart helps.
STUCK = ("unhealthy", "restarting", "paused", "running")
# States that last, or come back when the host starts again, until the container is stopped.
ENDLESS = ("running", "restarting", "paused")


def desired_of(host: WorkerHost, parameters: Mapping[str, Any]) -> Desired:
    """What the parameters of a module ask for: a snapshot's content, or a release that is on the host."""
    desired = Desired(
        compose_project=parameters["compose_project"],
        snapshot_id="",
        image=NO_IMAGE,
        files={},
        hostname=parameters["hostname"],
        count=worker_count(parameters["count"], host_cores(), host_memory()),
        drain_timeout=parameters["drain_timeout"],
        limits=Limits.checked(parameters["cpus"], parameters["memory"]),
        job_timeout=parameters["job_timeout"],
    )
    checked_job_timeout(desired.job_timeout)
    snapshot = parameters["snapshot"]
    if snapshot is None:
        return host.installed(desired, host.releases.named(parameters["release"]))
    files = {**parameters["files"], ENV_FILE: parameters["worker_env"]}
    return replace(desired, snapshot_id=snapshot["snapshot_id"], image=Wanted.from_snapshot(snapshot), files=files)


class Sick(QsmrError):
    """Workers are not healthy. ``check`` is the first one's check in a line, ``log`` its last lines."""

    def __init__(self, message: str, check: str, log: Sequence[str]) -> None:
        super().__init__(message)
        self.check = check
        self.log = list(log)


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
        self._seen: set[str] = set()

    def containers(self) -> list[Container]:
        found = self.docker.containers(self.compose_project)
        self._seen |= {container.worker for container in found}
        return found

    def gone(self) -> list[str]:
        """The names of workers that were seen here and are no more; none while the engine does not tell."""
        try:
            return sorted(self._seen - {container.worker for container in self.containers()})
        except QsmrError:
            return []

    def find(self, desired: Desired) -> Found:
        image = self.docker.image(desired.image.name)
        return Found(
            release=self.releases.current,
            stable=self.releases.stable,
            differing_files=self.releases.differing(desired.snapshot_id, desired.files),
            image_id=str(image["Id"]) if image and desired.image.is_(image) else "",
            containers=self.containers(),
        )

    def installed(self, like: Desired, snapshot_id: str) -> Desired:
        """A release that is on the host already, with everything else ``like`` this. Raises QsmrError if it is not."""
        files = self.releases.read(snapshot_id)
        try:
            image = Wanted.from_snapshot(json.loads(files[MANIFEST]))
        except (ValueError, LookupError, TypeError):
            raise QsmrError(f"Release {snapshot_id} on this host has a damaged {MANIFEST}") from None
        return replace(like, snapshot_id=snapshot_id, image=image, files=files)

    def fallback(self, desired: Desired, found: Found, hold: bool = False) -> Desired | None:
        """What to go back to if ``desired`` does not get healthy; None if there is nothing else.

        That is the last release that proved itself, or this one as its files are before they change; with ``hold``,
        when this one has just proved itself in the same rollout, the one before it.
        """
        if found.release == found.stable == desired.snapshot_id and not hold:
            try:
                return self.installed(desired, desired.snapshot_id) if found.differing_files else None
            except QsmrError:
                return None
        before = self.releases.before(desired.snapshot_id)
        return self.installed(desired, before) if before else None

    def converge(
        self,
        desired: Desired,
        found: Found,
        healthy_deadline: float,
        min_healthy_time: float = 0.0,
        hold: bool = False,
        mark: str = "stable",
    ) -> Sequence[Container]:
        """Have the host run what is desired, healthy, and mark it so, as the options of the module qsmr_worker say."""
        differences = compare(desired, found)
        running = [line for line in differences if not line.startswith("stable release")]
        if running and hold:
            check = "; ".join(running)
            raise Sick(f"Release {desired.snapshot_id} did not stay as it was: {check}", check, self._log_of(found))
        if running:
            self.start(desired, found)
        workers = found.containers
        if differences or any(worker.condition != "healthy" for worker in workers):
            workers = self.wait_healthy(desired, healthy_deadline, min_healthy_time)
        if mark != "none" and self.releases.stable != desired.snapshot_id:
            (self.releases.confirm if mark == "stable" else self.releases.restore)(desired.snapshot_id)
        return workers

    def start(self, desired: Desired, found: Found) -> None:
        """Bring the host from ``found`` to ``desired``, short of waiting for health."""
        if not found.image_id:
            raise QsmrError(f"The host has no image {desired.image.name}: put the snapshot on it first (role push)")
        if found.release not in ("", desired.snapshot_id) and not found.stable:
            # Of a host that no rollout has seen yet: what runs is what to go back to.
            self.releases.confirm(found.release)
        if found.differing_files:
            self.releases.write(desired.snapshot_id, {name: desired.files[name] for name in found.differing_files})
        # Another version of Compose would make the workers anew that there are, where only their number differs.
        only_number = all(line.startswith("workers: ") for line in compare_settings(desired, found))
        self._compose_up(desired, "--no-recreate" if only_number else "")
        self.releases.switch(desired.snapshot_id)
        if not has_network(desired.files[COMPOSE_FILE]):
            with suppress(QsmrError):  # it is no part of this release, and stop.yml removes it, too
                remove_networks(self.docker, self.compose_project)
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

    def _compose_up(self, desired: Desired, option: str = "") -> None:
        words = (
            "up", "--detach", "--no-build", "--remove-orphans",
            "--timeout", str(self.stop_timeout),
            *filter(None, [option]),
            "--scale", f"{SERVICE}={desired.count}",
        )  # fmt: skip
        result = Compose.of(self.docker, self.docker.info()).run(
            self.compose_project,
            str(self.releases.directory(desired.snapshot_id) / COMPOSE_FILE),
            words,
            {**desired.env, **desired.limits.env},
            self.stop_timeout + COMPOSE_TIMEOUT,
        )
        if result.code:
            raise QsmrError(
                f"Compose did not start release {desired.snapshot_id}: {redact(result.words, desired.env)} "
                f"({self._what_runs(desired)})"
            )

    def _what_runs(self, desired: Desired) -> str:
        """What runs after Compose has failed, in words; ``current`` follows if that is what is desired."""
        try:
            running = {container.release for container in self.containers()}
            if self.releases.current and running == {desired.snapshot_id}:
                self.releases.switch(desired.snapshot_id)
        except QsmrError as error:
            return f"what runs now is not known: {error}"
        return f"the host's workers run {', '.join(sorted(running)) or 'nothing'}"

    def wait_healthy(self, desired: Desired, deadline: float, settle: float = 0.0) -> list[Container]:
        """Wait until every worker is healthy, which is more than running, and stays so for ``settle`` seconds.

        Raises Sick if they are not healthy ``deadline`` seconds from now, with each one's check and last lines.
        """
        end = self.clock() + deadline
        pause = 0.1
        since, known = 0.0, None
        while True:
            trouble = None
            try:
                containers = self.containers()
            except QsmrError as error:
                # An engine that restarts has its workers back in a moment.
                containers, trouble = [], error
            sick = [container for container in containers if container.condition != "healthy"]
            now = self.clock()
            # A worker that was restarted in between has to prove itself anew.
            runs = {container.id: container.started for container in containers}
            if trouble or sick or len(containers) != desired.count:
                known = None
            elif runs != known:
                since, known = now, runs
            if known is not None and now - since >= settle:
                return containers
            if now >= end and (known is None or since > end):
                raise trouble or self._sick(desired, containers, sick, deadline)
            self.sleep(min(pause, max(end - now, since + settle - now, 0.01)))
            pause = min(pause * 1.5, LONGEST_PAUSE)

    def _sick(
        self, desired: Desired, containers: Sequence[Container], sick: Sequence[Container], deadline: float
    ) -> Sick:
        healthy = len(containers) - len(sick)
        lines = [
            f"Release {desired.snapshot_id} is not healthy: {healthy} of {desired.count} workers were healthy "
            f"within {deadline:.0f} s."
        ]
        evidence = []
        for container in sick:
            said = redact(container.health_output, {**container.env, **desired.env})
            condition = "without a health check" if container.condition == "running" else container.condition
            check = f"{container.name} is {condition}" + (f", its check says: {said}" if said else "")
            log = self.docker.last_lines(container, LOG_LINES)
            evidence.append((check, log))
            lines += [check, *(f"  {line}" for line in log)]
        return Sick("\n".join(lines), *(evidence[0] if evidence else (lines[0], [])))

    def _log_of(self, found: Found) -> list[str]:
        """The last lines of the first worker that is not healthy."""
        sick = [container for container in found.containers if container.condition != "healthy"]
        return self.docker.last_lines(sick[0], LOG_LINES) if sick else []

    def take_back(self, found: Found, fallback: Desired | None, deadline: float) -> tuple[str, bool]:
        """Undo a switch: what the host runs now, in a sentence, and whether that is as it was.

        A host that had no release before runs none after it: a bad worker would go on to take jobs.
        """
        if fallback is None and (found.release or found.stable):
            return "Nothing else ran here before: it is left as it is.", False
        try:
            self._await_engine(deadline)
            if fallback is None:
                self._stop_all()
                self.releases.forget_current()
                return "Its workers were stopped: no release ran here before.", True
            self.start(fallback, self.find(fallback))
            self.wait_healthy(fallback, deadline)
            self.releases.restore(fallback.snapshot_id)
        except QsmrError as error:
            return f"Taking the host back failed, too: {error}", False
        return f"The host is back on {fallback.snapshot_id}, which is healthy.", True

    def _await_engine(self, deadline: float) -> None:
        """Wait for an engine that restarts: it may be the reason why the host is taken back."""
        end = self.clock() + deadline
        while True:
            try:
                self.docker.info()
                return
            except QsmrError:
                if self.clock() >= end:
                    raise
            self.sleep(LONGEST_PAUSE)

    def _stop_all(self) -> None:
        ids = [container.id for container in self.containers()]
        if ids:
            self._let_end("Stopping the workers", "stop", *ids)
            self.docker.out("Removing the workers", "rm", *ids)

    def stop(self) -> None:
        """Let the workers end, each after its job at hand or ``drain_timeout``. They and the release stay there."""
        ids = [container.id for container in self.containers() if container.state in ENDLESS]
        if ids:
            self._let_end("Stopping the workers", "stop", *ids)

    def remove(self) -> None:
        """Stop the workers, each after its job at hand or ``drain_timeout``, and remove them and all releases."""
        self._stop_all()
        beside = [container.id for container in self.docker.containers(self.compose_project, oneoff=True)]
        if beside:
            self.docker.out("Removing what was started beside the workers", "rm", "--force", *beside)
        remove_networks(self.docker, self.compose_project)
        try:
            if self.releases.root.exists():
                shutil.rmtree(self.releases.root)
        except OSError as error:
            raise QsmrError(f"{self.releases.root} cannot be removed: {why(error)}") from None
