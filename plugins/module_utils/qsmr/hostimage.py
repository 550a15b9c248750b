"""A snapshot's image on a host: is it there, is there room for it, and load it from a verified archive.

Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .archive import file_sha256
from .dockercli import Docker, explain
from .errors import QsmrError
from .hostpaths import disk_free, on_one_disk, why
from .release import DIRECTORY_MODE

# What an image was made from. It goes with the image, unlike the id, whose meaning Docker 29 changed.
INPUTS_LABEL = "org.qsmr.fleet.inputs"
LOAD_TIMEOUT = 3600.0


class Damaged(QsmrError):
    """An archive arrived that is not the snapshot's."""


@dataclass(frozen=True)
class Wanted:
    """The image that a snapshot names: ``image`` and ``inputs`` of snapshot.json."""

    name: str
    id: str
    layers: Sequence[Mapping[str, Any]]
    inputs: str

    @classmethod
    def from_snapshot(cls, snapshot: Mapping[str, Any]) -> Wanted:
        image = snapshot["image"]
        return cls(image["name"], image["id"], image["layers"], snapshot["inputs"])

    @property
    def diff_ids(self) -> list[str]:
        return [layer["diff_id"] for layer in self.layers]

    def is_(self, found: Mapping[str, Any]) -> bool:
        """Whether ``docker image inspect`` shows this image: the same id, or equal layers made from the same inputs."""
        labels = (found.get("Config") or {}).get("Labels") or {}
        return found["Id"] == self.id or (layers_of(found) == self.diff_ids and labels.get(INPUTS_LABEL) == self.inputs)

    def missing_bytes(self, images: Iterable[Mapping[str, Any]]) -> int:
        """Size of the layers that none of ``images`` has. A layer counts with all that lies below it, as for Docker."""
        known = max((common_prefix(self.diff_ids, layers_of(found)) for found in images), default=0)
        return sum(int(layer["size"]) for layer in self.layers[known:])


def layers_of(found: Mapping[str, Any]) -> list[str]:
    return (found.get("RootFS") or {}).get("Layers") or []


def common_prefix(first: Sequence[str], second: Sequence[str]) -> int:
    shorter = min(len(first), len(second))
    return next((n for n in range(shorter) if first[n] != second[n]), shorter)


class ImageStore:
    """Docker's images on this host, and the directory that archives arrive in."""

    def __init__(self, docker: Docker, wanted: Wanted, incoming: Path, archive: Mapping[str, Any]) -> None:
        self.docker = docker
        self.wanted = wanted
        self.incoming = incoming
        self.size = int(archive["size"])
        self.sha256 = str(archive["sha256"]).rpartition(":")[2]
        self.part = incoming / f"{self.sha256}.part"
        self.verified = incoming / self.sha256

    def find(self) -> str:
        """The name or id under which the host has the image; empty if it has not.

        The wanted name may belong to another image, and the wanted image to another name or to none.
        """
        named = self.docker.image(self.wanted.name)
        if named and self.wanted.is_(named):
            return self.wanted.name
        return next((str(found["Id"]) for found in self.docker.images() if self.wanted.is_(found)), "")

    def tag(self, image: str) -> None:
        self.docker.out(f"Naming the image {self.wanted.name}", "tag", image, self.wanted.name)

    @property
    def is_received(self) -> bool:
        """Whether a former run brought the archive, but Docker did not take it."""
        return self.verified.is_file()

    def room_fault(self, docker_root: Path) -> str:
        """Why the image finds no room, with the figures; empty if it does.

        Docker unpacks an archive beside its images before it takes the layers over, so loading needs both at a time.
        """
        archive = 0 if self.is_received else self.size
        loading = self.size + self.wanted.missing_bytes(self.docker.images())
        needs = [(self.incoming, archive), (docker_root, loading)]
        if on_one_disk(self.incoming, docker_root):
            needs = [(docker_root, archive + loading)]
        for path, needed in needs:
            free = disk_free(path)
            if free < needed:
                return (
                    f"No room for the image {self.wanted.name}: it needs {megabytes(needed)} below {path}, "
                    f"{megabytes(free)} are free: remove old images (docker image prune) or files there"
                )
        return ""

    def make_incoming(self) -> None:
        """The directory for archives, which the SSH user can write to even if this runs by sudo."""
        try:
            self.incoming.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            self.incoming.mkdir(mode=DIRECTORY_MODE, exist_ok=True)
            if os.geteuid() == 0 and "SUDO_UID" in os.environ:
                for path in (self.incoming.parent, self.incoming):
                    os.chown(path, -1, int(os.environ["SUDO_GID"]))
                os.chown(self.incoming, int(os.environ["SUDO_UID"]), -1)
        except OSError as error:
            raise QsmrError(f"{self.incoming} cannot be made: {why(error)}") from None

    def take_up(self) -> None:
        """Have the image from the archive that has arrived, now or in a former run."""
        self.receive()
        self.load()
        self.tidy()

    def receive(self) -> None:
        """Give the archive that has arrived its final name, if it is the snapshot's to the byte."""
        arrived = self.verified if self.is_received else self.part
        try:
            size = arrived.stat().st_size
            digest = file_sha256(arrived) if size == self.size else ""
            if digest != self.sha256:
                arrived.unlink()
                what = f"has sha256 {digest}" if digest else f"is {size} of {self.size} bytes long"
                raise Damaged(f"The archive of {self.wanted.name} that arrived {what}: not loaded, run again")
            arrived.replace(self.verified)
        except OSError as error:
            raise QsmrError(f"The archive of {self.wanted.name} cannot be read on arrival: {why(error)}") from None

    def load(self) -> None:
        """Let Docker load the verified archive, and see that the image is what the snapshot says."""
        result = self.docker.call("load", "--input", str(self.verified), timeout=LOAD_TIMEOUT)
        if result.code:
            raise QsmrError(
                f"Docker did not load {self.wanted.name}: {explain(result)} (run again, it need not be resent)"
            )
        found = self.find()
        if not found:
            self.tidy()
            raise QsmrError(
                f"Docker loaded another image than the snapshot's {self.wanted.name} (it said: {result.words}): "
                "build the snapshot again"
            )
        if found != self.wanted.name:
            self.tag(found)

    def leftovers(self) -> list[Path]:
        try:
            return sorted(self.incoming.iterdir())
        except OSError:
            return []

    def tidy(self) -> None:
        for path in self.leftovers():
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise QsmrError(f"{path}, left by an earlier run, cannot be removed: {why(error)}") from None


def megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
