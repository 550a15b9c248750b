"""Profiles of two sides at the same altitudes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .libraries import libraries

with libraries():
    import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]

REGULAR_SPACING = 2000.0  # m
MOST_LEVELS = 80
_SAME_LEVEL = 1.0  # m: levels that are nearer to each other are one


def common_grid(mine: Array, its: Array) -> Array:
    """The altitudes (m) to compare at: the levels themselves, of the coarser of two grids, where both reach.

    Where each scan has levels of its own, every 2 km. Empty where the two do not overlap.
    """
    grids = [_levels(altitude) for altitude in (mine, its)]
    if not all(map(len, grids)):
        return np.array([])
    bottom, top = max(grid[0] for grid in grids) - _SAME_LEVEL, min(grid[-1] for grid in grids) + _SAME_LEVEL
    grid = min(grids, key=lambda one: np.count_nonzero((one >= bottom) & (one <= top)))
    if max(map(len, grids)) > MOST_LEVELS:
        grid = np.arange(np.ceil(bottom / REGULAR_SPACING), top // REGULAR_SPACING + 1) * REGULAR_SPACING
    return np.asarray(grid[(grid >= bottom) & (grid <= top)])


def _levels(altitude: Array) -> Array:
    """The levels (m) that occur, each once."""
    found = np.unique(altitude[np.isfinite(altitude)])
    return found[np.diff(found, prepend=-np.inf) > _SAME_LEVEL]


def on_grid(values: Array, altitude: Array, grid: Array) -> Array:
    """Profiles (scan x level) at the altitudes of the grid: linear between neighbouring levels.

    NaN where a profile ends, and between two levels of which one has no value. Levels may come in any order.
    """
    if altitude.shape[1:] == grid.shape and (np.abs(altitude - grid) <= _SAME_LEVEL).all():
        return values.astype(float)
    result: Array = np.full((len(values), len(grid)), np.nan)
    for row, profile, heights in zip(result, values, altitude, strict=True):
        order = np.argsort(heights)[: np.count_nonzero(np.isfinite(heights))]
        if len(order):
            row[:] = _at(grid, heights[order], profile[order])
    return result


def _at(grid: Array, heights: Array, profile: Array) -> Array:
    above = np.clip(np.searchsorted(heights, grid), 1, max(len(heights) - 1, 1))
    below = above - 1
    above = np.minimum(above, len(heights) - 1)
    span = np.where(heights[above] > heights[below], heights[above] - heights[below], 1.0)
    part = (grid - heights[below]) / span
    found = profile[below] + part * (profile[above] - profile[below])
    for level in (below, above):
        found = np.where(np.abs(grid - heights[level]) <= _SAME_LEVEL, profile[level], found)
    outside = (grid < heights[0] - _SAME_LEVEL) | (grid > heights[-1] + _SAME_LEVEL)
    return np.asarray(np.where(outside, np.nan, found))
