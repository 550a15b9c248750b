"""The fleet that the integration tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from container_fleet import REPOSITORY, Fleet, docker


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """Three hosts and the services, up for the whole session, and gone at its end."""
    directory = REPOSITORY / "build/test"
    fleet = Fleet(directory)
    directory.mkdir(parents=True, exist_ok=True)
    images_before = snapshot_images()
    try:
        fleet.ok("demo_fleet.yml")
        fleet.ok("services.yml")
        yield fleet
    finally:
        if not os.environ.get("QSMR_KEEP_FLEET"):
            # The hosts' play only: the other one removes the images that the next run needs again.
            fleet.play("demo_fleet_clean.yml")
            for image in snapshot_images() - images_before:
                docker("image", "rm", "--force", image)
            shutil.rmtree(directory, ignore_errors=True)


def snapshot_images() -> set[str]:
    """The names of the snapshots' images on this machine."""
    names = docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}").split()
    return {name for name in names if name.startswith("qsmr_snapshot_")}
