"""Is there a difference between pairs of values? Arrays in, answers out; without files, pages or words.

A row is a scan, in the order of time; a column is a level, or the one value that a scan has. What is asked of several
quantities is asked with one error budget: with no difference anywhere, anything at all is found in at most ``alpha`` of
all comparisons. Methods and their sources:

- If nothing differs, the two values of a scan can be swapped. So the null distribution comes from random swaps, which
  turn the sign of a scan's difference (sign flipping: Fisher 1935; Nichols & Holmes, Human Brain Mapping 15, 2002). All
  columns of a scan are swapped at once, so that however much they depend on each other is in it.
- One budget: each column's statistic is compared with the distribution of the largest of all columns (maximum T:
  Westfall & Young, Resampling-Based Multiple Testing, 1993).
- Neighbours along an orbit depend on each other: their correlation is estimated from the data, with the small-sample
  correction of Kendall (1954), scans are swapped in blocks, and what the blocks do not cover widens the scale
  (effective number of a first-order autoregressive series: Bayley & Hammersley 1946).
- Outliers: differences are limited to three median absolute differences (Winsor's way: Tukey 1962).
- Another spread: the sums and the differences of pairs are correlated then (Pitman 1939, Morgan 1939).
- Equivalence: a confidence interval for all columns at once that lies within a limit (Schuirmann 1987).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .libraries import libraries

with libraries():
    import numpy as np
    from scipy import stats  # type: ignore[import-untyped, unused-ignore]

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

Key = tuple[str, str]
"""A quantity, and what is asked of it: mean, whole (profile), spread, pattern."""
ALPHA = 0.04
"""What is spent on all quantities together; FAILURES_ALPHA is the rest of the 5 %."""
FAILURES_ALPHA = 0.01
FEWEST_SCANS = 6  # with fewer, all signs equal has a probability of over 3 %
FLIPS = 999
MOST_BLOCKS = 512
_EXHAUSTIVE = 11  # up to so many blocks, all combinations of signs are fewer than FLIPS
_CLIP, _CLIP_SPREAD = 3.0, 1.0
_SCATTER = 1.6  # the means of many columns scatter by some 0.6 of the interval's half width
_ROUNDING = 1e-6  # differences below this part of a value are what single precision leaves


@dataclass(frozen=True)
class Quantity:
    """Values (scan x column) of both sides, NaN where there are none, and the size from which a difference matters.

    ``pattern`` (scan x number) is what a difference may go with, such as latitude. ``spread`` asks whether the spread
    over the scans is another one, too.
    """

    first: Array
    second: Array
    limit: Array
    pattern: Array | None = None
    spread: bool = False


@dataclass(frozen=True)
class Answer:
    """What can be said of a quantity. All arrays have a number for each column.

    ``p`` is adjusted for everything that was asked at once, ``p_whole`` that of the mean over the columns, ``p_spread``
    that of the spread, whole profiles last, ``p_pattern`` those of the patterns. ``low`` and ``high`` hold the mean
    differences of all columns at once. ``effective`` is how many independent scans the scans are worth.
    """

    mean: Array
    low: Array
    high: Array
    p: Array
    p_whole: float
    p_spread: Array
    p_pattern: Array
    limit: Array
    scans: int
    effective: float

    @property
    def differs(self) -> bool:
        """Whether the mean differs, in a column or over all."""
        return bool(self.p_whole <= ALPHA or (self.p <= ALPHA).any())

    @property
    def spread_differs(self) -> bool:
        return bool((self.p_spread <= ALPHA).any())

    @property
    def has_pattern(self) -> bool:
        return bool((self.p_pattern <= ALPHA).any())

    @property
    def within_limit(self) -> bool:
        """Whether the mean difference is shown to be smaller than the limit in all columns."""
        known = np.isfinite(self.mean) & np.isfinite(self.limit)
        return bool(known.any() and ((self.low > -self.limit) & (self.high < self.limit))[known].all())

    @property
    def beyond_limit(self) -> bool:
        """Whether the mean difference is shown to be larger than the limit in some column."""
        return bool(((self.low > self.limit) | (self.high < -self.limit)).any())

    @property
    def scans_that_tell(self) -> int | None:
        """About how many scans would show the mean to be within the limit, if nothing differs; None if unknown."""
        with np.errstate(divide="ignore", invalid="ignore"):
            factor = (_SCATTER * (self.high - self.low) / 2 / self.limit) ** 2
        known = factor[np.isfinite(factor)]
        return int(np.ceil(self.scans * max(float(np.max(known)), 1))) if known.size else None


def judge(quantities: Mapping[str, Quantity]) -> dict[str, Answer]:
    """Answers for quantities of the same scans, in the order of time, with one error budget for all."""
    columns: dict[Key, Array] = {}
    for name, quantity in quantities.items():
        difference, total = _clipped(quantity)
        columns[name, "mean"] = difference
        whole = mean(difference, axis=1)[:, None]
        columns[name, "whole"] = whole
        if quantity.spread:
            products = np.clip(difference, -_CLIP_SPREAD, _CLIP_SPREAD) * total
            columns[name, "spread"] = np.column_stack([products, mean(products, axis=1)])
        if quantity.pattern is not None:
            centred = quantity.pattern - mean(quantity.pattern)
            columns[name, "pattern"] = centred * whole
    p_values, quantiles = _adjusted(columns)
    return {name: _answer(name, quantity, p_values, quantiles[name, "mean"]) for name, quantity in quantities.items()}


def _answer(name: str, quantity: Quantity, p_values: Mapping[Key, Array], quantile: float) -> Answer:
    difference = quantity.first - quantity.second
    middle, error = mean(difference), standard_error(difference)
    none = np.array([])
    return Answer(
        *(middle, middle - quantile * error, middle + quantile * error, p_values[name, "mean"]),
        p_whole=float(p_values[name, "whole"][0]),
        p_spread=p_values.get((name, "spread"), none),
        p_pattern=p_values.get((name, "pattern"), none),
        limit=np.broadcast_to(quantity.limit, middle.shape),
        scans=len(difference),
        effective=len(difference) / inflation(autocorrelation(difference)),
    )


def same(first: Array, second: Array) -> Array:
    """Where two values are the same but for rounding, or both are missing."""
    with np.errstate(invalid="ignore"):
        close = np.abs(first - second) <= _ROUNDING * np.maximum(np.abs(first), np.abs(second))
    return np.asarray(close | (np.isnan(first) & np.isnan(second)))


def _clipped(quantity: Quantity) -> tuple[Array, Array]:
    """Differences in units of their median size, and centred sums in units of theirs, both without outliers."""
    first, second = quantity.first, quantity.second
    difference = np.where(same(first, second) & np.isfinite(first), 0.0, first - second)
    total = first + second
    total = total - _median(total)
    difference = np.clip(_scaled(difference), -_CLIP, _CLIP)
    total = np.clip(_scaled(total), -_CLIP_SPREAD, _CLIP_SPREAD)
    return difference, total - mean(total)


def _scaled(values: Array) -> Array:
    """Columns in units of the median of their sizes; where most are zero, of their mean."""
    size = np.abs(values)
    scale = _median(size)
    scale = np.where(scale > 0, scale, mean(size))
    return np.asarray(values / np.where(scale > 0, scale, 1.0))


def _adjusted(
    columns: Mapping[Key, Array],
) -> tuple[dict[Key, Array], dict[tuple[str, str], float]]:
    """Adjusted p-values, and the quantile of each group's own largest statistic for intervals of all its columns."""
    scans = len(next(iter(columns.values())))
    if scans < FEWEST_SCANS:
        nothing = {key: np.full(values.shape[1], np.nan) for key, values in columns.items()}
        return nothing, dict.fromkeys(columns, np.nan)
    unit = -(-scans // MOST_BLOCKS)  # scans that are swapped together at least
    signs = _signs(-(-scans // unit))
    largest = np.zeros(len(signs))
    observed, quantiles = {}, {}
    for key, values in columns.items():
        correlation = autocorrelation(values)
        length = max(1, min(round(inflation(correlation) / unit), len(signs[0]) // 8))
        starts = np.arange(0, len(signs[0]), length)
        if len(signs[0]) - starts[-1] < length and len(starts) > 1:
            starts = starts[:-1]  # the rest belongs to the last block
        sums = np.add.reduceat(np.nan_to_num(values), starts * unit)
        size = np.sqrt((sums**2).sum(0))
        sums = sums / np.where(size > 0, size, 1.0)
        left = inflation(correlation) / within_blocks(correlation, length * unit)
        statistic = _student(sums.sum(0), len(starts)) / np.sqrt(max(left, 1.0))
        observed[key] = _for_fewer(statistic, len(starts), scans / inflation(correlation))
        flipped = _student(signs[:, starts] @ sums.astype(np.float32), len(starts)).max(1)
        largest = np.maximum(largest, flipped)
        quantiles[key] = float(np.quantile(flipped, 1 - ALPHA))
    # Each is at least as large as itself: the first row of the signs is what was observed.
    found = {key: (largest[:, None] >= statistic - 1e-4).mean(0) for key, statistic in observed.items()}
    for key, values in columns.items():
        found[key][np.count_nonzero(np.isfinite(values), axis=0) < FEWEST_SCANS] = np.nan
    return found, quantiles


def _signs(blocks: int) -> Array:
    """Rows of signs for the blocks, all plus first: every combination where there are few, else random ones."""
    if blocks <= _EXHAUSTIVE - 1:
        numbers = np.arange(2**blocks)
        return np.where(numbers[:, None] >> np.arange(blocks) & 1, -1, 1).astype(np.float32)
    drawn = np.random.default_rng(blocks).choice(np.array([-1, 1], np.float32), size=(FLIPS + 1, blocks))
    drawn[0] = 1
    return drawn


def _student(sums: Array, blocks: int) -> Array:
    """Student's t of columns whose squares sum to 1, from their sums."""
    part = np.minimum(sums.astype(float) ** 2 / blocks, 1 - 1e-9)
    return np.asarray(np.sqrt((blocks - 1) * part / (1 - part)))


def _for_fewer(statistic: Array, blocks: int, effective: float) -> Array:
    """Student's t of so many blocks that is as unlikely as this one is for fewer, independent scans."""
    if effective >= blocks:
        return statistic
    unlikely = stats.t.logsf(statistic, max(effective, FEWEST_SCANS) - 1)
    return np.asarray(stats.t.isf(np.exp(unlikely), blocks - 1))


def autocorrelation(values: Array) -> float:
    """The correlation of a scan with the next, over all columns, at least 0 (Kendall's correction for short series)."""
    rest = values - mean(values)
    products = rest[1:] * rest[:-1]
    both = np.isfinite(products)
    power = np.nanmean(rest**2) * np.count_nonzero(both) if both.any() else 0.0
    found = float(np.nansum(products) / power) if power > 0 else 0.0
    return float(np.clip(found + (1 + 3 * found) / max(len(values), 1), 0.0, 0.97))


def inflation(correlation: float) -> float:
    """How many scans are worth one independent one, in a long series."""
    return (1 + correlation) / (1 - correlation)


def within_blocks(correlation: float, length: int) -> float:
    """The part of ``inflation`` that sums of blocks of this length hold."""
    lags = np.arange(1, length)
    return float(1 + 2 * np.sum((1 - lags / length) * correlation**lags))


def standard_error(differences: Array) -> Array:
    """The standard error of the mean of each column, for scans that depend on their neighbours."""
    count = np.maximum(np.isfinite(differences).sum(0), 1)
    return np.asarray(spread(differences) * np.sqrt(inflation(autocorrelation(differences)) / count))


def confidence(differences: Array) -> tuple[Array, Array]:
    """The 95 % confidence interval (Student's t) of the mean of each column by itself; NaN where there are too few."""
    count = np.isfinite(differences).sum(0)
    effective = np.maximum(count / inflation(autocorrelation(differences)), 2.0)
    half = stats.t.ppf(0.975, effective - 1) * standard_error(differences)
    middle = np.where(count >= FEWEST_SCANS, mean(differences), np.nan)
    return middle - half, middle + half


def failures_differ(new: int, gone: int) -> bool:
    """Whether failures moved to one side (McNemar's exact test, 1947): so many scans fail on one side only."""
    return bool(new + gone and stats.binomtest(new, new + gone).pvalue <= FAILURES_ALPHA)


def mean(values: Array, axis: int = 0) -> Array:
    """The mean of what is known."""
    count = np.isfinite(values).sum(axis)
    return np.asarray(np.where(count, np.nansum(values, axis) / np.maximum(count, 1), np.nan))


def spread(values: Array) -> Array:
    """The standard deviation of each column, of what is known; NaN of a single value."""
    count = np.isfinite(values).sum(0)
    squares = np.nansum((values - mean(values)) ** 2, 0) / np.maximum(count - 1, 1)
    return np.asarray(np.where(count > 1, np.sqrt(squares), np.nan))


def _median(values: Array) -> Array:
    known = np.isfinite(values).any(0)
    found = np.full(values.shape[1], np.nan)
    if known.any():
        found[known] = np.nanmedian(values[:, known], axis=0)
    return found
