"""The statistics keep what they promise, where the truth is known. ``make simulate-verdicts`` has more of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from qsmr import statistics
from qsmr.statistics import Quantity, confidence, failures_differ, judge
from verdict_cases import CASES, Case, answers, finds_a_difference

RUNS = 24


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.at_most and case.scans < 500], ids=lambda case: case.name
)
def test_little_is_found_where_nothing_differs(case):
    """The seeds are fixed; at a rate of 5 %, more than four of 24 are found in one of two hundred sets of seeds."""
    assert sum(finds_a_difference(case, seed) for seed in range(1, RUNS + 1)) <= 4


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.at_least and case.scans < 500], ids=lambda case: case.name
)
def test_what_differs_is_found(case):
    assert sum(finds_a_difference(case, seed) for seed in range(1, RUNS + 1)) >= 21


def test_a_difference_that_matters_is_told_from_one_that_does_not():
    small = answers(Case("", bias=0.01, error=0.30, scans=500), 1)["vmr"]
    assert small.differs
    assert small.within_limit
    large = answers(Case("", bias=0.10, error=0.30, scans=500), 1)["vmr"]
    assert large.differs
    assert large.beyond_limit


def test_more_data_tell_what_few_cannot():
    """As many scans as are said to tell do tell, mostly."""
    case = Case("", noise=0.05, error=0.10)
    found = answers(case, 1)["vmr"]
    assert not found.within_limit
    assert 60 < found.scans_that_tell < 3000
    assert answers(dataclasses.replace(case, scans=2 * found.scans_that_tell), 2)["vmr"].within_limit


def test_a_difference_that_goes_with_latitude_is_found():
    rng = np.random.default_rng(1)
    latitude = rng.uniform(-80, 80, 60)
    there = 1 + 0.05 * rng.standard_normal((60, 25))
    here = (1 + 0.05 * rng.standard_normal((60, 25))) * (1 + 0.05 * np.sign(latitude))[:, None]
    answer = judge({"vmr": Quantity(here, there, np.full(25, 0.01), np.sin(np.radians(latitude))[:, None])})["vmr"]
    assert answer.has_pattern


@pytest.mark.parametrize("count", [6, 12, 60])
def test_intervals_hold_the_true_mean_as_often_as_they_state(count):
    held = []
    for seed in range(60):
        low, high = confidence(np.random.default_rng(seed).normal(size=(count, 25)))
        held.append(np.mean((low < 0) & (high > 0)))
    assert np.mean(held) == pytest.approx(0.95, abs=0.025)


def test_too_few_pairs_give_no_number_and_do_not_disturb_the_others():
    first = np.full((10, 3), np.nan)
    first[:, 0] = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3]
    first[:3, 1] = 1.0
    first[:, 2] = 0.0
    answer = judge({"some": Quantity(first, np.zeros((10, 3)), np.ones(3))})["some"]
    assert np.isnan(answer.p[1])
    assert answer.p[0] <= statistics.ALPHA
    assert answer.p[2] == 1.0


@pytest.mark.parametrize(
    ("new", "gone", "differ"), [(15, 0, True), (0, 12, True), (1, 0, False), (6, 5, False), (0, 0, False)]
)
def test_failures_differ_where_chance_does_not_explain_them(new, gone, differ):
    assert failures_differ(new, gone) is differ
