"""The Odin stand-in as a process of its own, served by gunicorn as in its image."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

IMAGE = Path(__file__).parents[2] / "images" / "odin"


class OdinService:
    """A running stand-in: `root` is the API root for clients, `log` what it has written."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.secret = environment.setdefault("SECRET_KEY", secrets.token_hex(16))
        self.database = directory / "odin.sqlite"
        self.log_file = directory / "odin.log"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.root = f"{self.url}/rest_api"
        self._environment = {"DATABASE_URL": f"sqlite:///{self.database}", **environment}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def start(self) -> None:
        command = [sys.executable, "-m", "gunicorn", "--config", str(IMAGE / "gunicorn.conf.py")]
        command += ["--bind", f"127.0.0.1:{self.port}", "--workers", "1"]
        inherited = {name: value for name, value in os.environ.items() if name == "PATH"}
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                env={**inherited, "PYTHONDONTWRITEBYTECODE": "1", **self._environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if requests.get(f"{self.url}/health", timeout=1).ok:
                    return
            except requests.ConnectionError:
                time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"the stand-in did not start:\n{self.log}")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(10)

    def restart(self) -> None:
        self.stop()
        self.start()


@pytest.fixture(scope="module")
def odin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OdinService]:
    """A stand-in with the rules of 2020 and ECB tokens, shared by the tests of a module."""
    service = OdinService(tmp_path_factory.mktemp("odin"))
    service.start()
    yield service
    service.stop()
