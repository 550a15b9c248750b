"""A product of two projects, scan by scan: the numbers, and what they say. See qsmr.statistics for the methods."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from . import statistics
from .grids import common_grid, on_grid
from .level2set import CONVENTIONS, open_results
from .libraries import libraries
from .statistics import Answer, Quantity, confidence

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
VALID_RESPONSE = 0.7
"""Measurement response from which a value is measured and not assumed, as users of Odin/SMR level 2 take it."""
KERNELS_AT_ONCE = 1024
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

DIFFERS, SMALL, SAME, UNKNOWN, ASIDE = "differs", "differs, but does not matter", "same", "cannot tell", "aside"


@dataclass(frozen=True)
class Finding:
    """Something that differs, or does not: a sentence without its end, and which of the answers it is."""

    text: str
    answer: str


@dataclass
class ProductComparison:
    """A product in both projects. ``data`` is what the NetCDF file holds; ``worst`` are rows of it, worst first."""

    product: str
    other_product: str
    data: xarray.Dataset
    worst: list[int]
    findings: list[Finding] = field(default_factory=list)
    identical: bool = False


class Pairs(NamedTuple):
    """What both sides have of the same scans, in the order of time: the project's values, and the other's."""

    altitude: Array
    latitude: Array
    days: Array
    profiles: Mapping[str, tuple[Array, Array]]
    scalars: Mapping[str, tuple[Array, Array]]


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
            asked[name] = _quantity(one, *pairs.profiles[name])
    for name, both in pairs.scalars.items():
        if name != "processing_time":
            asked[name] = _quantity(OTHER_SCALARS.get(name, Field(name)), both[0][:, None], both[1][:, None])
    changed = {name: one for name, one in asked.items() if not statistics.same(one.first, one.second).all()}
    return {name: one for name, one in asked.items() if name in changed or name == "vmr"}


def _quantity(one: Field, first: Array, second: Array) -> Quantity:
    size = np.abs(statistics.mean(second)) if one.share else np.ones(second.shape[1])
    return Quantity(first, second, (one.share or one.size) * size)


def valid_range(pairs: Pairs) -> Array:
    """At which altitudes the measurement makes the value, in both projects; all where no response is known."""
    response = np.minimum(*(statistics.mean(one) for one in pairs.profiles["measurement_response"]))
    return np.asarray((response >= VALID_RESPONSE) | np.isnan(response))


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


# --- what it means


def findings(pairs: Pairs, answers: Mapping[str, Answer], species: str) -> Iterator[Finding]:
    """What differs and what does not, the profiles first."""
    scans = len(pairs.latitude)
    if not scans or not pairs.altitude.size:
        yield Finding(f"{species} has no scan or no altitude in common", UNKNOWN)
        return
    valid = valid_range(pairs)
    if scans < statistics.FEWEST_SCANS:
        yield Finding(_too_few(pairs, species), UNKNOWN)
    elif not valid.any():
        yield Finding(
            f"{species} is nowhere measured: the response is below {VALID_RESPONSE} at all altitudes", UNKNOWN
        )
    else:
        yield from _vmr_findings(pairs, answers["vmr"], species, valid)
    for name, one in {**PROFILES, "vmr_outside": Field(""), **OTHERS}.items():
        if name in answers and name != "vmr" and answers[name].differs:
            answer = answers[name]
            size = SMALL if answer.within_limit else DIFFERS
            if name == "vmr_outside":
                heights = _heights(pairs.altitude[~valid] / 1e3)
                yield Finding(f"{species} differs where it is not measured (response below 0.7), {heights}", ASIDE)
            else:
                yield Finding(_profile_text(name, one, pairs, answer), size)
    for name in (*SCALARS, *OTHER_SCALARS):
        if name in answers and answers[name].differs:
            size = SMALL if answers[name].within_limit else DIFFERS
            yield Finding(_scalar_text(name, pairs, answers[name]), size)
    yield from _processing_time(pairs)


def _too_few(pairs: Pairs, species: str) -> str:
    first, second = pairs.profiles["vmr"]
    part = float(statistics.mean((statistics.mean(first - second) / statistics.mean(second))[:, None])[0])
    count = len(first)
    text = f"only {count} {'scan' if count == 1 else 'scans'} in common, too few to tell"
    return text if np.isnan(part) else f"{text} ({species} is {part:+.1%} on average there)"


def _vmr_findings(pairs: Pairs, answer: Answer, species: str, valid: Array) -> Iterator[Finding]:
    altitude = pairs.altitude[valid] / 1e3
    second = statistics.mean(pairs.profiles["vmr"][1])[valid]
    sure = answer.p <= statistics.ALPHA
    if sure.any():
        at = int(np.nanargmax(np.where(sure, np.abs(answer.mean), -1)))
        text = f"mean {species} differs {_heights(altitude[sure])}, most at {_height(altitude[at])}:"
        text += f" {_part(answer.mean[at], second[at])} ({_sizes(answer.mean[at])})"
        yield Finding(text + _whether_it_matters(answer), SMALL if answer.within_limit else DIFFERS)
    elif answer.differs:
        part = float(np.nanmean(answer.mean) / np.nanmean(second))
        text = f"mean {species} differs over the whole profile, by {part:+.1%}"
        yield Finding(text + _whether_it_matters(answer), SMALL if answer.within_limit else DIFFERS)
    elif not np.isfinite(answer.limit).any():
        yield Finding(
            f"mean {species} shows no difference, and no error is stated to say how much would matter", UNKNOWN
        )
    elif answer.within_limit:
        yield Finding(f"mean {species} does not differ by as much as a tenth of the error of a profile", SAME)
    else:
        text = f"whether mean {species} differs cannot be told"
        more = answer.scans_that_tell
        yield Finding(text + (f" (about {_rounded(more)} scans would tell)" if more else ""), UNKNOWN)
    if answer.spread_differs:
        yield Finding(_spread_text(pairs, answer, species, valid), DIFFERS)
    if answer.has_pattern:
        goes_with = [
            name
            for name, p in zip(("latitude", "distance from the equator", "time"), answer.p_pattern, strict=True)
            if p <= statistics.ALPHA
        ]
        yield Finding(f"the difference of {species} goes with {' and '.join(goes_with)}", DIFFERS)


def _whether_it_matters(answer: Answer) -> str:
    if answer.within_limit:
        return ", less than what matters (a tenth of the error of a profile)"
    if answer.beyond_limit or not np.isfinite(answer.limit).any():
        return ""
    return ", perhaps less than what matters (a tenth of the error of a profile)"


def _spread_text(pairs: Pairs, answer: Answer, species: str, valid: Array) -> str:
    first, second = (one[:, valid] for one in pairs.profiles["vmr"])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = statistics.spread(first) / statistics.spread(second)
    sure = answer.p_spread[:-1] <= statistics.ALPHA
    where = _heights(pairs.altitude[valid][sure] / 1e3) if sure.any() else "over the whole profile"
    change = _change(float(np.nanmean(ratio[sure] if sure.any() else ratio)))
    text = f"the spread of {species} over the scans is {change} {where}"
    by_scan = statistics.mean((first - second) / statistics.mean(second), axis=1)
    up, down = by_scan[by_scan > 0], by_scan[by_scan < 0]
    both_ways = min(len(up), len(down)) * 4 >= len(by_scan) and not answer.differs
    if both_ways and min(np.median(up), -np.median(down)) >= 0.01:
        text += f": {np.median(up):+.1%} on {len(up)} scans and {np.median(down):+.1%} on {len(down)}"
    return text


def _profile_text(name: str, one: Field, pairs: Pairs, answer: Answer) -> str:
    first, second = (statistics.mean(values) for values in pairs.profiles[name])
    sure = answer.p <= statistics.ALPHA
    sure = sure if sure.any() else np.isfinite(answer.p)
    heights = _heights(pairs.altitude[sure] / 1e3)
    if one.share:
        with np.errstate(divide="ignore", invalid="ignore"):
            text = f"{one.meaning} is {_change(float(np.nanmean((first / second)[sure])))} {heights}"
        if one.unit == "1" and not name.startswith("vmr"):
            text += f" ({np.nanmean(first[sure]):.2f} instead of {np.nanmean(second[sure]):.2f})"
        return text
    return f"{one.meaning} differs by {float(np.nanmean(answer.mean[sure])):+.3g} {one.unit} {heights}"


def _scalar_text(name: str, pairs: Pairs, answer: Answer) -> str:
    first, second = (float(np.nanmedian(values)) for values in pairs.scalars[name])
    one = OTHER_SCALARS.get(name, Field(SCALARS.get(name, name)))
    if one.share and second:
        return f"{one.meaning} is {_change(first / second)} (median {first:.3g} instead of {second:.3g})"
    return f"{one.meaning} differs by {float(answer.mean[0]):+.3g} {one.unit if one.unit != '1' else ''}".rstrip()


def _processing_time(pairs: Pairs) -> Iterator[Finding]:
    """Told, but no part of the verdict: machines and their load take part in it."""
    both = pairs.scalars["processing_time"]
    answer = statistics.judge({"processing_time": _quantity(Field(""), *(one[:, None] for one in both))})
    if answer["processing_time"].differs and not answer["processing_time"].within_limit:
        first, second = (float(np.nanmedian(one)) for one in both)
        text = f"processing time is {_change(first / second)} (median {first:.3g} s instead of {second:.3g} s)"
        yield Finding(f"{text} (machines and their load take part in that)", ASIDE)


def _height(altitude: float) -> str:
    return f"{altitude:.1f}".removesuffix(".0") + " km"


def _heights(altitude: Array) -> str:
    first, last = _height(altitude[0]), _height(altitude[-1])
    return f"at {first}" if first == last else f"within {first.removesuffix(' km')} to {last}"


def _part(value: float, of: float) -> str:
    return f"{value / of:+.1%}" if of else "from 0"


def _sizes(value: float) -> str:
    return f"{value * 1e6:+.2g} ppm" if abs(value) > 1e-7 else f"{value * 1e9:+.2g} ppb"


def _change(ratio: float) -> str:
    if not np.isfinite(ratio):
        return "another"
    change = abs(ratio - 1)
    digits = 0 if change >= 0.1 else 1
    return f"{change:.{digits}%} {'larger' if ratio > 1 else 'smaller'}"


def _rounded(count: int) -> str:
    """To one digit and a half, as it is an estimate."""
    digits = 10 ** max(len(str(count)) - 2, 0)
    return f"{-(-count // digits) * digits:,}"
