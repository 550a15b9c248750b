"""The fleet that the integration tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from container_fleet import REPOSITORY, Fleet


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """Three hosts and the services, up for the whole session, and gone at its end."""
    directory = REPOSITORY / "build/test"
    fleet = Fleet(directory)
    directory.mkdir(parents=True, exist_ok=True)
    try:
        fleet.ok("demo_fleet.yml")
        fleet.ok("services.yml")
        yield fleet
    finally:
        if not os.environ.get("QSMR_KEEP_FLEET"):
            fleet.play("demo_clean.yml", demo_clean_images=False)
            shutil.rmtree(directory, ignore_errors=True)
