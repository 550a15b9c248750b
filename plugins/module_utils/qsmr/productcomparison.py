"""A product of two projects, scan by scan, as numbers. See qsmr.statistics for the methods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from . import statistics
from .comparedfields import OTHER_SCALARS, OTHERS, PROFILES, SCALARS, Pairs, quantities_of, valid_range
from .grids import common_grid, on_grid
from .level2set import CONVENTIONS, open_results
from .libraries import libraries
from .productfindings import Finding, findings
from .statistics import Answer, confidence

with libraries():
    import numpy as np
    import xarray

if TYPE_CHECKING:
    from .compare import Side

    Array = np.ndarray[Any, Any]

BANDS = ((-90, -60), (-60, -30), (-30, 0), (0, 30), (30, 60), (60, 90))
"""Degrees of latitude."""
WORST = 6
PERCENTILES = (5, 25, 50, 75, 95)
KERNELS_AT_ONCE = 1024


@dataclass
class ProductComparison:
    """A product in both projects. ``data`` is what the NetCDF file holds; ``worst`` are rows of it, worst first."""

    product: str
    other_product: str
    data: xarray.Dataset
    worst: list[int]
    findings: list[Finding] = field(default_factory=list)
    identical: bool = False


def compare_product(side: Side, other: Side, product: str, other_product: str) -> ProductComparison:
    """Compare a product of a project with one of another project."""
    with open_results(side.directory, product) as mine, open_results(other.directory, other_product) as its:
        rows, other_rows = _same_scans(mine, its)
        pairs = _read(mine, its, rows, other_rows)
        scans = mine[["scan_id", "freq_mode", "time", "latitude", "longitude"]].isel(scan=rows).load()
    answers = statistics.judge(quantities_of(pairs)) if len(rows) and pairs.altitude.size else {}
    data = _data(scans, pairs, answers)
    data.attrs = {
        "title": f"{product}: {side.project} less {other.project}",
        "project": side.project,
        "other_project": other.project,
        "product": product,
        "other_product": other_product,
        "Conventions": CONVENTIONS,
        "history": "compare.yml",
        "provenance": json.dumps(side.snapshots),
        "other_provenance": json.dumps(other.snapshots),
    }
    score = data.misfit.values
    worst = [int(row) for row in np.argsort(-np.nan_to_num(score))[:WORST] if score[row] > 0]
    result = ProductComparison(product, other_product, data, worst)
    compared = [both for name, both in {**pairs.profiles, **pairs.scalars}.items() if name != "processing_time"]
    result.identical = bool(pairs.altitude.size) and all(statistics.same(*both).all() for both in compared)
    result.findings = list(findings(pairs, answers, product.split(" ")[0]))
    return result


def _same_scans(mine: xarray.Dataset, its: xarray.Dataset) -> tuple[Array, Array]:
    """Rows of the same scan in both, in the order of time."""
    rows = {key: row for row, key in enumerate(zip(its.freq_mode.values, its.scan_id.values, strict=True))}
    order = np.argsort(mine.time.values, kind="stable")
    keys = zip(mine.freq_mode.values[order], mine.scan_id.values[order], strict=True)
    found = [(row, rows[key]) for row, key in zip(order, keys, strict=True) if key in rows]
    return np.array([pair[0] for pair in found], int), np.array([pair[1] for pair in found], int)


def _read(mine: xarray.Dataset, its: xarray.Dataset, rows: Array, other_rows: Array) -> Pairs:
    sides = [(data, which, data.altitude.values[which]) for data, which in ((mine, rows), (its, other_rows))]
    altitude = common_grid(sides[0][2], sides[1][2])
    profiles: dict[str, tuple[Array, Array]] = {}
    for name in (*PROFILES, *OTHERS):
        if not name.startswith("kernel_"):
            first, second = (on_grid(data[name].values[which], heights, altitude) for data, which, heights in sides)
            profiles[name] = first, second
    kernels = [[on_grid(one, heights, altitude) for one in _kernels(data, which)] for data, which, heights in sides]
    for number, name in enumerate(("kernel_area", "kernel_peak")):
        profiles[name] = kernels[0][number], kernels[1][number]
    scalars = {
        name: (mine[name].values[rows].astype(float), its[name].values[other_rows].astype(float))
        for name in (*SCALARS, *OTHER_SCALARS)
    }
    days = mine.time.values[rows].astype("datetime64[s]").astype(float) / 86400
    return Pairs(altitude, mine.latitude.values[rows].astype(float), days, profiles, scalars)


def _kernels(data: xarray.Dataset, rows: Array) -> tuple[Array, Array]:
    """The sum of each row of the averaging kernels, and their diagonals (scan x level)."""
    levels = data.sizes["level"]
    area, peak = np.full((2, len(rows), levels), np.nan)
    for start in range(0, len(rows), KERNELS_AT_ONCE):
        part = slice(start, start + KERNELS_AT_ONCE)
        kernels = data["averaging_kernel"].isel(scan=rows[part]).values[:, :, :levels]
        area[part] = np.where(np.isfinite(kernels).any(2), np.nansum(kernels, 2), np.nan)
        peak[part] = np.diagonal(kernels, axis1=1, axis2=2)
    return area, peak


def _data(scans: xarray.Dataset, pairs: Pairs, answers: Mapping[str, Answer]) -> xarray.Dataset:
    found: dict[str, tuple[tuple[str, ...], Array, dict[str, str]]] = {}

    def put(name: str, dimensions: tuple[str, ...], values: Any, meaning: str, units: str = "1") -> None:
        found[name] = (dimensions, np.asarray(values), {"long_name": meaning, "units": units})

    level, scan, bounds = ("altitude",), ("scan",), ("band", "altitude")
    mean, spread = statistics.mean, statistics.spread
    for name, one in (PROFILES | OTHERS).items():
        first, second = pairs.profiles[name]
        put(f"{name}_mean", level, mean(first), f"mean {one.meaning}", one.unit)
        put(f"{name}_mean_other", level, mean(second), f"mean {one.meaning} of the other project", one.unit)
        put(f"{name}_difference_mean", level, mean(first - second), f"mean difference of {one.meaning}", one.unit)
        put(f"{name}_difference_q", level, _p_values(name, pairs, answers), f"adjusted p-value: {one.meaning} differs")
    first, second = pairs.profiles["vmr"]
    difference = first - second
    low, high = confidence(difference)
    put("pairs", level, np.isfinite(difference).sum(0), "number of pairs")
    put("valid", level, valid_range(pairs).astype("i1"), "1 where the response is at least 0.7 in both projects")
    put("vmr_spread", level, spread(first), "standard deviation over the scans")
    put("vmr_spread_other", level, spread(second), "standard deviation over the scans of the other project")
    put("vmr_spread_q", level, _p_values("vmr", pairs, answers, spread=True), "adjusted p-value: the spread differs")
    put("vmr_difference_low", level, low, "lower end of the 95 % confidence interval of the mean difference")
    put("vmr_difference_high", level, high, "upper end of the 95 % confidence interval of the mean difference")
    put("vmr_difference_spread", level, spread(difference), "standard deviation of the difference")
    percentile = ("percentile", "altitude")
    put("vmr_difference_percentile", percentile, _percentiles(difference), "percentiles of the difference")

    inside = [(pairs.latitude >= south) & ((pairs.latitude < north) | (north == 90)) for south, north in BANDS]
    by_band = [difference[band] for band in inside]
    ends = [confidence(band) for band in by_band]
    put("band_pairs", ("band",), [np.count_nonzero(band) for band in inside], "number of pairs in the latitude band")
    put("band_difference_mean", bounds, [mean(band) for band in by_band], "mean difference in the band")
    put("band_difference_spread", bounds, [spread(band) for band in by_band], "its standard deviation")
    put("band_difference_low", bounds, [end[0] for end in ends], "lower end of its 95 % confidence interval")
    put("band_difference_high", bounds, [end[1] for end in ends], "upper end of its 95 % confidence interval")

    error = np.sqrt(pairs.profiles["vmr_error_total"][0] ** 2 + pairs.profiles["vmr_error_total"][1] ** 2)
    error = np.where(error > 0, error, spread(difference))
    with np.errstate(divide="ignore", invalid="ignore"):
        misfit = np.sqrt(mean((difference / error) ** 2, axis=1))
    put("misfit", scan, misfit, "root mean square of the difference in units of the combined total error")
    for name in ("vmr", "vmr_error_total", "measurement_response"):
        mine, its = (values.astype("f4") for values in pairs.profiles[name])
        put(name, ("scan", "altitude"), mine, PROFILES[name].meaning)
        put(f"{name}_other", ("scan", "altitude"), its, f"{PROFILES[name].meaning} of the other project")
    apriori = pairs.profiles["vmr_apriori"][0].astype("f4")
    put("vmr_apriori", ("scan", "altitude"), apriori, "a priori volume mixing ratio")
    for name, meaning in SCALARS.items():
        units = "s" if name == "processing_time" else "1"
        put(name, scan, pairs.scalars[name][0], meaning, units)
        put(f"{name}_other", scan, pairs.scalars[name][1], f"{meaning} of the other project", units)
    height = {"units": "m", "standard_name": "altitude", "positive": "up", "axis": "Z"}
    coordinates = {
        "altitude": ("altitude", pairs.altitude, height),
        "percentile": ("percentile", np.array(PERCENTILES), {"units": "percent", "long_name": "percentile"}),
        "band_name": ("band", [band_name(band) for band in BANDS], {"long_name": "latitude band"}),
        "scan_id": ("scan", scans.scan_id.values, {"long_name": "scan id"}),
        "freq_mode": ("scan", scans.freq_mode.values, {"long_name": "frequency mode"}),
        "time": ("scan", scans.time.values, {"standard_name": "time", "units_metadata": "leap_seconds: none"}),
        "latitude": ("scan", scans.latitude.values, {"units": "degrees_north", "standard_name": "latitude"}),
        "longitude": ("scan", scans.longitude.values, {"units": "degrees_east", "standard_name": "longitude"}),
    }
    return xarray.Dataset(found, coordinates)


def _p_values(name: str, pairs: Pairs, answers: Mapping[str, Answer], spread: bool = False) -> Array:
    """Adjusted p-values by altitude: 1 where nothing differs at all, NaN where there are too few pairs."""
    first, second = pairs.profiles[name]
    few = np.isfinite(first - second).sum(0) < statistics.FEWEST_SCANS
    found = np.where(few, np.nan, 1.0)
    valid = valid_range(pairs)
    parts = {"vmr": valid, "vmr_outside": ~valid} if name == "vmr" else {name: np.ones_like(valid)}
    for part, where in parts.items():
        if part in answers and not (spread and part == "vmr_outside"):
            found[where] = answers[part].p_spread[:-1] if spread else answers[part].p
    return found


def band_name(band: tuple[int, int]) -> str:
    return " to ".join(f"{abs(edge)}{'S' if edge < 0 else 'N' if edge > 0 else ''}" for edge in band)


def _percentiles(values: Array) -> Array:
    """PERCENTILES of each column."""
    columns = [column[np.isfinite(column)] for column in values.T]
    found = [np.percentile(one, PERCENTILES) if one.size else np.full(len(PERCENTILES), np.nan) for one in columns]
    return np.reshape(found, (-1, len(PERCENTILES))).T
