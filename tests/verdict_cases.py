"""Made-up pairs of projects of which the truth is known: nothing differs, or so much does.

A scan's profile is a truth that both projects share, times one and a noise of each project's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from qsmr import statistics
from qsmr.comparedfields import OTHER_SCALARS, OTHERS, PROFILES, SCALARS, Pairs, quantities_of
from qsmr.statistics import Answer

LEVELS = 25


@dataclass(frozen=True)
class Case:
    """``at_most`` or ``at_least`` so often a difference is to be found; ``among`` says which answers count."""

    name: str
    at_most: float | None = None
    at_least: float | None = None
    scans: int = 60
    noise: float = 0.05
    error: float = 0.10
    """Total error that the retrieval states, as a part of the value."""
    natural: float = 0.1
    """How much the truth varies from scan to scan."""
    vertical: float = 0.0
    along: float = 0.0
    """Correlation of the noise with that of the level below, and of the scan before."""
    lognormal: float = 0.0
    outliers: int = 0
    """In how many of the two 3 % of the profiles are three times as large, or a third."""
    missing: float = 0.0
    bias: float = 0.0
    halves: float = 0.0
    """So much more on one half of the scans, drawn at random, so much less on the other."""


CASES = [
    *(
        Case(f"nothing differs, n={scans}, noise {noise:.0%}", 0.05, scans=scans, noise=noise)
        for scans in (12, 60, 500)
        for noise in (0.05, 0.10)
    ),
    Case("nothing differs, levels correlated by 0.9", 0.05, vertical=0.9),
    Case("nothing differs, 20 % missing", 0.05, missing=0.2),
    Case("nothing differs, 0.6 along the orbit", 0.06, along=0.6),
    Case("nothing differs, 0.9 along the orbit", 0.10, along=0.9),
    Case("nothing differs, 3 % outliers in one", 0.05, outliers=1),
    Case("nothing differs, 3 % outliers in both", 0.05, outliers=2),
    Case("nothing differs, lognormal 0.3", 0.05, lognormal=0.3),
    Case("2 % more, noise 5 %, error 10 %", at_least=0.95, bias=0.02),
    Case("2 % more, noise 5 %, error 30 %", at_least=0.95, bias=0.02, error=0.30),
    Case("2 % more, noise 5 %, error 30 %, n=500", at_least=0.99, bias=0.02, error=0.30, scans=500),
    Case("2 % more, noise 10 %, error 10 %, n=500", at_least=0.98, bias=0.02, noise=0.10, scans=500),
    Case("5 % more on one half, less on the other", at_least=0.95, halves=0.05, natural=0.03),
]


def pairs(case: Case, seed: int) -> Pairs:
    """Both projects of a case, from the random numbers of a seed."""
    rng = np.random.default_rng(seed)
    altitude = 16e3 + 2e3 * np.arange(LEVELS)
    typical = 8e-6 * np.exp(-(((altitude - 34e3) / 12e3) ** 2))
    truth = typical * (1 + case.natural * rng.standard_normal((case.scans, 1)))
    both = [truth * (1 + _noise(case, rng)) for _side in range(2)]
    for values in both[: case.outliers]:
        values *= np.where(rng.random((case.scans, 1)) < 0.03, rng.choice([1 / 3, 3.0], (case.scans, 1)), 1)
    sign = np.where(rng.permutation(case.scans) < case.scans // 2, 1, -1)
    both[0] *= 1 + case.bias + case.halves * sign[:, None]
    for values in both:
        values[rng.random(values.shape) < case.missing] = np.nan
    shape = truth.shape

    def like(value: Any, size: float = 0.02) -> tuple[Any, Any]:
        return tuple(value * (1 + size * rng.standard_normal(shape)) for _side in range(2))

    profiles: dict[str, Any] = {"vmr": tuple(both), "vmr_apriori": (truth, truth)}
    profiles |= {"vmr_error_total": like(case.error * typical), "vmr_error_noise": like(case.noise * typical)}
    profiles |= {name: like(0.9) for name in ("measurement_response", "kernel_area", "kernel_peak")}
    profiles |= {name: (np.ones(shape),) * 2 for name in (*PROFILES, *OTHERS) if name not in profiles}
    scalars = {
        name: tuple(1 + 0.1 * rng.standard_normal(case.scans) for _side in range(2))
        for name in (*SCALARS, *OTHER_SCALARS)
    }
    days = 57113 + np.arange(case.scans) * 1.5e-3
    return Pairs(altitude, 80 * np.sin(np.arange(case.scans) / 10), days, profiles, scalars)


def _noise(case: Case, rng: np.random.Generator) -> Any:
    noise = rng.standard_normal((case.scans, LEVELS))
    if case.lognormal:
        return np.exp(case.lognormal * noise) - 1
    for level in range(1, LEVELS if case.vertical else 0):
        noise[:, level] = case.vertical * noise[:, level - 1] + np.sqrt(1 - case.vertical**2) * noise[:, level]
    for scan in range(1, case.scans if case.along else 0):
        noise[scan] = case.along * noise[scan - 1] + np.sqrt(1 - case.along**2) * noise[scan]
    return case.noise * noise


def answers(case: Case, seed: int) -> Mapping[str, Answer]:
    return statistics.judge(quantities_of(pairs(case, seed)))


def finds_a_difference(case: Case, seed: int) -> bool:
    """Whether anything at all is said to differ."""
    return any(one.differs or one.spread_differs or one.has_pattern for one in answers(case, seed).values())
