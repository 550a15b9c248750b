"""Forward model: brightness temperatures of limb paths through a layered atmosphere, and their derivatives.

Rays are straight, the beam is a pencil, each layer is uniform. Absorbers are one ozone line, a Lorentz line with the
width of the Voigt line (Olivero & Longbothum 1977), and a continuum that goes with the square of pressure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

EARTH_RADIUS = 6371e3  # m
BOLTZMANN = 1.380649e-23  # J/K
PLANCK = 6.62607015e-34  # J s
LIGHT = 299792458.0  # m/s
DALTON = 1.66053907e-27  # kg
SPACE = 2.725  # K

EDGES = np.concatenate([np.arange(8e3, 60e3, 1e3), np.arange(60e3, 95.1e3, 2.5e3)])
"""Altitudes (m) of the edges of the layers; tangent points lie above the lowest one."""
LAYERS = (EDGES[1:] + EDGES[:-1]) / 2


def planck(frequency: float, temperature: Any) -> Any:
    """Radiance of a black body (K) as Rayleigh-Jeans temperature (K)."""
    quantum = PLANCK * frequency / BOLTZMANN
    return quantum / np.expm1(quantum / temperature)


@dataclass
class ForwardModel:
    """One scan's view of its atmosphere."""

    line: float
    """Frequency of the line, Hz."""
    offsets: np.ndarray
    """Channels' frequencies less the line's, Hz."""
    tangents: np.ndarray
    """Tangent altitudes, m."""
    pressure: np.ndarray
    """Pa, on LAYERS as temperature (K) and ozone (volume mixing ratio) are."""
    temperature: np.ndarray
    ozone: np.ndarray
    spectroscopy: dict[str, float]

    def __post_init__(self) -> None:
        data = self.spectroscopy
        cold = data["reference_temperature"] / self.temperature
        collisions = data["broadening"] * self.pressure * cold ** data["broadening_exponent"]
        thermal = np.sqrt(2 * np.log(2) * BOLTZMANN * self.temperature / (data["mass"] * DALTON)) * self.line / LIGHT
        width = 0.5346 * collisions + np.sqrt(0.2166 * collisions**2 + thermal**2)
        shape = width / np.pi / (self.offsets[:, None] ** 2 + width**2)
        molecules = self.ozone * self.pressure / (BOLTZMANN * self.temperature)
        absorption = molecules * data["strength"] * cold ** data["strength_exponent"] * shape
        sine = np.maximum((EARTH_RADIUS + EDGES) ** 2 - (EARTH_RADIUS + self.tangents[:, None]) ** 2, 0.0)
        lengths = np.diff(np.sqrt(sine))[:, None, :]
        self._ozone_depth = lengths * absorption
        self._other_depth = lengths * data["continuum"] * self.pressure**2
        self._source = planck(self.line, self.temperature)

    def __call__(self, factor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Spectra (K, paths x channels) with the ozone of each layer times a factor, and their derivatives to it."""
        depth = self._ozone_depth * factor + self._other_depth
        # Along a path from the satellite: down to the tangent point, and up again behind it.
        transmission = np.exp(-np.cumsum(np.concatenate([depth[..., ::-1], depth], axis=-1), axis=-1))
        before = np.concatenate([np.ones_like(transmission[..., :1]), transmission[..., :-1]], axis=-1)
        source = np.concatenate([self._source[::-1], self._source])
        emitted = np.cumsum(source * (before - transmission), axis=-1)
        spectra = emitted[..., -1] + planck(self.line, SPACE) * transmission[..., -1]
        # A little more absorption in a layer adds emission there and dims all that lies behind.
        change = source * transmission - (spectra[..., None] - emitted)
        count = LAYERS.size
        return spectra, (change[..., count:] + change[..., count - 1 :: -1]) * self._ozone_depth
