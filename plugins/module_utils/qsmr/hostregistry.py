"""A snapshot's image by way of a registry: pushed there once, pulled from there by digest.

Runs on the control node and on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from .archive import read_image
from .dockercli import Docker, explain
from .errors import QsmrError
from .hostimage import Wanted

TIMEOUT = 7200.0
DIGEST = re.compile(r"digest: (sha256:[0-9a-f]{64})")  # the last line of docker push
PUSHED = re.compile(r": Pushed\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Registry:
    """``address`` as in the name of an image: ``registry.example.org:5000/lab``; ``username`` empty: no login."""

    docker: Docker
    address: str
    username: str = ""
    password: str = field(default="", repr=False)

    def push(self, wanted: Wanted, archive: Path) -> tuple[str, bool]:
        """Have the image in the registry: its reference there, by digest, and whether anything was new to it.

        The image is taken from this machine's Docker; if that has lost it, from the snapshot's ``archive``.
        """
        found = self.docker.image(wanted.name)
        is_borrowed = not (found and wanted.is_(found))
        if is_borrowed:
            if read_image(archive).id != wanted.id:
                raise QsmrError(f"{archive} is not the snapshot's image {wanted.name}: build the snapshot again")
            self.docker.out(f"Loading {archive}", "load", "--quiet", "--input", str(archive), timeout=TIMEOUT)
            found = self.docker.image(wanted.name)
        if not found or not wanted.is_(found):
            raise QsmrError(f"{archive} is not the snapshot's image {wanted.name}: build the snapshot again")
        name = f"{self.address}/{wanted.name}"
        self.docker.out(f"Naming the image {name}", "tag", found["Id"], name)
        try:
            with self._known() as docker:
                said = docker.out(f"Pushing to {self.address}", "push", name, timeout=TIMEOUT)
        finally:
            for borrowed in [name, wanted.name][: 1 + is_borrowed]:
                self.docker.call("image", "rm", borrowed)
        digest = DIGEST.search(said)
        if not digest:
            raise QsmrError(f"Docker does not say under which digest {self.address} has {wanted.name}")
        return f"{name.rpartition(':')[0]}@{digest[1]}", bool(PUSHED.search(said))

    def pull(self, wanted: Wanted, reference: str) -> None:
        """Have the image, under its own name, and see that it is the snapshot's."""
        with self._known() as docker:
            docker.out(f"Pulling from {self.address}", "pull", "--quiet", reference, timeout=TIMEOUT)
        found = self.docker.image(reference)
        try:
            if not found or not wanted.is_(found):
                raise QsmrError(f"{reference} is not the snapshot's image {wanted.name}: push it again")
            self.docker.out(f"Naming the image {wanted.name}", "tag", found["Id"], wanted.name)
        finally:
            self.docker.call("image", "rm", reference)

    @contextmanager
    def _known(self) -> Iterator[Docker]:
        """Docker, logged in for as long as this lasts; without a user name, with what this user is logged in to."""
        if not self.username:
            yield self.docker
            return
        with tempfile.TemporaryDirectory(prefix="qsmr-") as config:
            docker = Docker(
                self.docker.run, {**self.docker.environ, "DOCKER_CONFIG": config}, self.docker.feed, self.docker.read
            )
            host = self.address.partition("/")[0]
            login = ("docker", "login", "--username", self.username, "--password-stdin", host)
            result = docker.feed(login, docker.environ, 60, lambda stream: _write(stream, self.password))
            if result.code:
                raise QsmrError(f"Login to {host} as {self.username} failed: {explain(result)}")
            yield docker


def _write(stream: IO[bytes], text: str) -> None:
    stream.write(text.encode())
