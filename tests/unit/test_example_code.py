"""The example code: its estimate is held against the atmosphere behind the stand-in's spectra, and against theory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contract import odin_service
from flask.testing import FlaskClient
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLE = Path(__file__).parents[2] / "examples" / "qsmr-demo"
sys.path += [str(odin_service.IMAGE), str(EXAMPLE / "code")]

import odin  # noqa: E402 (lies in an image's directory)
from odin import atmosphere, scans  # noqa: E402
from qsmr_demo import forward  # noqa: E402
from qsmr_demo.estimation import NotConverged, estimate  # noqa: E402
from qsmr_demo.retrieval import NoResult, retrieve  # noqa: E402

SCANS = scans.listed(1, date(2015, 1, 11), date(2015, 1, 12))[::48]


@pytest.fixture(scope="module")
def level1(tmp_path_factory: pytest.TempPathFactory) -> FlaskClient:
    database = tmp_path_factory.mktemp("odin") / "odin.sqlite"
    return odin.create_app(odin.Settings(secret="0" * 16, database_url=f"sqlite:///{database}")).test_client()


def data(name: str) -> Any:
    return json.loads((EXAMPLE / "data" / f"{name}.json").read_text())


def retrieved(level1: FlaskClient, scanid: int, config: str = "q_std", mode: str = "stnd", freqmode: int = 1) -> Any:
    urls = level1.get(f"/rest_api/v4/l1_log/{freqmode}/{scanid}/").json["Info"]["URLS"]
    inputs = [level1.get(urls[f"URL-{name}"]).json for name in ("spectra", "ptz", "apriori-O3")]
    return retrieve(*inputs, data("spectroscopy"), data(f"config/{config}"), data(f"invemode/{mode}"), mode)


def arrays(product: dict[str, Any], *names: str) -> list[np.ndarray]:
    return [np.array(product[name]) for name in names]


def rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(np.concatenate(values)))))


@pytest.mark.parametrize(("mode", "freqmode"), [("stnd", 1), ("meso", 1), ("stnd", 13)])
def test_the_profile_is_near_the_truth_where_the_measurement_speaks(
    level1: FlaskClient, mode: str, freqmode: int
) -> None:
    errors, apriori_errors, in_sigmas = [], [], []
    for scanid in SCANS:
        product = retrieved(level1, scanid, mode=mode, freqmode=freqmode)[0]
        altitude, vmr, apriori, error, response = arrays(
            product, "Altitude", "VMR", "Apriori", "ErrorTotal", "MeasResponse"
        )
        truth = atmosphere.ozone_truth(scanid, altitude)
        speaks = response > 0.8
        assert speaks.sum() >= 10  # levels
        errors.append((vmr / truth - 1)[speaks])
        apriori_errors.append((apriori / truth - 1)[speaks])
        in_sigmas.append(((vmr - truth) / error)[speaks])
        assert np.abs(in_sigmas[-1]).max() < 4
    assert rms(errors) < 0.10
    assert rms(errors) < rms(apriori_errors) / 2.5
    assert 0.2 < rms(in_sigmas) < 1.2  # the stated errors are neither too small nor empty words


def test_a_product_has_the_keys_and_shapes_of_level_2(level1: FlaskClient) -> None:
    product, information, comments = retrieved(level1, SCANS[0])
    example = odin_service.document(1, SCANS[0])
    assert set(product) == set(example["L2"][0])
    assert set(information) == set(example["L2I"])
    levels = len(product["Altitude"])
    assert np.shape(product["AVK"]) == (levels, levels)
    profiles = ("VMR", "Apriori", "ErrorTotal", "ErrorNoise", "MeasResponse", "Pressure", "Temperature", "Latitude")
    assert {len(product[name]) for name in profiles} == {levels}
    assert product["Product"] == "O3 / 501 GHz / 20 to 50 km"
    assert product["Pressure"][0] == pytest.approx(1e4, rel=0.2)  # Pa at 16 km
    assert np.all(np.array(product["ErrorNoise"]) < product["ErrorTotal"])
    assert np.shape(information["FitSpectrum"]) == (len(information["ChannelsID"]), len(information["STW"]))
    assert information["Residual"] == pytest.approx(1, abs=0.1)
    assert comments[0] == f"Status: {len(information['STW'])} spectra left after altitude cropping"
    json.dumps([product, information], allow_nan=False)


def test_measurement_response_falls_where_the_scan_does_not_reach(level1: FlaskClient) -> None:
    (response,) = arrays(retrieved(level1, SCANS[0], mode="meso")[0], "MeasResponse")
    assert response[2] > 0.9
    assert response[-1] < 0.6


def test_settings_change_the_result(level1: FlaskClient) -> None:
    standard, coarse, loose = (retrieved(level1, SCANS[0], config)[0] for config in ("q_std", "q_coarse", "q_loose"))
    mesosphere = retrieved(level1, SCANS[0], mode="meso")[0]
    assert (standard["Altitude"][0], mesosphere["Altitude"][0]) == (16e3, 44e3)
    assert mesosphere["InvMode"] == "meso"
    assert coarse["Altitude"] == standard["Altitude"][::2]
    assert np.mean(loose["ErrorTotal"]) > 1.5 * np.mean(standard["ErrorTotal"])


def test_a_scan_broken_off_early_has_a_known_reason(level1: FlaskClient) -> None:
    with pytest.raises(NoResult, match="4 spectra left after altitude cropping, 8 are needed"):
        retrieved(level1, 7123991000)


# --- theory ---------------------------------------------------------------------------------------------------------


@cache
def model() -> forward.ForwardModel:
    height = forward.LAYERS
    return forward.ForwardModel(
        line=501.5e9,
        offsets=np.array([-200e6, -20e6, -1e6, 0.0, 5e6]),
        tangents=np.array([15e3, 22.3e3, 40e3, 61e3]),
        pressure=1e5 * np.exp(-height / 7e3),
        temperature=np.full(height.size, 240.0),
        ozone=np.full(height.size, 4e-6),
        spectroscopy=data("spectroscopy"),
    )


@given(st.integers(0, 2**32), st.integers(0, forward.LAYERS.size - 1))
@settings(max_examples=40, deadline=None)
def test_the_jacobian_is_the_derivative(seed: int, layer: int) -> None:
    factor = np.random.default_rng(seed).uniform(0.3, 2.0, forward.LAYERS.size)
    step = np.zeros_like(factor)
    step[layer] = 1e-4
    difference = (model()(factor + step)[0] - model()(factor - step)[0]) / 2e-4
    assert model()(factor)[1][..., layer] == pytest.approx(difference, abs=1e-5, rel=1e-5)


def test_an_opaque_path_shows_the_air_and_an_empty_one_space() -> None:
    opaque = model()(np.full(forward.LAYERS.size, 1e6))[0]
    assert opaque[0] == pytest.approx(forward.planck(501.5e9, 240.0), rel=1e-6)
    empty = model()(np.zeros(forward.LAYERS.size))[0]
    assert empty[-1] == pytest.approx(forward.planck(501.5e9, 2.725), abs=0.01)


@given(st.integers(0, 2**32), st.integers(2, 6), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_a_linear_problem_gets_the_maximum_a_posteriori_solution(seed: int, states: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    jacobian, truth = rng.normal(size=(values, states)), rng.normal(size=states)
    noise = rng.uniform(0.1, 1.0, values)
    root = rng.normal(size=(states, states)) + 2 * np.eye(states)
    apriori, covariance = rng.normal(size=states), root @ root.T + 0.1 * np.eye(states)
    measured = jacobian @ truth + noise * rng.normal(size=values)
    result = estimate(lambda x: (jacobian @ x, jacobian), measured, noise, apriori, covariance)
    # Rodgers 4.6, the form in measurement space, which the program does not use.
    gain = covariance @ jacobian.T @ np.linalg.inv(jacobian @ covariance @ jacobian.T + np.diag(noise**2))
    expected = apriori + gain @ (measured - jacobian @ apriori)
    near = {"rel": 1e-4, "abs": 1e-5}
    assert result.state == pytest.approx(expected, **near)
    assert result.kernel == pytest.approx(gain @ jacobian, **near)
    assert result.noise_covariance == pytest.approx(gain @ np.diag(noise**2) @ gain.T, **near)
    assert result.total_covariance == pytest.approx(covariance - gain @ jacobian @ covariance, **near)


def test_a_problem_that_does_not_settle_is_told() -> None:
    def leap(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.sign(state) * np.abs(state) ** 0.3, np.array([[0.3]])

    with pytest.raises(NotConverged):
        estimate(leap, np.array([0.0]), np.array([1e-3]), np.array([1.0]), np.array([[1e6]]))


# --- the stand-in's scans -------------------------------------------------------------------------------------------


def test_a_scan_id_tells_its_time() -> None:
    assert f"{scans.utc(scans.mjd(7014791071)):%Y-%m-%d}" == "2015-01-12"
    assert scans.mjd(6161431982) == 56416.7782534


@given(st.datetimes(datetime(2001, 8, 4), datetime(2020, 6, 30)).map(lambda when: when.replace(tzinfo=UTC)))
def test_the_first_id_of_a_time_is_the_first(when: datetime) -> None:
    first = scans.first_id(when)
    early, late = scans.utc(scans.mjd(first - 1)), scans.utc(scans.mjd(first))
    assert (when - late).total_seconds() < 0.001
    assert (early - when).total_seconds() < 0.001


@given(st.floats(52125, 59030))
def test_a_place_is_on_earth_and_under_the_orbit(days: float) -> None:
    where = scans.place(days)
    assert abs(where.latitude) < 83
    assert 0 <= where.longitude < 360
    assert 0 <= where.sun_zenith <= 180
    # The satellite flies along the terminator: near the equator it is always morning or evening.
    if abs(where.latitude) < 30:
        assert min(abs(where.local_time - hour) for hour in (6, 18)) < 1.5


def test_no_two_modes_share_a_listed_scan_and_none_is_broken() -> None:
    ids = [scan for mode in scans.BANDS for scan in scans.listed(mode, date(2015, 1, 11), date(2015, 1, 20))]
    assert len(ids) == len(set(ids))
    assert not [scan for scan in ids if scan % scans.BROKEN_EVERY == 0]


# --- the archives ---------------------------------------------------------------------------------------------------


def test_the_same_files_give_the_same_archives(tmp_path: Path) -> None:
    archives = []
    for number, umask in enumerate((0o022, 0o077)):
        copy = tmp_path / f"{number}"
        copy.mkdir()
        for path in EXAMPLE.rglob("*"):
            if path.is_file() and not path.name.endswith((".gz", ".pyc")):
                target = copy / path.relative_to(EXAMPLE)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                target.chmod((0o777 if os.access(path, os.X_OK) else 0o666) & ~umask)
                os.utime(target, (number * 1e6, number * 1e6))
        (copy / "code" / "qsmr_demo" / "__pycache__").mkdir()
        (copy / "code" / "qsmr_demo" / "__pycache__" / f"{number}.pyc").touch()
        subprocess.run([copy / "build.sh"], check=True, umask=umask, cwd=tmp_path)
        archives.append([(copy / name).read_bytes() for name in ("qsmr.tar.gz", "qsmr_data.tar.gz")])
        assert not list(copy.glob("*.part"))
    assert archives[0] == archives[1]
    with tarfile.open(tmp_path / "0" / "qsmr.tar.gz") as code:
        assert code.getmember("run_runscript.sh").mode == 0o755
        assert not [name for name in code.getnames() if "pycache" in name]
