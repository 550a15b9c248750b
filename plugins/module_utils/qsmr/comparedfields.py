"""What is compared of a product: its fields, both sides' values of them, and the questions that are asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from . import statistics
from .libraries import libraries
from .statistics import Quantity

with libraries():
    import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

VALID_RESPONSE = 0.7
"""Measurement response from which a value is measured and not assumed, as users of Odin/SMR level 2 take it."""
# A difference of a volume mixing ratio matters from this part of the total error that the retrieval states.
ERROR_SHARE = 0.1


class Field(NamedTuple):
    """What it is called, its unit, and the size from which a difference matters: a part of the value, or so much."""

    meaning: str
    unit: str = "1"
    share: float = 0.02
    size: float = 0.0


PROFILES = {
    "vmr": Field("volume mixing ratio"),
    "measurement_response": Field("measurement response"),
    "vmr_error_total": Field("total error"),
    "vmr_error_noise": Field("noise error"),
}
"""The profiles that the page shows; OTHERS are compared, too, and named where they differ."""
OTHERS = {
    "vmr_apriori": Field("a priori"),
    "temperature": Field("temperature", "K", 0, 1.0),
    "pressure": Field("pressure", "Pa"),
    "level_latitude": Field("latitude of the levels", "°", 0, 0.1),
    "level_longitude": Field("longitude of the levels", "°", 0, 0.1),
    "kernel_area": Field("sum of the averaging kernel's rows"),
    "kernel_peak": Field("averaging kernel's diagonal"),
}
SCALARS = {"residual": "residual", "cost": "cost", "processing_time": "processing time"}
"""The numbers of a scan that the page shows."""
OTHER_SCALARS = {
    "quality": Field("quality"),
    "spectra": Field("number of spectra"),
    "lo_frequency": Field("LO frequency", "Hz", 0, 1e3),
    "frequency_offset": Field("frequency offset", "Hz", 0, 1e3),
    "latitude": Field("latitude", "°", 0, 0.1),
    "longitude": Field("longitude", "°", 0, 0.1),
}


class Pairs(NamedTuple):
    """What both sides have of the same scans, in the order of time: the project's values, and the other's."""

    altitude: Array
    latitude: Array
    days: Array
    profiles: Mapping[str, tuple[Array, Array]]
    scalars: Mapping[str, tuple[Array, Array]]


def quantities_of(pairs: Pairs) -> dict[str, Quantity]:
    """What is asked, all with one error budget."""
    valid = valid_range(pairs)
    first, second = pairs.profiles["vmr"]
    error = statistics.mean(pairs.profiles["vmr_error_total"][1])
    limit = np.where(np.isfinite(error), ERROR_SHARE * error, np.nan)
    latitude = np.radians(pairs.latitude)
    pattern = np.column_stack([np.sin(latitude), np.sin(latitude) ** 2, pairs.days])
    asked = {}
    if valid.any():
        asked["vmr"] = Quantity(first[:, valid], second[:, valid], limit[valid], pattern, spread=True)
    if not valid.all():
        asked["vmr_outside"] = Quantity(first[:, ~valid], second[:, ~valid], limit[~valid])
    for name, one in (PROFILES | OTHERS).items():
        if name != "vmr":
            asked[name] = question(one, *pairs.profiles[name])
    for name, both in pairs.scalars.items():
        if name != "processing_time":
            asked[name] = question(OTHER_SCALARS.get(name, Field(name)), both[0][:, None], both[1][:, None])
    changed = {name: one for name, one in asked.items() if not statistics.same(one.first, one.second).all()}
    return {name: one for name, one in asked.items() if name in changed or name == "vmr"}


def question(one: Field, first: Array, second: Array) -> Quantity:
    """Whether a field differs, and from which size that matters."""
    size = np.abs(statistics.mean(second)) if one.share else np.ones(second.shape[1])
    return Quantity(first, second, (one.share or one.size) * size)


def valid_range(pairs: Pairs) -> Array:
    """At which altitudes the measurement makes the value, in both projects; all where no response is known."""
    response = np.minimum(*(statistics.mean(one) for one in pairs.profiles["measurement_response"]))
    return np.asarray((response >= VALID_RESPONSE) | np.isnan(response))
