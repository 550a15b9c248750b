"""The Odin stand-in as a process of its own, served by gunicorn as in its image.

A test module takes the fixture with `odin = odin_service.odin`. Importing this makes the stand-in's own package, also
called `odin`, importable.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from Cryptodome.Cipher import AES

IMAGE = Path(__file__).parents[2] / "images" / "odin"
sys.path.insert(0, str(IMAGE))


class OdinService:
    """A running stand-in: `root` is the API root for clients, `log` what it has written."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.secret = environment.setdefault("SECRET_KEY", secrets.token_hex(16))
        self.rules = environment.get("ODIN_RULES", "2020")
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
                env={**inherited, "OPENBLAS_NUM_THREADS": "1", **self._environment},
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

    def target(self, project: str, freqmode: Any, scanid: Any, version: str = "v4") -> str:
        """The URL with an ECB token that takes the level 2 of a scan."""
        plain = json.dumps({"ScanID": scanid, "FreqMode": freqmode, "Project": project}).encode()
        cipher = AES.new(self.secret.encode(), AES.MODE_ECB)
        token = base64.urlsafe_b64encode(cipher.encrypt(plain + b" " * (-len(plain) % 16))).decode()
        return f"{self.root}/{version}/level2?d={token}"


@pytest.fixture(scope="module")
def odin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OdinService]:
    """A stand-in with the rules of 2020 and ECB tokens, shared by the tests of a module."""
    service = OdinService(tmp_path_factory.mktemp("odin"))
    service.start()
    yield service
    service.stop()


def document(freqmode: int, scanid: int, *names: str) -> dict[str, Any]:
    """A level 2 document that the rules of 2020 accept, with a product of each name."""
    common = {"FreqMode": freqmode, "ScanID": scanid, "InvMode": "stnd"}
    arrays = ("Altitude", "Apriori", "ErrorNoise", "ErrorTotal", "Latitude", "Longitude")
    arrays += ("MeasResponse", "Pressure", "Temperature", "VMR")
    product = {**common, **dict.fromkeys(arrays, [1.0, 2.0]), "AVK": [[1.0, 0.0], [0.0, 1.0]]}
    product |= {"Lat1D": -7.713, "Lon1D": 94.8, "MJD": 57113.00104, "Quality": None}
    info = {
        "BLineOffset": [[0.1]],
        "ChannelsID": [1],
        "FitSpectrum": [[1.0]],
        "FreqOffset": -660150.0,
        "LOFreq": 4.97e11,
    }
    info |= {"MinLmFactor": 0, "PointOffset": 9.1e-4, "Residual": 2.0, "STW": [scanid], "SBpath": 0.0, "Tsat": 20.0}
    return {
        "L2": [{**product, "Product": name} for name in names or ("O3 / 501 GHz / 20 to 50 km",)],
        "L2I": {**common, **info},
        "L2C": "Status: 12 spectra left after altitude cropping\nFilter: 3 spectra removed due to Valid Tb flag",
    }
