"""The example code as a job runs it: unpacked archives, the job command's arguments, a stand-in of either era."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from contract import odin_service
from contract.odin_service import OdinService

EXAMPLE = Path(__file__).parents[2] / "examples" / "qsmr-demo"
SCAN = 7123991206
BROKEN = 7123991000

odin = odin_service.odin


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archives that build.sh makes, unpacked as in the image of a snapshot."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("qsmr")
    shutil.copytree(EXAMPLE, source, dirs_exist_ok=True)
    subprocess.run([source / "build.sh"], check=True)
    for name in ("qsmr.tar.gz", "qsmr_data.tar.gz"):
        shutil.unpack_archive(source / name, target)
    return target


@pytest.fixture(scope="module")
def odin_2016(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OdinService]:
    service = OdinService(tmp_path_factory.mktemp("odin-2016"), ODIN_RULES="2016")
    service.start()
    yield service
    service.stop()


def run(code: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    command = [code / "run_runscript.sh", "/opt/matlab/v90", *arguments]
    return subprocess.run(
        command, env={"PATH": path, **environment}, capture_output=True, text=True, timeout=60, check=False
    )


def job(code: Path, odin: OdinService, project: str, scanid: int = SCAN, **environment: str) -> Any:
    """Run a job as a worker does, credentials that mean nothing included."""
    urls = (f"{odin.root}/v4/l1_log/1/{scanid}/", odin.target(project, 1, scanid))
    return run(code, *urls, "notused", "notused", **environment)


def stored(odin: OdinService, project: str, scanid: int = SCAN) -> Any:
    answer = requests.get(f"{odin.root}/v4/level2/{project}/1/{scanid}", timeout=10)
    assert answer.status_code == 200
    return answer.json()["Info"]


@pytest.mark.parametrize("era", ["odin", "odin_2016"])
def test_a_job_delivers_and_can_be_run_again(code: Path, era: str, request: pytest.FixtureRequest) -> None:
    service = request.getfixturevalue(era)
    for snapshot in ("261124-0000000001", "261124-0000000002"):
        done = job(code, service, "demo", QSMR_SNAPSHOT_ID=snapshot)
        assert (done.returncode, done.stderr) == (0, "")
        info = stored(service, "demo")
        assert info["L2c"][0] == f"Snapshot: {snapshot}"
        assert [product["Product"] for product in info["L2"]] == ["O3 / 501 GHz / 20 to 50 km"]
    assert "" not in done.stdout.split("\n")[:-1]  # the former worker pauses at an empty line
    token = service.target("demo", 1, SCAN).split("d=")[1]
    assert token not in done.stdout


def test_settings_come_from_the_environment(code: Path, odin: OdinService) -> None:
    assert job(code, odin, "standard", QSMR_CONFIG="", QSMR_INVEMODE="").returncode == 0
    assert job(code, odin, "other", QSMR_CONFIG="q_coarse", QSMR_INVEMODE="meso").returncode == 0
    standard, other = stored(odin, "standard"), stored(odin, "other")
    assert [info["L2i"]["InvMode"] for info in (standard, other)] == ["stnd", "meso"]
    assert [info["L2c"][1].split()[1] for info in (standard, other)] == ["q_std", "q_coarse"]
    assert standard["L2"][0]["Altitude"] != other["L2"][0]["Altitude"]


def test_a_known_reason_is_a_result(code: Path, odin: OdinService) -> None:
    done = job(code, odin, "broken", BROKEN)
    assert (done.returncode, done.stderr) == (0, "")
    info = stored(odin, "broken", BROKEN)
    assert info["L2"] == []
    assert info["L2c"][-1] == "Error: 4 spectra left after altitude cropping, 8 are needed"


def test_without_a_target_nothing_is_delivered(code: Path, odin: OdinService) -> None:
    done = run(code, f"{odin.root}/v4/l1_log/1/{SCAN}/")
    assert (done.returncode, "converged" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("source", "target", "environment", "reason"),
    [
        ("/v4/l1_log/999/7/", "", {}, "/v4/l1_log/999/7/ answered 404"),
        ("/health", "", {}, "answered 404"),
        (
            f"/v4/l1_log/1/{SCAN}/",
            "",
            {"QSMR_CONFIG": "q_best"},
            "QSMR_CONFIG is 'q_best', it must be one of q_coarse, q",
        ),
        (
            f"/v4/l1_log/1/{SCAN}/",
            "",
            {"QSMR_INVEMODE": "../x"},
            "QSMR_INVEMODE is '../x', it must be one of meso, stnd",
        ),
        (f"/v4/l1_log/1/{SCAN}/", "/v4/level2?d=secret-token", {}, "answered 400: 400 Bad Request"),
        ("/v5/config_data/latest_ecmf_file/", "", {}, "unexpected KeyError: 'Info'"),
    ],
)
def test_all_else_fails_with_one_line(
    code: Path, odin: OdinService, source: str, target: str, environment: dict[str, str], reason: str
) -> None:
    done = run(code, odin.root + source, *([odin.root + target] if target else []), **environment)
    assert done.returncode == 1
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
    assert "secret-token" not in done.stdout + done.stderr


def test_a_dead_target_fails_the_job_without_telling_the_token(code: Path, odin: OdinService) -> None:
    target = "http://127.0.0.1:1/rest_api/v4/level2?d=secret-token"
    done = run(code, f"{odin.root}/v4/l1_log/1/{SCAN}/", target)
    assert done.returncode == 1
    assert "no answer from http://127.0.0.1:1/rest_api/v4/level2" in done.stderr
    assert "secret-token" not in done.stderr


def test_a_call_without_source_tells_how_to_call(code: Path) -> None:
    done = run(code)
    assert (done.returncode, "usage" in done.stderr) == (2, True)
