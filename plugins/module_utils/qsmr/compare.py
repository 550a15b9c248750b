"""Put the level 2 of two projects side by side, scan by scan: what did the change of the code do to the science?

All differences are the project's value less the other's, on the scans that both have. Methods and their sources:

- mean difference, with its 95 % confidence interval: percentile bootstrap over the scans (Efron & Tibshirani, An
  Introduction to the Bootstrap, 1993, chapter 13; scipy.stats.bootstrap), above 2000 scans Student's t (scipy.stats.t);
- is there a difference: Wilcoxon's signed-rank test on the pairs (Wilcoxon 1945; scipy.stats.wilcoxon);
- is the spread over the scans another one: the Pitman-Morgan test for pairs (Pitman 1939, Morgan 1939): the correlation
  of sums and differences (scipy.stats.pearsonr);
- many altitudes are tested at once: the false discovery rate is kept at 5 % (Benjamini & Hochberg 1995;
  scipy.stats.false_discovery_control).

The tests take scans as independent; along an orbit they are a little less so, which makes p-values somewhat too small.
Therefore a difference counts only if it is also large: see RELEVANT.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import QsmrError
from .level2set import CONVENTIONS, Key, open_results, product_files
from .libraries import libraries
from .provenance import snapshots_of
from .resultindex import FILE, ResultIndex, opened

with libraries():
    import numpy as np
    import xarray
    from scipy import stats  # type: ignore[import-untyped, unused-ignore]

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

FALSE_DISCOVERIES = 0.05
# A mean difference of profiles counts from this part of the stated total error of one profile, ...
RELEVANT_ERROR = 0.1
# ... another quantity's from this part of its own size.
RELEVANT = 0.02
FEWEST_PAIRS = 6
MOST_RESAMPLED = 2000
RESAMPLES = 999
REGULAR_SPACING = 2000.0  # m
MOST_LEVELS = 80
BANDS = ((-90, -60), (-60, -30), (-30, 0), (0, 30), (30, 60), (60, 90))
"""Degrees of latitude."""
WORST = 6
IMAGES = ("git commit", "image", "base image")
PERCENTILES = (5, 25, 50, 75, 95)
PROFILES = {
    "vmr": "volume mixing ratio",
    "measurement_response": "measurement response",
    "vmr_error_total": "total error",
    "vmr_error_noise": "noise error",
}
SCALARS = {"residual": "residual", "cost": "cost", "processing_time": "processing time"}


@dataclass(frozen=True)
class Side:
    """One of the two projects: its scans as the index has them, and what made them."""

    project: str
    directory: Path
    scans: dict[Key, Mapping[str, Any]]
    snapshots: list[dict[str, Any]]

    @classmethod
    def read(cls, project: str, directory: Path) -> Side:
        """Raises QsmrError if there are no results."""
        if not (directory / FILE).exists():
            raise QsmrError(f"{directory} has no results of {project}: run results.yml -e qsmr_project={project}")
        with opened(directory, check_mode=True) as index:
            return cls(project, directory, dict(_outcomes(index)), snapshots_of(index, directory))

    def count(self, outcome: str) -> int:
        return sum(scan["outcome"] == outcome for scan in self.scans.values())


def _outcomes(index: ResultIndex) -> Iterator[tuple[Key, Mapping[str, Any]]]:
    for row in index.rows():
        outcome = "job_failed" if row["state"] == "failed" else row["outcome"] or "wanted"
        reason = "" if outcome in ("retrieved", "job_failed") else row["reason"]
        yield (row["freq_mode"], row["scan_id"]), {"outcome": outcome, "reason": reason}


@dataclass(frozen=True)
class Finding:
    """Something that differs, or does not: a sentence without its end, and whether it counts."""

    text: str
    counts: bool


@dataclass
class ProductComparison:
    """A product in both projects. ``data`` is what the NetCDF file holds; ``worst`` are rows of it, worst first."""

    product: str
    other_product: str
    data: xarray.Dataset
    worst: list[int]
    findings: list[Finding] = field(default_factory=list)
    identical: bool = False


@dataclass
class Comparison:
    """A project against another one."""

    side: Side
    other: Side
    coverage: dict[str, int]
    new_failures: list[tuple[Key, str, str]]
    """Scans that the other project has a profile of: outcome and reason here."""
    gone_failures: list[tuple[Key, str, str]]
    """Scans that this project only has a profile of: outcome and reason there."""
    settings: list[tuple[str, str, str]]
    """What differs in settings and images: name, there, here."""
    commits: list[str]
    """The commits between the two, as git tells them where the code is at hand."""
    notes: list[str]
    products: list[ProductComparison]
    verdict: str = ""


def compare(side: Side, other: Side) -> Comparison:
    """Compare two projects. Raises QsmrError if they have no scan with a profile in common."""
    if side.project == other.project:
        raise QsmrError(f"{side.project} is to be compared with itself: set qsmr_compare_with to another project")
    common = side.scans.keys() & other.scans.keys()
    here, there = ({key for key, scan in one.scans.items() if scan["outcome"] == "retrieved"} for one in (side, other))
    if not here & there:
        raise QsmrError(
            f"{side.project} and {other.project} have no scan with a profile in common"
            f" ({len(here)} and {len(there)} scans have one): do they have the same scan ids and frequency mode?"
        )
    coverage = {
        "scans of both": len(common),
        f"only {side.project}": len(side.scans.keys() - common),
        f"only {other.project}": len(other.scans.keys() - common),
        "profiles in both": len(here & there),
        "failures new": len((there - here) & common),
        "failures gone": len((here - there) & common),
    }
    result = Comparison(
        side,
        other,
        coverage,
        new_failures=[_failure(side, key) for key in sorted((there - here) & common)],
        gone_failures=[_failure(other, key) for key in sorted((here - there) & common)],
        settings=settings_difference(side.snapshots, other.snapshots),
        commits=commits_between(other.snapshots, side.snapshots),
        notes=[*_notes(side), *_notes(other)],
        products=[_compare_product(side, other, *pair) for pair in product_pairs(side, other)],
    )
    result.verdict = verdict(result)
    return result


def _failure(side: Side, key: Key) -> tuple[Key, str, str]:
    return key, side.scans[key]["outcome"], side.scans[key]["reason"]


def _notes(side: Side) -> Iterator[str]:
    if len(side.snapshots) > 1:
        which = ", ".join(f"{made['documents']} by {made['snapshot_id']}" for made in side.snapshots)
        yield f"Several snapshots took part in {side.project}: {which}"
    unknown = [made["snapshot_id"] for made in side.snapshots if made["created"] is None]
    if unknown:
        yield f"What made {side.project} is not all known: no snapshot.json of {', '.join(unknown)} was found"
    if any(made["git_dirty"] for made in side.snapshots):
        yield f"The code of {side.project} had changes that are not in its git commit"


def product_pairs(side: Side, other: Side) -> list[tuple[str, str]]:
    """The products to compare: of the same name, else the first left of the same species."""
    here, there = list(product_files(side.directory)), list(product_files(other.directory))
    pairs = [(name, name) for name in here if name in there]
    left = [name for name in there if name not in here]
    for name in here:
        match = next((found for found in left if found.split(" ")[0] == name.split(" ")[0]), None)
        if name not in there and match:
            left.remove(match)
            pairs.append((name, match))
    return pairs


# --- provenance


def settings_difference(
    snapshots: Iterable[Mapping[str, Any]], others: Iterable[Mapping[str, Any]]
) -> list[tuple[str, str, str]]:
    """Settings and images that differ: name, value there (``others``), value here (``snapshots``)."""
    here, there = _settings(snapshots), _settings(others)
    names = dict.fromkeys([*here, *there])
    found = [(name, there.get(name, "–"), here.get(name, "–")) for name in names]
    return [row for row in found if row[1] != row[2]]


def _settings(snapshots: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What a project was made with, by name; where snapshots differ, all values."""
    values: dict[str, dict[str, None]] = {}

    def say(name: str, value: object) -> None:
        values.setdefault(name, {})[str(value)] = None

    for made in snapshots:
        for name, value in (made["settings"] or {}).items():
            say(name, value or "(default)")
        for line in {line for text in made["told"] for line in text.splitlines()}:
            for name, told in told_settings(line):
                say(name, told)
        if made["created"]:
            for name, key in zip(IMAGES, ("git_commit", "image_digest", "base_image_digest"), strict=True):
                say(name, made[key] or "none")
    return {name: ", ".join(sorted(several)) for name, several in sorted(values.items())}


def told_settings(line: str) -> Iterator[tuple[str, object]]:
    """The settings in a comment such as ``Config: q_std {"level_spacing": 2000}``, as the example code writes it."""
    match = re.fullmatch(r"(\w+): (\S+)\s*(\{.*\})?", line)
    if match:
        yield match[1], match[2]
        try:
            values = json.loads(match[3] or "{}")
        except ValueError:
            return
        yield from values.items()


def commits_between(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[str]:
    """The commits that ``new`` has and ``old`` has not, newest first; empty where git does not know them here."""
    before, after = ([made for made in snapshots if made["git_commit"]] for snapshots in (old, new))
    if not before or not after or before[-1]["git_commit"] == after[-1]["git_commit"]:
        return []
    span = f"{before[-1]['git_commit']}..{after[-1]['git_commit']}"
    command = ["git", "-C", str(after[-1]["code_directory"]), "log", "--format=%h %as %s", "--max-count=50", span, "--"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


# --- numbers


def _compare_product(side: Side, other: Side, product: str, other_product: str) -> ProductComparison:
    with open_results(side.directory, product) as mine, open_results(other.directory, other_product) as its:
        rows, other_rows = _pairs(mine, its)
        altitude = common_grid(mine.altitude.values[rows], its.altitude.values[other_rows])
        pairs = {
            name: tuple(
                on_grid(data[name].values[which], data.altitude.values[which], altitude)
                for data, which in ((mine, rows), (its, other_rows))
            )
            for name in (*PROFILES, "vmr_apriori")
        }
        scalars = {
            name: (mine[name].values[rows].astype(float), its[name].values[other_rows].astype(float))
            for name in SCALARS
        }
        data = _data(mine, rows, altitude, pairs, scalars)
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
    result.identical = bool(altitude.size) and all(
        np.array_equal(first, second, equal_nan=True)
        for name, (first, second) in (pairs | scalars).items()
        if name != "processing_time"
    )
    result.findings = list(findings(data, product))
    return result


def _pairs(mine: xarray.Dataset, its: xarray.Dataset) -> tuple[Array, Array]:
    """Rows of the same scan in both, in the order of time."""
    rows = {key: row for row, key in enumerate(zip(its.freq_mode.values, its.scan_id.values, strict=True))}
    order = np.argsort(mine.time.values, kind="stable")
    keys = zip(mine.freq_mode.values[order], mine.scan_id.values[order], strict=True)
    found = [(row, rows[key]) for row, key in zip(order, keys, strict=True) if key in rows]
    return np.array([pair[0] for pair in found], int), np.array([pair[1] for pair in found], int)


def common_grid(mine: Array, its: Array) -> Array:
    """The altitudes (m) to compare at: the levels themselves, of the coarser of two grids, where both reach.

    Where each scan has levels of its own, every 2 km. Empty where the two do not overlap.
    """
    grids: list[Array] = [np.unique(np.round(altitude[np.isfinite(altitude)])) for altitude in (mine, its)]
    if not all(map(len, grids)):
        return np.array([])
    bottom, top = max(grid[0] for grid in grids), min(grid[-1] for grid in grids)
    grid: Array = min(grids, key=lambda one: np.count_nonzero((one >= bottom) & (one <= top)))
    if max(map(len, grids)) > MOST_LEVELS:
        grid = np.arange(np.ceil(bottom / REGULAR_SPACING), top // REGULAR_SPACING + 1) * REGULAR_SPACING
    return np.asarray(grid[(grid >= bottom) & (grid <= top)])


def on_grid(values: Array, altitude: Array, grid: Array) -> Array:
    """Profiles (scan x level) at the altitudes of the grid: linear between levels, NaN where a profile ends."""
    if altitude.shape[1:] == grid.shape and (altitude == grid).all():
        return values.astype(float)
    result: Array = np.full((len(values), len(grid)), np.nan)
    for row, profile, heights in zip(result, values, altitude, strict=True):
        known = np.isfinite(profile) & np.isfinite(heights)
        if known.any():
            order = np.argsort(heights[known])
            row[:] = np.interp(grid, heights[known][order], profile[known][order], np.nan, np.nan)
    return result


def _data(
    mine: xarray.Dataset,
    rows: Array,
    altitude: Array,
    pairs: Mapping[str, tuple[Array, ...]],
    scalars: Mapping[str, tuple[Array, ...]],
) -> xarray.Dataset:
    found: dict[str, tuple[tuple[str, ...], Array, dict[str, str]]] = {}

    def put(name: str, dimensions: tuple[str, ...], values: Any, meaning: str, units: str = "1") -> None:
        found[name] = (dimensions, np.asarray(values), {"long_name": meaning, "units": units})

    level, scan = ("altitude",), ("scan",)
    for name, meaning in PROFILES.items():
        first, second = pairs[name]
        put(f"{name}_mean", level, _mean(first), f"mean {meaning}")
        put(f"{name}_mean_other", level, _mean(second), f"mean {meaning} of the other project")
        put(f"{name}_difference_mean", level, _mean(first - second), f"mean difference of {meaning}")
        put(f"{name}_difference_q", level, adjusted(wilcoxon(first - second)), f"adjusted p-value: {meaning} differs")
    first, second = pairs["vmr"]
    difference = first - second
    low, high = confidence(difference)
    put("pairs", level, np.isfinite(difference).sum(0), "number of pairs")
    put("vmr_spread", level, _spread(first), "standard deviation over the scans")
    put("vmr_spread_other", level, _spread(second), "standard deviation over the scans of the other project")
    put("vmr_spread_q", level, adjusted(pitman_morgan(first, second)), "adjusted p-value: the spread differs")
    put("vmr_difference_low", level, low, "lower end of the 95 % confidence interval of the mean difference")
    put("vmr_difference_high", level, high, "upper end of the 95 % confidence interval of the mean difference")
    put("vmr_difference_spread", level, _spread(difference), "standard deviation of the difference")
    put(
        "vmr_difference_percentile",
        ("percentile", "altitude"),
        percentiles(difference),
        "percentiles of the difference",
    )

    latitude = mine.latitude.values[rows]
    inside = [(latitude >= south) & ((latitude < north) | (north == 90)) for south, north in BANDS]
    put("band_pairs", ("band",), [np.count_nonzero(band) for band in inside], "number of pairs in the latitude band")
    by_band = [difference[band] for band in inside]
    put("band_difference_mean", ("band", "altitude"), [_mean(band) for band in by_band], "mean difference in the band")
    put("band_difference_spread", ("band", "altitude"), [_spread(band) for band in by_band], "its standard deviation")
    bounds = ("band", "altitude")
    ends = [confidence(band) for band in by_band]
    put("band_difference_low", bounds, [end[0] for end in ends], "lower end of its 95 % confidence interval")
    put("band_difference_high", bounds, [end[1] for end in ends], "upper end of its 95 % confidence interval")

    error = np.sqrt(pairs["vmr_error_total"][0] ** 2 + pairs["vmr_error_total"][1] ** 2)
    error = np.where(error > 0, error, _spread(difference))
    with np.errstate(divide="ignore", invalid="ignore"):
        misfit = np.sqrt(_mean((difference / error) ** 2, axis=1))
    put("misfit", scan, misfit, "root mean square of the difference in units of the combined total error")
    for name in ("vmr", "vmr_error_total", "measurement_response"):
        first, second = (values.astype("f4") for values in pairs[name])
        put(name, ("scan", "altitude"), first, PROFILES[name])
        put(f"{name}_other", ("scan", "altitude"), second, f"{PROFILES[name]} of the other project")
    put("vmr_apriori", ("scan", "altitude"), pairs["vmr_apriori"][0].astype("f4"), "a priori volume mixing ratio")
    for name, meaning in SCALARS.items():
        units = "s" if name == "processing_time" else "1"
        put(name, scan, scalars[name][0], meaning, units)
        put(f"{name}_other", scan, scalars[name][1], f"{meaning} of the other project", units)
    coordinates = {
        "altitude": ("altitude", altitude, {"units": "m", "standard_name": "altitude", "positive": "up", "axis": "Z"}),
        "percentile": ("percentile", np.array(PERCENTILES), {"units": "percent", "long_name": "percentile"}),
        "band_name": ("band", [band_name(band) for band in BANDS], {"long_name": "latitude band"}),
        "scan_id": ("scan", mine.scan_id.values[rows], {"long_name": "scan id"}),
        "freq_mode": ("scan", mine.freq_mode.values[rows], {"long_name": "frequency mode"}),
        "time": ("scan", mine.time.values[rows], {"standard_name": "time", "units_metadata": "leap_seconds: none"}),
        "latitude": ("scan", latitude, {"units": "degrees_north", "standard_name": "latitude"}),
        "longitude": ("scan", mine.longitude.values[rows], {"units": "degrees_east", "standard_name": "longitude"}),
    }
    return xarray.Dataset(found, coordinates)


def band_name(band: tuple[int, int]) -> str:
    return " to ".join(f"{abs(edge)}{'S' if edge < 0 else 'N' if edge > 0 else ''}" for edge in band)


def _mean(values: Array, axis: int = 0) -> Array:
    count = np.isfinite(values).sum(axis)
    return np.asarray(np.where(count, np.nansum(values, axis) / np.maximum(count, 1), np.nan))


def _spread(values: Array) -> Array:
    count = np.isfinite(values).sum(0)
    squares = np.nansum((values - _mean(values)) ** 2, 0) / np.maximum(count - 1, 1)
    return np.asarray(np.where(count > 1, np.sqrt(squares), np.nan))


def percentiles(values: Array) -> Array:
    """PERCENTILES of each column."""
    columns = [column[np.isfinite(column)] for column in values.T]
    found = [np.percentile(one, PERCENTILES) if one.size else np.full(len(PERCENTILES), np.nan) for one in columns]
    return np.reshape(found, (-1, len(PERCENTILES))).T


def confidence(values: Array) -> tuple[Array, Array]:
    """The 95 % confidence interval of the mean of each column; NaN where there are too few values."""
    ends = np.full((2, values.shape[1]), np.nan)
    for column, end in zip(values.T, ends.T, strict=True):
        known = column[np.isfinite(column)]
        if known.size < FEWEST_PAIRS:
            continue
        if not known.std() > 0:
            end[:] = known[0]
        elif known.size <= MOST_RESAMPLED:
            rng = np.random.default_rng(1)
            found = stats.bootstrap((known,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=rng)
            end[:] = found.confidence_interval
        else:
            end[:] = stats.t.interval(0.95, known.size - 1, known.mean(), stats.sem(known))
    return ends[0], ends[1]


def wilcoxon(differences: Array) -> Array:
    """The p-value of no difference for each column: 1 where all are equal, NaN where there are too few pairs."""
    found = np.full(differences.shape[1], np.nan)
    for number, column in enumerate(differences.T):
        known = column[np.isfinite(column)]
        if known.size >= FEWEST_PAIRS:
            found[number] = stats.wilcoxon(known).pvalue if known.any() else 1.0
    return found


def pitman_morgan(first: Array, second: Array) -> Array:
    """The p-value of an equal spread for each column of pairs: 1 where all are equal, NaN where there are too few."""
    found = np.full(first.shape[1], np.nan)
    for number, (one, two) in enumerate(zip(first.T, second.T, strict=True)):
        known = np.isfinite(one) & np.isfinite(two)
        if np.count_nonzero(known) >= FEWEST_PAIRS:
            total, difference = (one + two)[known], (one - two)[known]
            # Below what single precision holds there is nothing but rounding.
            varies = difference.std() > 1e-6 * total.std() > 0
            found[number] = stats.pearsonr(total, difference).pvalue if varies else 1.0
    return found


def adjusted(p_values: Array) -> Array:
    """P-values adjusted for the false discovery rate; NaN stays."""
    found = p_values.copy()
    known = np.isfinite(p_values)
    if known.any():
        found[known] = stats.false_discovery_control(np.clip(p_values[known], 0, 1))
    return found


# --- what it means


def findings(data: xarray.Dataset, product: str) -> Iterator[Finding]:
    """What differs and what does not, the profiles first."""
    species = product.split(" ")[0]
    altitude = data.altitude.values / 1e3
    difference, error = data.vmr_difference_mean.values, data.vmr_error_total_mean_other.values
    if not data.sizes["altitude"]:
        yield Finding(f"{species} has no scan or no altitude in common", counts=False)
        return
    if not np.isfinite(data.vmr_difference_q.values).any():
        yield Finding(f"only {data.sizes['scan']} scans in common, too few to tell", counts=False)
        return
    sure = data.vmr_difference_q.values < FALSE_DISCOVERIES
    with np.errstate(invalid="ignore"):
        large = np.abs(difference) > RELEVANT_ERROR * error
    counts = sure & (large | ~np.isfinite(error))
    if counts.any():
        at = int(np.nanargmax(np.where(counts, np.abs(difference), -1)))
        part = difference[at] / data.vmr_mean_other.values[at]
        text = f"mean {species} differs {_heights(altitude[counts])}, most at {altitude[at]:g} km: {part:+.1%}"
        yield Finding(f"{text} ({_sizes(difference[at])})", counts=True)
    elif sure.any():
        text = f"mean {species} differs by less than a tenth of the error of a profile (at most"
        yield Finding(f"{text} {_sizes(np.nanmax(np.abs(difference[sure])), sign='')})", counts=False)
    else:
        yield Finding(f"mean {species} does not differ (at no altitude significantly)", counts=False)
    ratio = data.vmr_spread.values / data.vmr_spread_other.values
    counts = (data.vmr_spread_q.values < FALSE_DISCOVERIES) & (np.abs(ratio - 1) > RELEVANT)
    if counts.any():
        text = f"the spread of {species} over the scans is {_change(np.nanmean(ratio[counts]))}"
        text += f" {_heights(altitude[counts])}"
        yield Finding(text, counts=True)
    for name in ("measurement_response", "vmr_error_total", "vmr_error_noise"):
        yield from _profile_finding(data, name, altitude)
    p_values = wilcoxon(np.stack([data[name].values - data[f"{name}_other"].values for name in SCALARS], axis=1))
    for name, q in zip(SCALARS, adjusted(p_values), strict=True):
        first, second = (float(np.nanmedian(data[which])) if np.isfinite(data[which]).any() else np.nan
                         for which in (name, f"{name}_other"))  # fmt: skip
        if q < FALSE_DISCOVERIES and second and abs(first / second - 1) > RELEVANT:
            aside = " (machines and their load take part in that)" if name == "processing_time" else ""
            text = f"{SCALARS[name]} is {_change(first / second)} (median {first:.3g} instead of {second:.3g}){aside}"
            yield Finding(text, counts=name != "processing_time")


def _profile_finding(data: xarray.Dataset, name: str, altitude: Array) -> Iterator[Finding]:
    first, second = data[f"{name}_mean"].values, data[f"{name}_mean_other"].values
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = first / second
    counts = (data[f"{name}_difference_q"].values < FALSE_DISCOVERIES) & (np.abs(ratio - 1) > RELEVANT)
    if counts.any():
        text = f"{PROFILES[name]} is {_change(np.nanmean(ratio[counts]))} {_heights(altitude[counts])}"
        if name == "measurement_response":
            text += f" ({np.nanmean(first[counts]):.2f} instead of {np.nanmean(second[counts]):.2f})"
        yield Finding(text, counts=True)


def _heights(altitude: Array) -> str:
    return f"at {altitude[0]:g} km" if len(altitude) == 1 else f"within {altitude[0]:g} to {altitude[-1]:g} km"


def _sizes(value: float, sign: str = "+") -> str:
    return f"{value * 1e6:{sign}.2g} ppm" if abs(value) > 1e-7 else f"{value * 1e9:{sign}.2g} ppb"


def _change(ratio: float) -> str:
    return f"{abs(ratio - 1):.0%} {'larger' if ratio > 1 else 'smaller'}"


def verdict(result: Comparison) -> str:
    """The answer in a sentence or two: first what counts, then how the mean profiles stand."""
    here, there = result.side.project, result.other.project
    scans = f"{result.coverage['profiles in both']} common scans"
    counting = [finding for product in result.products for finding in product.findings if finding.counts]
    told = dict.fromkeys([*counting, *(product.findings[0] for product in result.products)])
    words = "; ".join(finding.text for finding in told)
    if all(product.identical for product in result.products):
        answer = f"{here} and {there} give the same profiles on all {scans}"
    elif counting:
        answer = f"{here} differs from {there} on {scans}: {words}"
    else:
        answer = f"No difference that counts between {here} and {there} on {scans}: {words}"
    if result.new_failures or result.gone_failures:
        answer += f". Failures: {len(result.new_failures)} new, {len(result.gone_failures)} gone"
    # The retrieval's own words, or the same as they were set.
    doubled = [("Config", "QSMR_CONFIG"), ("InvMode", "QSMR_INVEMODE")]
    names = {name for name, _old, _new in result.settings}
    hidden = {*IMAGES, *(told_name for told_name, name in doubled if name in names)}
    causes = [f"{name} {old} → {new}" for name, old, new in result.settings if name not in hidden]
    if causes:
        answer += f". What was set otherwise: {', '.join(causes)}"
    elif result.commits:
        answer += f". Between them: {len(result.commits)} commits of the code"
    return answer + "."
