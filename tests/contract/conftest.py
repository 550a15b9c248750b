"""Services as they are served in earnest: the real start-up and gunicorn on a free loopback port, from .venv."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

IMAGES = Path(__file__).parents[2] / "images"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class JobService:
    """A running job service; its data and its log lie in a directory of the test."""

    username = "operator"
    password = "correct horse battery"
    secret_key = "a key for the tests' tokens"

    def __init__(self, directory: Path, database_url: str | None = None) -> None:
        self.database_url = database_url or f"sqlite:///{directory}/jobservice.sqlite"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.root = f"{self.url}/rest_api"
        self.log_file = directory / "jobservice.log"
        self.start()

    def start(self) -> None:
        settings = {
            "PORT": str(self.port),
            "DATABASE_URL": self.database_url,
            "SECRET_KEY": self.secret_key,
            "USERVICE_ADMIN_USER": self.username,
            "USERVICE_ADMIN_PASSWORD": self.password,
            "PYTHONPATH": str(IMAGES / "jobservice"),
        }
        with self.log_file.open("a") as log:
            # A session of its own, so that kill() reaches the gunicorn workers too.
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobservice"],
                env=os.environ | settings, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until_healthy(f"{self.url}/health", self.process, self.log_file)

    def stop(self) -> None:
        """End it as Docker does."""
        self.process.terminate()
        self.process.wait(timeout=30)

    def kill(self) -> None:
        """kill -9 of all its processes at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)

    def restart(self) -> None:
        self.stop()
        self.start()


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log_file: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    process.kill()
    pytest.fail(f"no service at {url}, its log:\n{log_file.read_text()}")


@pytest.fixture
def job_service(tmp_path: Path) -> Iterator[JobService]:
    """A job service of the test's own, on SQLite."""
    service = JobService(tmp_path)
    yield service
    if service.process.poll() is None:
        service.stop()


@pytest.fixture(scope="session")
def shared_job_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobService]:
    """One job service for all tests that keep to projects of their own."""
    service = JobService(tmp_path_factory.mktemp("job_service"))
    yield service
    service.stop()
