"""The synthetic instrument: what the radiometer would have seen in a scan.

A limb sounder with a pencil beam over a spherically layered atmosphere. Absorbers are one ozone line (a Lorentz line
with the width of the Voigt line, Olivero & Longbothum 1977) and a continuum that makes the troposphere opaque. Line
strength, widths and noise have the size of the real ones but are idealised.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from . import atmosphere, scans
from .atmosphere import EARTH_RADIUS, GRID, LAYER, Array

PLANCK_OVER_BOLTZMANN = 4.799243e-11  # K s
BOLTZMANN = 1.380649e-23  # J/K
BACKGROUND = 2.725  # K, of space
LINE_STRENGTH = 1.0e-16  # m2 Hz at 296 K
LINE_STRENGTH_EXPONENT = 2.0  # with (296 K / T)
PRESSURE_BROADENING = 24e3  # Hz/Pa at 296 K, half width
PRESSURE_BROADENING_EXPONENT = 0.75
DOPPLER_SPEED = 13.16  # m/s at 1 K: the most probable speed along one direction, sqrt(k/m), of an ozone molecule
SPEED_OF_LIGHT = 2.998e8  # m/s
CONTINUUM = 4.0e-15  # 1/(m Pa2)

INTERMEDIATE_FREQUENCY = 3.9e9  # Hz, of the line
CHANNEL_WIDTH = 1e6  # Hz
SYSTEM_TEMPERATURE = 3300.0  # K
INTEGRATION_TIME = 1.85  # s
BASELINE_SPREAD = 1.0  # K

_steps = np.linspace(-1.0, 1.0, 51)
CHANNELS = np.rint(400 * np.sinh(5 * _steps) / np.sinh(5)) * 1e6
"""Offsets (Hz) of the kept channels of the 800 MHz band from its middle: dense where the line is narrow."""


@dataclass(frozen=True)
class Scan:
    """A scan: one row for each spectrum."""

    altitude: Array
    """Tangent altitudes, m."""
    ticks: list[int]
    """Satellite time of each spectrum."""
    spectra: Array
    """Rayleigh-Jeans brightness temperature, K, spectra x channels."""
    noise: float
    """Standard deviation of the noise, K."""


def geometry(freqmode: int, scanid: int) -> tuple[Array, list[int]]:
    """Tangent altitudes (m) and satellite times of the spectra of a scan.

    Even ids look down from about 68 km, odd ids up from about 9 km.
    """
    rng = np.random.default_rng([freqmode, scanid, 1])
    count = 4 if scanid % scans.BROKEN_EVERY == 0 else int(rng.integers(16, 19))
    bottom, top = rng.normal(9e3, 400), rng.normal(68.5e3, 400)
    altitude = np.linspace(top, bottom, 18) if scanid % 2 == 0 else np.linspace(bottom, top, 18)
    return altitude[:count], [scanid + scans.FIRST_SPECTRUM_TICKS + scans.SPECTRUM_TICKS * i for i in range(count)]


def observe(freqmode: int, scanid: int) -> Scan:
    """Make the spectra of a scan, always the same ones for the same scan."""
    altitude, ticks = geometry(freqmode, scanid)
    days = scans.mjd(scanid)
    where = scans.place(days)
    season = scans.season(days)
    temperature = atmosphere.temperature(GRID, where.latitude, season)
    pressure = atmosphere.pressure(GRID, where.latitude, season)
    spectra = brightness(
        scans.BANDS[freqmode][1], altitude, temperature, pressure, atmosphere.ozone_truth(scanid, GRID)
    )
    rng = np.random.default_rng([freqmode, scanid, 2])
    noise = SYSTEM_TEMPERATURE / np.sqrt(CHANNEL_WIDTH * INTEGRATION_TIME)
    baseline = rng.normal(0.0, BASELINE_SPREAD, (altitude.size, 1))
    return Scan(altitude, ticks, spectra + baseline + rng.normal(0.0, noise, spectra.shape), float(noise))


def brightness(line: float, tangent: Array, temperature: Array, pressure: Array, ozone: Array) -> Array:
    """Noiseless brightness temperatures (K, Rayleigh-Jeans) of limb paths x CHANNELS.

    `line` is in Hz, `tangent` the altitudes (m) of the paths; temperature (K), pressure (Pa) and ozone (1) are on GRID.
    """
    density = pressure / (BOLTZMANN * temperature)
    cold = 296.0 / temperature
    lorentz = PRESSURE_BROADENING * pressure * cold**PRESSURE_BROADENING_EXPONENT
    doppler = line / SPEED_OF_LIGHT * DOPPLER_SPEED * np.sqrt(2 * np.log(2) * temperature)
    width = 0.5346 * lorentz + np.sqrt(0.2166 * lorentz**2 + doppler**2)
    shape = width / np.pi / (CHANNELS[:, None] ** 2 + width**2)
    strength = LINE_STRENGTH * cold**LINE_STRENGTH_EXPONENT
    absorption = density * ozone * strength * shape + CONTINUUM * pressure**2  # 1/m, channels x layers

    def along(radius: Array) -> Array:  # way from the tangent point to a layer's edge, paths x layers
        return np.sqrt(np.maximum(radius**2 - (EARTH_RADIUS + tangent[:, None]) ** 2, 0.0))

    edges = EARTH_RADIUS + GRID
    half = along(edges + LAYER / 2) - along(edges - LAYER / 2)
    depth = half[:, None, :] * absorption  # paths x channels x layers
    # From the satellite down to the tangent point and up on the far side: what lies before a layer dims it.
    both = np.concatenate([depth[..., ::-1], depth], axis=-1)
    seen = np.exp(-np.cumsum(both, axis=-1))
    before = np.concatenate([np.ones_like(seen[..., :1]), seen[..., :-1]], axis=-1)
    source = rayleigh_jeans(line, temperature)
    source = np.concatenate([source[::-1], source])
    return (before - seen) @ source + seen[..., -1] * rayleigh_jeans(line, np.array(BACKGROUND))


def rayleigh_jeans(frequency: float, temperature: Array) -> Array:
    """The Rayleigh-Jeans temperature (K) that gives the Planck radiance of a temperature (K)."""
    quantum = PLANCK_OVER_BOLTZMANN * frequency
    return quantum / np.expm1(quantum / temperature)
