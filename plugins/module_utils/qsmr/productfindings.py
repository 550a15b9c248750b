"""What the comparison of a product says, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import statistics
from .comparedfields import (
    OTHER_SCALARS,
    OTHERS,
    PROFILES,
    SCALARS,
    VALID_RESPONSE,
    Field,
    Pairs,
    question,
    valid_range,
)
from .libraries import libraries
from .statistics import Answer

with libraries():
    import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

DIFFERS, SMALL, SAME, UNKNOWN, ASIDE = "differs", "differs, but does not matter", "same", "cannot tell", "aside"


@dataclass(frozen=True)
class Finding:
    """Something that differs, or does not: a sentence without its end, and which of the answers it is."""

    text: str
    answer: str


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
    answer = statistics.judge({"processing_time": question(Field(""), *(one[:, None] for one in both))})
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
