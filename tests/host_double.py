"""A lab host whose ``docker`` and ``docker-compose`` are played by Python: images and containers."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import IO, Any

from image_archives import image_id
from qsmr import servicecheck
from qsmr.dockercli import Docker, Result
from qsmr.errors import QsmrError
from qsmr.hostfit import Limits

LAYERS = ["sha256:base", "sha256:code"]


def snapshot(snapshot_id: str = "r1", layers: Sequence[str] = LAYERS, size: int = 10) -> dict[str, Any]:
    """The parts of a snapshot.json that hosts read. Every layer has ``size`` bytes."""
    return {
        "snapshot_id": snapshot_id,
        "inputs": f"sha256:inputs-{snapshot_id}",
        "image": {
            "name": f"qsmr_snapshot_demo:{snapshot_id}",
            "id": f"sha256:{snapshot_id}",
            "architecture": "amd64",
            "layers": [{"diff_id": layer, "size": size} for layer in layers],
        },
        "archive": {"file": "docker_image", "size": 7, "sha256": "0" * 64},
    }


def image(image_id: str, layers: Sequence[str] = LAYERS, inputs: str = "") -> dict[str, Any]:
    """``docker image inspect`` of an image."""
    labels = {"org.qsmr.fleet.inputs": inputs} if inputs else None
    return {"Id": image_id, "RootFS": {"Layers": list(layers)}, "Config": {"Labels": labels}}


@dataclass
class HostDouble:
    """``images`` by name. ``condition`` is how containers turn out that start; ``commands`` is what was called.

    ``seen`` is what a container sees that is asked for the services.
    """

    images: dict[str, dict[str, Any]] = field(default_factory=dict)
    containers: list[dict[str, Any]] = field(default_factory=list)
    others: list[dict[str, Any]] = field(default_factory=list)
    """Containers that are not of the project."""
    condition: str = "healthy"
    loads: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    fails: Mapping[str, str] = field(default_factory=dict)
    architecture: str = "x86_64"
    store: str = "overlay2"
    layout: str = "blobs/sha256/{}"
    loaded: dict[str, bytes] = field(default_factory=dict)
    networks: list[str] = field(default_factory=list)
    seen: dict[str, Any] = field(default_factory=lambda: {"services": {}, "mtu": 1500, "nameservers": []})
    commands: list[str] = field(default_factory=list)
    numbers: count[int] = field(default_factory=lambda: count(1))

    @property
    def docker(self) -> Docker:
        return Docker(self.run, {"PATH": "/bin"}, self.feed, self.read)

    @property
    def changes(self) -> list[str]:
        """The commands that change something, without their options; not those of the container that asks."""
        verbs = ("up", "restart", "stop", "rm", "load", "tag")
        commands = [line for line in self.commands if "-check-" not in line]
        return [verb for line in commands for verb in verbs if f" {verb} " in f" {line} "]

    def run(self, argv: Sequence[str], env: Mapping[str, str], timeout: float) -> Result:
        line = " ".join(argv)
        self.commands.append(line)
        for part, words in self.fails.items():
            if part in line:
                return Result(1, "", words)
        return self.compose(line, env) if argv[0] == "docker-compose" else self.docker_command(line, argv[1:])

    def feed(
        self, argv: Sequence[str], env: Mapping[str, str], timeout: float, write: Callable[[IO[bytes]], None]
    ) -> Result:
        """As docker load does, with layers known by what lies below them; ``loaded`` is what the archive held."""
        stream = io.BytesIO()
        write(stream)
        result = self.run(argv, env, timeout)
        if result.code or self.loads:
            return result
        stream.seek(0)
        with tarfile.open(fileobj=stream) as tar:
            self.loaded = {member.name: tar.extractfile(member).read() for member in tar}
        [manifest] = json.loads(self.loaded["manifest.json"])
        config = self.loaded[manifest["Config"]]
        diff_ids = json.loads(config)["rootfs"]["diff_ids"]
        for number, name in enumerate(manifest["Layers"]):
            known = self.store == "overlay2" and any(
                found["RootFS"]["Layers"][: number + 1] == diff_ids[: number + 1] for found in self.images.values()
            )
            if not known and name not in self.loaded:
                return Result(1, "", f"open /var/lib/docker/tmp/docker-import-1/{name}: no such file or directory")
            if not known and f"sha256:{hashlib.sha256(self.loaded[name]).hexdigest()}" != diff_ids[number]:
                return Result(1, "", "invalid diffID")
        labels = json.loads(config)["config"]["Labels"]
        found = {"Id": image_id(config), "RootFS": {"Layers": diff_ids}, "Config": {"Labels": labels}}
        [name] = manifest["RepoTags"] or [found["Id"]]
        self.images[name] = found
        return Result(0, f"Loaded image: {name}")

    @contextmanager
    def read(self, argv: Sequence[str], env: Mapping[str, str]) -> Iterator[IO[bytes]]:
        """As docker save does, for an image that was loaded whole with layers named as ``layout`` says."""
        result = self.run(argv, env, 1)
        found = next(found for found in self.images.values() if found["Id"] == argv[-1])
        contents = {f"sha256:{hashlib.sha256(content).hexdigest()}": content for content in self.loaded.values()}
        layers = found["RootFS"]["Layers"] if contents.keys() >= set(found["RootFS"]["Layers"]) else []
        names = {layer: self.layout.format(layer[7:]) for layer in layers}
        members = {names[layer]: contents[layer] for layer in names}
        members["manifest.json"] = json.dumps([{"Layers": list(names.values())}]).encode()
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        stream.seek(0)
        yield stream
        if result.code:
            raise QsmrError(result.words)

    def docker_command(self, line: str, words: Sequence[str]) -> Result:
        if words[0] == "info":
            status = [["driver-type", "io.containerd.snapshotter.v1"]] if self.store == "containerd" else []
            answer = {"DockerRootDir": "/", "Architecture": self.architecture, "Driver": self.store}
            return Result(0, json.dumps({**answer, "DriverStatus": status, "ServerVersion": "26.1.5"}))
        if words[0] == "ps":
            shown = self.containers if "--filter" in words else [*self.containers, *self.others]
            return Result(0, "\n".join(container["Id"] for container in shown))
        if words[:2] == ("container", "inspect") and "--format" in words:
            return Result(0, "\n".join(c["Image"] for c in [*self.containers, *self.others] if c["Id"] in words))
        if words[:2] == ("container", "inspect"):
            return Result(0, json.dumps([c for c in self.containers if c["Id"] in words]))
        if words[:2] == ("image", "ls") and "--format" in words:
            repository = words[-1].removeprefix("reference=")
            tags = [name.rpartition(":") for name in self.images]
            return Result(0, "\n".join(tag for name, _colon, tag in tags if name == repository))
        if words[:2] == ("image", "rm"):
            self.images.pop(words[2])
        if words[:2] == ("image", "ls"):
            return Result(0, "\n".join(found["Id"] for found in self.images.values()))
        if words[:2] == ("image", "inspect"):
            named = [found for name, found in self.images.items() if name in words or found["Id"] in words]
            return Result(0, json.dumps(named)) if named else Result(1, "[]", "Error: No such image: it")
        if words[:2] == ("network", "ls"):
            return Result(0, "\n".join(self.networks))
        if words[:2] == ("network", "rm"):
            self.networks = [name for name in self.networks if name not in words]
        if words[0] == "tag":
            self.images[words[2]] = next(found for found in self.images.values() if found["Id"] == words[1])
        if words[0] == "load":
            self.images.update(self.loads)
        if words[0] == "restart":
            for container in self.containers:
                if container["Id"] in words:
                    container["State"] = state(self.condition)
        if words[0] == "rm":
            self.containers = [container for container in self.containers if container["Id"] not in words]
        if words[0] == "logs" and "-check-" in line:
            return Result(0, f"{servicecheck.MARK}{json.dumps(self.seen)}\n")
        return Result(0, "log line\n" if words[0] == "logs" else "")

    def compose(self, line: str, env: Mapping[str, str]) -> Result:
        """As Compose does: keep containers of this image and environment, recreate others, add and remove some."""
        if " run " in line:
            return Result(0, "qsmr-demo-check-1\n")
        if " up " not in line:
            return Result(0, "docker-compose version 1.29.2, build unknown\n")
        name = f"qsmr_snapshot_demo:{env['QSMR_SNAPSHOT_ID']}"
        wanted = sorted(f"{key}={value}" for key, value in env.items() if key.startswith(("UWORKER_", "QSMR_")))
        limits = Limits(env["UWORKER_CPUS"], env["UWORKER_MEMORY"])
        made_of = {
            "Image": self.images[name]["Id"],
            "HostConfig": {"NanoCpus": limits.nano_cpus, "Memory": limits.memory_bytes},
        }
        fitting = [c for c in self.containers if c | made_of == c and c["Config"]["Env"] == wanted]
        number = int(line.rpartition("=")[2])
        self.containers = fitting[:number]
        while len(self.containers) < number:
            new = next(self.numbers)
            self.containers.append(
                {
                    "Id": f"id{new}",
                    "Name": f"/worker-{new}",
                    **made_of,
                    "State": state(self.condition),
                    "Config": {"Image": name, "Hostname": f"{new}", "Env": wanted},
                }
            )
        return Result(0, "")


def state(condition: str) -> dict[str, Any]:
    """``State`` of a container in some condition: a health, or a state of Docker's."""
    if condition in ("healthy", "unhealthy", "starting"):
        return {"Status": "running", "Health": {"Status": condition, "Log": [{"Output": "the check's words"}]}}
    return {"Status": condition}
