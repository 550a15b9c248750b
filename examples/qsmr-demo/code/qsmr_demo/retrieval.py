"""From the spectra of a scan to a level 2 document."""

from __future__ import annotations

from typing import Any

import numpy as np

from .estimation import Estimate, NotConverged, estimate
from .forward import LAYERS, ForwardModel

BASELINE_ERROR = 3.0  # K, a priori, of the offset of each spectrum


class NoResult(Exception):
    """A known reason why a scan gives no profile: it is the result, not a failure of the program."""


def log_interpolated(altitude: np.ndarray, source: dict[str, Any], name: str) -> np.ndarray:
    return np.exp(np.interp(altitude, source["Altitude"], np.log(source[name])))


def correlated(levels: np.ndarray, error: float, length: float) -> np.ndarray:
    """Covariance of the a priori: the error's correlation falls off exponentially with distance (m)."""
    return error**2 * np.exp(-np.abs(levels[:, None] - levels) / length)


def retrieve(
    scan: dict[str, Any],
    ptz: dict[str, Any],
    apriori: dict[str, Any],
    spectroscopy: dict[str, float],
    config: dict[str, float],
    mode: dict[str, Any],
    mode_name: str,
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The product, the information and the comments of a scan's level 2; raises NoResult.

    The state is ozone on the levels as a multiple of the a priori, which is interpolated linearly between levels and
    continued above and below, and an offset (K) of each spectrum.
    """
    tangents = np.array(scan["Altitude"])
    used = np.flatnonzero((tangents >= mode["lowest_tangent"]) & (tangents <= mode["highest_tangent"]))
    comments = [f"Status: {used.size} spectra left after altitude cropping"]
    if used.size < mode["fewest_spectra"]:
        raise NoResult(f"{used.size} spectra left after altitude cropping, {mode['fewest_spectra']} are needed")

    def picked(name: str) -> np.ndarray:
        return np.array(scan[name])[used]

    line = scan["RestFreq"]
    local_oscillator = np.array(scan["Frequency"]["LOFreq"])[used]
    offsets = local_oscillator[0] + np.array(scan["Frequency"]["IFreqGrid"]) - line
    spectra = picked("Spectrum")
    noise = picked("Tsys") / np.sqrt(scan["FreqRes"] * picked("IntTime"))
    levels = np.arange(mode["bottom"], mode["top"] + 1.0, config["level_spacing"])
    model = ForwardModel(
        line,
        offsets,
        tangents[used],
        pressure=log_interpolated(LAYERS, ptz, "Pressure"),
        temperature=np.interp(LAYERS, ptz["Altitude"], ptz["Temperature"]),
        ozone=log_interpolated(LAYERS, apriori, "VMR"),
        spectroscopy=spectroscopy,
    )
    between = np.array([np.interp(LAYERS, levels, unit) for unit in np.eye(levels.size)]).T
    baseline = np.repeat(np.eye(used.size), offsets.size, axis=0)

    def measurement(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        factor, offset = np.split(state, [levels.size])
        fit, change = model(between @ factor)
        jacobian = (change @ between).reshape(-1, levels.size)
        return (fit + offset[:, None]).ravel(), np.hstack([jacobian, baseline])

    covariance = np.zeros((levels.size + used.size,) * 2)
    covariance[: levels.size, : levels.size] = correlated(levels, config["apriori_error"], config["correlation_length"])
    covariance[levels.size :, levels.size :] = np.eye(used.size) * BASELINE_ERROR**2
    start = np.concatenate([np.ones(levels.size), np.zeros(used.size)])
    try:
        result = estimate(measurement, spectra.ravel(), np.repeat(noise, offsets.size), start, covariance)
    except NotConverged as error:
        raise NoResult(str(error)) from None
    comments.append(f"Status: converged after {result.iterations} iterations, cost {result.cost:.3f}")

    product = ozone_product(levels, result, log_interpolated(levels, apriori, "VMR"))
    nearest = used[np.abs(tangents[used] - levels[:, None]).argmin(axis=1)]
    middle = used[used.size // 2]
    common = {"FreqMode": scan["FreqMode"], "ScanID": scan["ScanID"], "InvMode": mode_name}
    product |= common | {
        "Product": f"O3 / {int(line / 1e9)} GHz / {mode['range']}",
        "Pressure": log_interpolated(levels, ptz, "Pressure").tolist(),
        "Temperature": np.interp(levels, ptz["Altitude"], ptz["Temperature"]).tolist(),
        "Latitude": [scan["Latitude"][i] for i in nearest],
        "Longitude": [scan["Longitude"][i] for i in nearest],
        "Lat1D": scan["Latitude"][middle],
        "Lon1D": scan["Longitude"][middle],
        "MJD": scan["MJD"][middle],
        "Quality": None,
    }
    misfit = (spectra.ravel() - result.fit) / np.repeat(noise, offsets.size)
    information = common | {
        "BLineOffset": [result.state[levels.size :].tolist()],
        "ChannelsID": scan["Frequency"]["ChannelsID"],
        "FitSpectrum": result.fit.reshape(spectra.shape).T.round(3).tolist(),
        "FreqOffset": 0.0,
        "LOFreq": float(local_oscillator[0]),
        "MinLmFactor": 0.0,
        "PointOffset": 0.0,
        "Residual": float(np.sqrt(np.mean(misfit**2))),
        "STW": [scan["STW"][i] for i in used],
        "SBpath": float(picked("SBpath").mean()),
        "Tsat": float(picked("TSat").mean()),
    }
    return product, information, comments


def ozone_product(levels: np.ndarray, result: Estimate, apriori: np.ndarray) -> dict[str, Any]:
    """The profile in volume mixing ratio, from the estimate in multiples of the a priori."""
    ozone = slice(levels.size)
    kernel = result.kernel[ozone, ozone]
    return {
        "Altitude": levels.tolist(),
        "Apriori": apriori.tolist(),
        "VMR": (apriori * result.state[ozone]).tolist(),
        "AVK": (apriori[:, None] * kernel / apriori).tolist(),
        "MeasResponse": kernel.sum(axis=1).tolist(),
        "ErrorTotal": (apriori * np.sqrt(np.diag(result.total_covariance)[ozone])).tolist(),
        "ErrorNoise": (apriori * np.sqrt(np.diag(result.noise_covariance)[ozone])).tolist(),
    }
