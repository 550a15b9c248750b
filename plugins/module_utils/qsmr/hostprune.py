"""Remove a project's old releases and their images from a host, and nothing that anybody uses.

Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .dockercli import Container, Docker, is_absent
from .errors import QsmrError
from .hostimage import is_part, layers_of
from .hostlayers import HostLayers
from .hostpaths import why
from .release import MANIFEST, Releases


@dataclass(frozen=True)
class Plan:
    """What goes and what stays, by snapshot id, newest first.

    ``images`` are the names of images to remove, ``used`` those that old releases leave because a container uses them,
    ``abandoned`` what no push will take up again of one that was cut off, ``freed`` the bytes of files, and of layers
    that no other image has, as far as the snapshots tell their size.
    """

    kept: Sequence[str]
    removed: Sequence[str]
    images: Sequence[str]
    used: Sequence[str]
    abandoned: Sequence[str]
    freed: int


class Pruning:
    """The releases of one project on this host, and the images named ``repository``, its name for Docker."""

    def __init__(self, docker: Docker, releases: Releases, compose_project: str, repository: str) -> None:
        self.docker = docker
        self.releases = releases
        self.compose_project = compose_project
        self.repository = repository

    def plan(self, keep: int) -> Plan:
        """Keep the ``keep`` newest releases, those that run or may be gone back to, and what containers use."""
        images = self.images()
        releases = self.releases.ids()
        manifests = {name: self._manifest(name) for name in releases}
        # A release may have lost its image, an image may not be a release yet: it was pushed and not started.
        by_age = sorted(
            {*releases, *images},
            # The day stands first in an id; within it the snapshot tells the time, as its image does.
            key=lambda name: (
                name.partition("-")[0],
                manifests.get(name, {}).get("created") or images.get(name, {}).get("Created", ""),
            ),
            reverse=True,
        )
        needed = {self.releases.current, self.releases.stable, self.releases.previous}
        needed |= {container.release for container in self.docker.containers(self.compose_project)}
        kept = [name for number, name in enumerate(by_age) if number < keep or name in needed]
        old = [name for name in by_age if name not in kept]
        in_use = self._images_in_use() if old else set()
        going = {name: images[name] for name in old if name in images and images[name]["Id"] not in in_use}
        # An image of this id that has another name stays under that: only its name goes.
        names = {name: found for name, found in going.items() if len(found.get("RepoTags") or []) <= 1}
        removed = [name for name in old if name in releases or name in going]
        abandoned = HostLayers(self.releases).abandoned()
        files = sum(abandoned.values()) + sum(map(self._release_bytes, removed))
        return Plan(
            kept=kept,
            removed=removed,
            images=[f"{self.repository}:{name}" for name in old if name in going],
            used=[f"{self.repository}:{name}" for name in old if name in images and name not in going],
            abandoned=sorted(abandoned),
            freed=self._layer_bytes(list(names.values()), manifests) + files,
        )

    def carry_out(self, plan: Plan) -> None:
        """Remove what the plan says. Killed in between, the next run goes on."""
        self.remove_images(plan.images)
        for name in plan.removed:
            try:
                if self.releases.directory(name).exists():
                    shutil.rmtree(self.releases.directory(name))
            except OSError as error:
                raise QsmrError(f"Release {name} cannot be removed: {why(error)}") from None
        layers = HostLayers(self.releases)
        if plan.abandoned:
            layers.forget(plan.abandoned)
        if plan.removed:
            layers.prune()

    def removable_images(self, own: Sequence[Container]) -> tuple[list[str], list[str]]:
        """The names of the project's images that can go with these containers, and those that others hold here.

        An image that another project's containers are made from has that project's name, too, and stays under it. What
        pushes left that were cut off has no name but an id.
        """
        in_use = self._images_in_use(own)
        going: list[str] = []
        staying: list[str] = []
        for tag, found in self.images().items():
            elsewhere = [name for name in found.get("RepoTags") or [] if name.rpartition(":")[0] != self.repository]
            is_free = found["Id"] not in in_use or bool(elsewhere)
            (going if is_free else staying).append(f"{self.repository}:{tag}")
        parts = [found["Id"] for found in self.docker.images() if is_part(found, self.repository)]
        return going + parts, staying

    def remove_images(self, names: Sequence[str]) -> None:
        for name in names:
            self.docker.out(f"Removing the image {name}", "image", "rm", name)

    def images(self) -> dict[str, dict[str, Any]]:
        """The project's images as Docker shows them, by snapshot id."""
        out = self.docker.out(
            "Listing the project's images",
            "image",
            "ls",
            "--format",
            "{{.Tag}}",
            "--filter",
            f"reference={self.repository}",
        )
        tags = [tag for tag in out.split() if tag != "<none>"]
        found = {tag: self.docker.image(f"{self.repository}:{tag}") for tag in tags}
        return {tag: image for tag, image in found.items() if image}

    def _images_in_use(self, own: Sequence[Container] = ()) -> set[str]:
        """The ids of images that any other container is made from, running or not, of this project or not."""
        found = self.docker.out("Listing the containers", "ps", "--all", "--quiet", "--no-trunc").split()
        ids = sorted(set(found) - {container.id for container in own})
        if not ids:
            return set()
        # Its own line for each: one of them that goes away meanwhile is no error.
        result = self.docker.call("container", "inspect", "--format", "{{.Image}}", *ids)
        if result.code and not is_absent(result):
            raise QsmrError(f"Inspecting the containers failed: {result.words}")
        return set(result.out.split())

    def _manifest(self, snapshot_id: str) -> dict[str, Any]:
        try:
            text = (self.releases.directory(snapshot_id) / MANIFEST).read_text(encoding="utf-8")
            manifest = json.loads(text)
        except (OSError, ValueError):
            return {}
        return manifest if isinstance(manifest, dict) else {}

    def _layer_bytes(self, going: Sequence[Mapping[str, Any]], manifests: Mapping[str, Mapping[str, Any]]) -> int:
        if not going:
            return 0
        ids = {found["Id"] for found in going}
        staying = {layer for found in self.docker.images() if found["Id"] not in ids for layer in layers_of(found)}
        sizes = {
            layer["diff_id"]: int(layer["size"])
            for manifest in manifests.values()
            for layer in manifest.get("image", {}).get("layers", [])
        }
        return sum(sizes.get(layer, 0) for layer in {layer for found in going for layer in layers_of(found)} - staying)

    def _release_bytes(self, snapshot_id: str) -> int:
        directory = self.releases.directory(snapshot_id)
        try:
            return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        except OSError:
            return 0
