"""Whole snapshots with small made-up images, and hosts to push them to: no Docker needed."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from pathlib import Path
from typing import Any

from image_archives import write_archive
from qsmr.archive import file_sha256, read_image
from qsmr.hostimage import CONTAINERD, HostImage
from qsmr.hostlayers import Lacking
from qsmr.pushplan import HostPlan, plan
from qsmr.release import Releases


def files(seed: int, number: int = 8, size: int = 40_000) -> dict[str, bytes]:
    """Files of words, some of them equal: text that compresses about as code does."""
    source = random.Random(seed)
    words = [f"{source.getrandbits(40):x}" for _ in range(2000)]
    return {f"f{n}": " ".join(source.choices(words, k=size // 11)).encode() for n in range(number)}


def layer(content: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in sorted(content.items()):
            member = tarfile.TarInfo(f"qsmr/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def write_snapshot(directory: Path, number: int, layers: list[bytes], base_layers: int | None = None) -> Path:
    """The snapshot ``number`` of project demo in ``directory``, with an image of these layers."""
    snapshot_id = f"251101-{number:010d}"
    target = directory / f"qsmr_snapshot_demo_251101_{number + 1}"
    target.mkdir(parents=True)
    name = f"qsmr_snapshot_demo:{snapshot_id}"
    inputs = f"sha256:{snapshot_id}"
    write_archive(target / "docker_image", name, layers, {"org.qsmr.fleet.inputs": inputs})
    image = read_image(target / "docker_image")
    manifest: dict[str, Any] = {
        "format": 1,
        "project": "demo",
        "odin_project": "demo",
        "snapshot_id": snapshot_id,
        "created": f"2025-11-01T00:00:{number:02d}Z",
        "image": {
            "name": name,
            "id": image.id,
            "architecture": "amd64",
            "size": image.size,
            "layers": [{"diff_id": found.diff_id, "size": found.size} for found in image.layers],
            **({} if base_layers is None else {"base_layers": base_layers}),
        },
        "archive": {
            "file": "docker_image",
            "size": (target / "docker_image").stat().st_size,
            "sha256": file_sha256(target / "docker_image"),
        },
        "inputs": inputs,
    }
    texts = {"docker-compose.yml": "", "start_worker.sh": "", "snapshot.json": json.dumps(manifest)}
    sums = {"docker_image": manifest["archive"]["sha256"]}
    for file_name, text in texts.items():
        (target / file_name).write_text(text)
        sums[file_name] = hashlib.sha256(text.encode()).hexdigest()
    (target / "SHA256SUMS").write_text("".join(f"{digest}  {file_name}\n" for file_name, digest in sums.items()))
    (target / "worker.env").write_text("")
    return target


class Target:
    """A host (see host_double) with a directory of its own, and the transport: a copy."""

    def __init__(self, docker: Any, directory: Path) -> None:
        self.docker = docker
        self.place = Releases(directory, "demo")
        self.sent: list[int] = []

    def image(self, snapshot: Path) -> HostImage:
        return HostImage(self.docker, json.loads((snapshot / "snapshot.json").read_text()), self.place)

    def send(self, snapshot: Path, **changes: Any) -> HostPlan:
        """Plan and send, with what the probe tells changed."""
        made = plan(snapshot, {**self.image(snapshot).probe(), **changes})
        assert not made.fault, made.fault
        self.place.incoming.mkdir(parents=True, exist_ok=True)
        for blob in made.blobs:
            (self.place.incoming / blob.sha256).write_bytes(blob.path.read_bytes())
        self.sent.append(made.size)
        return made

    def push(self, snapshot: Path, **changes: Any) -> None:
        """Like the role push: once more if something is lacking."""
        try:
            self.image(snapshot).make(self.send(snapshot, **changes).order)
        except Lacking as error:
            self.image(snapshot).make(
                self.send(snapshot, **({"layers": 0, "store": CONTAINERD} if error.refused else {})).order
            )
