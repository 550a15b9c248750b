"""The job service as it is served in earnest: the real start-up and gunicorn on a free loopback port, from .venv."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import requests

IMAGES = Path(__file__).parents[2] / "images"
# Even when pytest is killed: its processes end with it (or rather with its thread that started them).
DIES_WITH_THE_TESTS = ["setpriv", "--pdeathsig=KILL"]


def free_port() -> int:
    """A port below those that the system gives to connections, so that it stays free while a service restarts."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port


class Api(requests.Session):
    """Session whose URLs start below an API root."""

    def __init__(self, root: str, auth: tuple[str, str] | None) -> None:
        super().__init__()
        self.root, self.auth = root, auth
        self.trust_env = False  # no ~/.netrc when auth is None

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        return super().request(method, url if "://" in url else self.root + url, *args, **{"timeout": 60} | kwargs)


class JobService:
    """A running job service; its log lies in a directory of the test, and with SQLite its data too."""

    username = "operator"
    password = "correct horse battery"
    secret_key = "a key for the tests' tokens"

    def __init__(self, directory: Path, database_url: str | None = None, **environment: str) -> None:
        self.database_url = database_url or f"sqlite:///{directory}/jobservice.sqlite"
        self.environment = environment
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.root = f"{self.url}/rest_api"
        self.log_file = directory / "jobservice.log"
        self.start()

    @property
    def settings(self) -> dict[str, str]:
        return {
            "PORT": str(self.port),
            "DATABASE_URL": self.database_url,
            "SECRET_KEY": self.secret_key,
            "USERVICE_ADMIN_USER": self.username,
            "USERVICE_ADMIN_PASSWORD": self.password,
            "PYTHONPATH": str(IMAGES / "jobservice"),
        } | self.environment

    def start(self) -> None:
        with self.log_file.open("a") as log:
            # A session of its own, so that kill() reaches the gunicorn workers too.
            self.process = subprocess.Popen(
                [*DIES_WITH_THE_TESTS, sys.executable, "-m", "jobservice"],
                env=os.environ | self.settings, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until_healthy(f"{self.url}/health", self.process, self.log_file)

    def stop(self) -> None:
        """End it as Docker does."""
        self.process.terminate()
        self.process.wait(timeout=10)

    def kill(self) -> None:
        """kill -9 of all its processes at once, if they run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=30)

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def anonymous(self) -> Api:
        return Api(self.root, None)

    def login(self) -> Api:
        """The administrator's session, with a token."""
        answer = requests.get(f"{self.root}/token", auth=(self.username, self.password), timeout=60)
        return Api(self.root, (answer.json()["token"], ""))


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log_file: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except (requests.ConnectionError, requests.Timeout):
            time.sleep(0.05)
    process.kill()
    pytest.fail(f"no service at {url}, its log:\n{log_file.read_text()}")


class PostgreSql:
    """A private PostgreSQL server that listens on a socket in its own directory only."""

    def __init__(self, *, durable: bool = False) -> None:
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not programs:
            pytest.fail("PostgreSQL's server is missing: apt-get install -y --no-install-recommends postgresql")
        # Not below pytest's directory: its path is too long for a socket, and closed to the user postgres.
        self.directory = Path(tempfile.mkdtemp(prefix="contract-postgresql-"))
        self.bin = programs[-1].parent
        self.numbers = itertools.count(1)
        # The server refuses to run as root.
        self.user = ["--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []
        if self.user:
            shutil.chown(self.directory, "postgres", "postgres")
        data = f"{self.directory}/data"
        self.run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        command = [
            self.bin / "postgres",
            "-D",
            data,
            "-k",
            self.directory,
            "-c",
            "listen_addresses=",
            "-c",
            f"fsync={'on' if durable else 'off'}",
        ]
        with Path(self.directory, "log").open("w") as log:
            self.process = subprocess.Popen(
                [*DIES_WITH_THE_TESTS, *self.user, *command], cwd=self.directory, stdout=log, stderr=log
            )
        end = time.monotonic() + 60
        while not self.is_ready():
            if time.monotonic() > end or self.process.poll() is not None:
                pytest.fail(f"no private PostgreSQL, its log:\n{Path(self.directory, 'log').read_text()}")
            time.sleep(0.1)

    def is_ready(self) -> bool:
        return not subprocess.run([self.bin / "pg_isready", "-q", "-h", self.directory], timeout=30).returncode

    def run(self, program: str, *arguments: str) -> None:
        prefix = ["setpriv", *self.user] if self.user else []
        command = [*prefix, str(self.bin / program), *arguments]
        result = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, timeout=60)
        if result.returncode:
            pytest.fail(f"{program} of the private PostgreSQL failed:\n{result.stdout}{result.stderr}")

    def sql(self, statement: str) -> None:
        self.run("psql", "-h", str(self.directory), "-U", "postgres", "-q", "-c", statement)

    def new_database_url(self) -> str:
        name = f"test{next(self.numbers)}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql://postgres@/{name}?host={self.directory}"

    def stop(self) -> None:
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(timeout=30)
        shutil.rmtree(self.directory)
