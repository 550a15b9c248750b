"""Optimal estimation after Rodgers, Inverse Methods for Atmospheric Sounding (2000), chapters 3 to 5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

MOST_ITERATIONS = 10


class NotConverged(Exception):
    """The iteration did not settle."""


@dataclass
class Estimate:
    """What the measurement tells of a state."""

    state: np.ndarray
    kernel: np.ndarray
    """Averaging kernel: d estimate / d truth."""
    noise_covariance: np.ndarray
    total_covariance: np.ndarray
    """Noise and smoothing error."""
    fit: np.ndarray
    cost: float
    """Chi square of measurement and a priori for each measured value: about 1 if the model fits."""
    iterations: int


def estimate(
    model: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    measured: np.ndarray,
    noise: np.ndarray,
    apriori: np.ndarray,
    covariance: np.ndarray,
) -> Estimate:
    """Gauss-Newton iteration (Rodgers 5.8) from the a priori.

    `model` gives the measurement of a state and its Jacobian, `noise` is the standard deviation of each measured value.
    Raises NotConverged.
    """
    precision = np.linalg.inv(covariance)
    state = apriori
    fit, jacobian = model(state)
    iterations, step_size = 0, np.inf
    # Rodgers 5.29: until a step is far below the error of the estimate.
    while step_size > 0.01 * apriori.size:
        if iterations == MOST_ITERATIONS:
            raise NotConverged(f"no convergence in {MOST_ITERATIONS} iterations")
        weighted = jacobian.T / noise**2
        information = weighted @ jacobian + precision
        previous = state
        state = apriori + np.linalg.solve(information, weighted @ (measured - fit + jacobian @ (state - apriori)))
        step = state - previous
        fit, jacobian = model(state)
        step_size = step @ information @ step
        iterations += 1
    weighted = jacobian.T / noise**2
    total = np.linalg.inv(weighted @ jacobian + precision)
    gain = total @ weighted
    misfit, departure = (measured - fit) / noise, state - apriori
    return Estimate(
        state=state,
        kernel=gain @ jacobian,
        noise_covariance=(gain * noise**2) @ gain.T,
        total_covariance=total,
        fit=fit,
        cost=float((misfit @ misfit + departure @ precision @ departure) / measured.size),
        iterations=iterations,
    )
