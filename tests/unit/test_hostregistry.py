"""A snapshot's image by way of a registry, on a Docker that is played."""

from __future__ import annotations

from pathlib import Path

import pytest
from host_double import HostDouble, image, snapshot
from qsmr.errors import QsmrError
from qsmr.hostimage import Wanted
from qsmr.hostregistry import Registry

ADDRESS = "registry.example.org/lab"
REFERENCE = f"{ADDRESS}/qsmr_snapshot_demo@sha256:{'d' * 64}"
WANTED = Wanted.from_snapshot(snapshot())


def test_another_image_under_the_digest_is_refused() -> None:
    host = HostDouble(images={REFERENCE: image("sha256:other", ["sha256:base", "sha256:other"])})
    with pytest.raises(QsmrError, match="is not the snapshot's image"):
        Registry(host.docker, ADDRESS).pull(WANTED, REFERENCE)
    assert WANTED.name not in host.images


def test_the_password_is_in_no_command() -> None:
    # With "loads" set, the double does not look at what a command is fed.
    host = HostDouble(images={WANTED.name: image(WANTED.id)}, loads={"other": image("sha256:other")})
    with pytest.raises(QsmrError, match="does not say under which digest"):
        Registry(host.docker, ADDRESS, "ana", "hidden-word").push(WANTED, Path("docker_image"))
    assert any(f"docker push {ADDRESS}/{WANTED.name}" in line for line in host.commands)
    assert not any("hidden-word" in line for line in host.commands)
