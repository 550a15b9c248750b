"""The Docker and Compose commands of a host: the only door to its engine.

Commands and not the engine's API, because a lab host promises the commands and Python's own library, no more. Runs on
lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

from .errors import QsmrError
from .names import worker_name

DOCKER_TIMEOUT = 120.0
# The driver that we say Podman has, whose store takes images only whole.
PODMAN = "podman"
# Where commands lie that a non-interactive SSH session or sudo may leave out of PATH.
USUAL_PATH = "/usr/local/bin:/usr/bin:/bin"
# A worker's container names its release by this variable (worker.env).
RELEASE_KEY = "QSMR_SNAPSHOT_ID"
HOSTNAME_KEY = "UWORKER_HOSTNAME"
# Seconds that a worker, told to stop, gives its job to end (worker contract: SIGTERM).
GRACE_KEY = "UWORKER_GRACE_PERIOD"
# Seconds after which it ends a job as failed; empty for never.
TIMEOUT_KEY = "UWORKER_JOB_TIMEOUT"


@dataclass(frozen=True)
class Result:
    """How a command ended. ``code`` is 127 when there is no such command."""

    code: int
    out: str
    err: str = ""

    @property
    def words(self) -> str:
        """The command's own last words, on one line."""
        lines = [line.strip() for line in (self.err.strip() or self.out.strip()).splitlines() if line.strip()]
        if lines[1:] and lines[-1] == "Encountered errors while bringing up the project.":
            lines.pop()  # Compose v1 has told before what they are
        return lines[-1] if lines else f"nothing, exit code {self.code}"


Runner = Callable[[Sequence[str], Mapping[str, str], float], Result]


def run_command(argv: Sequence[str], env: Mapping[str, str], timeout: float) -> Result:
    try:
        done = subprocess.run(  # noqa: S603  the commands are ours
            argv,
            env=dict(env),
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError:
        return Result(127, "", f"{argv[0]}: command not found")
    except subprocess.TimeoutExpired:
        return Result(124, "", f"no answer within {timeout:.0f} s")
    return Result(done.returncode, done.stdout, done.stderr)


Feeder = Callable[[Sequence[str], Mapping[str, str], float, Callable[[IO[bytes]], None]], Result]


def feed_command(
    argv: Sequence[str], env: Mapping[str, str], timeout: float, write: Callable[[IO[bytes]], None]
) -> Result:
    """Run a command that reads what ``write`` writes. If ``write`` raises, it ends without having seen an end."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(argv, env=dict(env), stdin=subprocess.PIPE, stdout=out, stderr=err)  # noqa: S603
        except FileNotFoundError:
            return Result(127, "", f"{argv[0]}: command not found")
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        try:
            if process.stdin:
                # What the command has to say about it matters more than that it reads no more.
                with suppress(BrokenPipeError):
                    write(process.stdin)
                with suppress(BrokenPipeError):
                    process.stdin.close()
            process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            timer.cancel()
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    if process.returncode < 0 and not texts[1]:
        return Result(124, "", f"ended by signal {-process.returncode} within {timeout:.0f} s")
    return Result(process.returncode, *texts)


Reader = Callable[[Sequence[str], Mapping[str, str]], AbstractContextManager[IO[bytes]]]


@contextmanager
def read_command(argv: Sequence[str], env: Mapping[str, str]) -> Iterator[IO[bytes]]:
    """The output of a command while it runs; it ends with the context. Raises QsmrError with its words if it fails."""
    with tempfile.TemporaryFile() as err:
        process = subprocess.Popen(argv, env=dict(env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err)  # noqa: S603
        try:
            if process.stdout:
                yield process.stdout
            code = process.wait(DOCKER_TIMEOUT)
        finally:
            process.kill()
            process.wait()
        err.seek(0)
        if code:
            raise QsmrError(explain(Result(code, "", err.read().decode(errors="replace"))))


@dataclass(frozen=True)
class Container:
    """A worker's container, as ``docker inspect`` shows it. ``health`` is "none" when it declares no health check.

    ``nano_cpus`` and ``memory`` (bytes) limit it; 0 is no limit.
    """

    id: str
    name: str
    state: str
    health: str
    health_output: str
    image_id: str
    image_name: str
    started: str
    hostname: str
    env: Mapping[str, str]
    nano_cpus: int = 0
    memory: int = 0

    @classmethod
    def from_inspect(cls, found: Mapping[str, Any]) -> Container:
        health = found["State"].get("Health") or {}
        log = health.get("Log") or []
        limits = found.get("HostConfig") or {}
        return cls(
            id=found["Id"],
            name=found["Name"].lstrip("/"),
            state=found["State"]["Status"],
            health=health.get("Status") or "none",
            health_output=log[-1].get("Output", "").strip() if log else "",
            image_id=found["Image"],
            image_name=found["Config"]["Image"],
            started=found["State"].get("StartedAt", ""),
            hostname=found["Config"].get("Hostname", ""),
            env=dict(line.split("=", 1) for line in found["Config"].get("Env") or [] if "=" in line),
            nano_cpus=limits.get("NanoCpus") or 0,
            memory=limits.get("Memory") or 0,
        )

    @property
    def release(self) -> str:
        """The snapshot that it runs; empty for a container that was not started from one of ours."""
        return self.env.get(RELEASE_KEY, "")

    @property
    def worker(self) -> str:
        """The name under which it claims jobs."""
        return worker_name(self.hostname, self.env.get(HOSTNAME_KEY, ""), self.env.get("UWORKER_CONTAINER_NAME", ""))

    @property
    def condition(self) -> str:
        """Health where there is some to speak of, else the state: "healthy", "starting", "exited", ..."""
        return self.health if self.state == "running" and self.health != "none" else self.state


class Docker:
    """Docker on this machine. ``run``, ``feed`` and ``read`` are the boundary that tests replace."""

    def __init__(
        self,
        run: Runner = run_command,
        environ: Mapping[str, str] | None = None,
        feed: Feeder = feed_command,
        read: Reader = read_command,
    ) -> None:
        self.run = run
        self.feed = feed
        self.read = read
        # A COMPOSE_FILE or COMPOSE_PROFILES of the user's own must not change what is ours.
        base = {k: v for k, v in (os.environ if environ is None else environ).items() if not k.startswith("COMPOSE_")}
        self.environ = {**base, "PATH": f"{base.get('PATH', '')}:{USUAL_PATH}".lstrip(":"), "LC_ALL": "C.UTF-8"}

    def call(self, *args: str, timeout: float = DOCKER_TIMEOUT) -> Result:
        return self.run(("docker", *args), self.environ, timeout)

    def load(self, write: Callable[[IO[bytes]], None], timeout: float) -> Result:
        """``docker load`` of the image archive that ``write`` writes."""
        return self.feed(("docker", "load", "--quiet"), self.environ, timeout, write)

    def saved(self, image: str) -> AbstractContextManager[IO[bytes]]:
        """``docker save`` of an image."""
        return self.read(("docker", "save", image), self.environ)

    def out(self, what: str, *args: str, timeout: float = DOCKER_TIMEOUT) -> str:
        """The standard output of ``docker ARGS``. Raises QsmrError with ``what`` failed and what Docker said."""
        result = self.call(*args, timeout=timeout)
        if result.code:
            raise QsmrError(f"{what} failed: {explain(result)}")
        return result.out

    def info(self) -> dict[str, Any]:
        """``docker info``. Raises QsmrError that says why this user cannot use Docker here."""
        result = self.call("info", "--format", "{{json .}}")
        try:
            info: dict[str, Any] = json.loads(result.out)
        except ValueError:
            info = {}
        if "host" in info and "store" in info:
            info = podman_info(info)
        errors = info.get("ServerErrors") or []
        if result.code or errors or not info:
            raise QsmrError(explain(Result(result.code, "", errors[-1]) if errors else result))
        return info

    def containers(self, compose_project: str, oneoff: bool = False) -> list[Container]:
        """The worker containers of a Compose project, running or not, by name; or those started beside them."""
        ids = self.out(
            "Listing the containers",
            "ps", "--all", "--quiet", "--no-trunc",
            "--filter", f"label=com.docker.compose.project={compose_project}",
        ).split()  # fmt: skip
        if not ids:
            return []
        # Not an error if one of them goes away meanwhile: the others are printed all the same.
        result = self.call("container", "inspect", *ids)
        if result.code and not is_absent(result):
            raise QsmrError(f"Inspecting the containers failed: {explain(result)}")
        # podman-compose has no such label: without it is a worker, too.
        meant = [found for found in json.loads(result.out or "[]") if is_oneoff(found) == oneoff]
        return sorted(map(Container.from_inspect, meant), key=lambda found: found.name)

    def image(self, name: str) -> dict[str, Any] | None:
        """``docker image inspect`` of a name or id; None if there is no such image."""
        result = self.call("image", "inspect", name)
        if result.code and not is_absent(result):
            raise QsmrError(f"Inspecting the image {name} failed: {explain(result)}")
        found: list[dict[str, Any]] = json.loads(result.out or "[]")
        return found[0] if found else None

    def images(self) -> list[dict[str, Any]]:
        """Every image of the host, untagged ones too. What a build left between two steps is part of another one."""
        ids = sorted(set(self.out("Listing the images", "image", "ls", "--quiet", "--no-trunc").split()))
        if not ids:
            return []
        found: list[dict[str, Any]] = json.loads(self.out("Inspecting the images", "image", "inspect", *ids))
        return found

    def last_lines(self, container: Container, number: int) -> list[str]:
        """The container's last log lines, without the secrets of its environment."""
        result = self.call("logs", "--tail", str(number), container.id)
        return redact(result.out + result.err, container.env).splitlines()[-number:]


def is_oneoff(found: Mapping[str, Any]) -> bool:
    """Whether an inspected container is one of ``docker compose run``, and no worker."""
    return bool((found["Config"].get("Labels") or {}).get("com.docker.compose.oneoff") == "True")


def is_absent(result: Result) -> bool:
    """Whether Docker, or Podman in its place, says that there is no such image or container."""
    words = ("no such image", "no such container", "image not known", "no container with")
    return any(word in result.err.lower() for word in words)


def podman_info(info: Mapping[str, Any]) -> dict[str, Any]:
    """What Podman tells of itself, as Docker would put it. Its Compose is a command of its own.

    ``Socket`` is the path of the socket that serves this Podman; empty if none does.
    """
    host = info["host"]
    socket = host.get("remoteSocket") or {}
    return {
        "DockerRootDir": info["store"]["graphRoot"],
        "Driver": PODMAN,
        "Architecture": host["arch"],
        "ServerVersion": f"podman {info['version']['Version']}",
        "NCPU": host.get("cpus", 0),
        "Rootless": bool((host.get("security") or {}).get("rootless")),
        "Socket": str(socket.get("path", "")).removeprefix("unix://") if socket.get("exists") else "",
    }


def redact(text: str, env: Mapping[str, str]) -> str:
    """``text`` without the passwords of ``env``: whatever a container or Compose prints, they stay where they are."""
    for key, value in env.items():
        if key.endswith("_PASSWORD") and value:
            text = text.replace(value, "********")
    return text


def explain(result: Result) -> str:
    """What Docker said, and what to do where the cause is a known one."""
    words = result.words
    if result.code == 127:
        return "Docker is not installed: install it, or add the host to a play with the role docker_engine"
    if "permission denied" in words.lower() and "sock" in words.lower():
        return "this user may not use Docker: add the user to the group docker, or set ansible_become in the inventory"
    if "cannot connect to the docker daemon" in words.lower() or "connection refused" in words.lower():
        return "the Docker engine does not run: start it (systemctl start docker)"
    return words
