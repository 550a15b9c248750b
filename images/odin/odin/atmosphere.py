"""The synthetic atmosphere: pressure, temperature and ozone over a place and time.

Shapes are idealised, not measured. `climatology` is what the API gives as a priori; `ozone_truth` is what the synthetic
spectra are made of and what no route tells.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from . import scans

Array = NDArray[np.float64]

EARTH_RADIUS = 6371e3  # m
GRID = np.arange(0.0, 100e3, 1e3) + 500.0
"""Altitudes (m) of the middles of the model's layers."""
LAYER = 1e3  # m

_GAS_OVER_GRAVITY = 287.05 / 9.80665  # m/K, dry air: the scale height per kelvin
_T_ALTITUDE = np.array([0, 11, 20, 32, 47, 51, 71, 86, 100]) * 1e3
_T_MIDDLE = np.array([288, 217, 217, 229, 271, 271, 215, 187, 195.0])  # K, after the US Standard Atmosphere 1976
_T_POLEWARD = np.array([-20, 4, 0, -4, -6, -6, 3, 6, 4.0])  # K more at the poles than at 45 degrees
_T_SUMMER = np.array([10, 4, 2, 5, 8, 8, -4, -16, -8.0])  # K more in polar summer than on the average


def temperature(altitude: Array, latitude: float, season: float) -> Array:
    """Temperature (K) at altitudes (m); latitude in degrees, season as part of the year."""
    poleward = 2 * np.sin(np.radians(latitude)) ** 2 - 1
    summer = -np.sin(np.radians(latitude)) * np.cos(2 * np.pi * season)
    return np.interp(altitude, _T_ALTITUDE, _T_MIDDLE + poleward * _T_POLEWARD + summer * _T_SUMMER)


def pressure(altitude: Array, latitude: float, season: float) -> Array:
    """Pressure (Pa) at altitudes (m) by hydrostatic balance from 101325 Pa at the ground."""
    fine = np.arange(0.0, 110e3, 250.0)
    inverse_scale = 1 / (_GAS_OVER_GRAVITY * temperature(fine, latitude, season))
    depth = np.concatenate([[0.0], np.cumsum((inverse_scale[1:] + inverse_scale[:-1]) / 2 * np.diff(fine))])
    return 101325.0 * np.exp(-np.interp(altitude, fine, depth))


def climatology(altitude: Array, latitude: float) -> Array:
    """Annual zonal mean of ozone, volume mixing ratio (1) at altitudes (m): one layer, lower and thinner poleward."""
    poleward = np.sin(np.radians(latitude)) ** 2
    peak, top = 34e3 - 3e3 * poleward, (8.2 - 2.0 * poleward) * 1e-6
    width = np.where(altitude < peak, 8.5e3, 15e3)
    return top * np.exp(-np.log(2) * ((altitude - peak) / width) ** 2) + 0.05e-6


def ozone_truth(scanid: int, altitude: Array) -> Array:
    """The ozone behind a scan, volume mixing ratio (1) at altitudes (m).

    The climatology, with a season, a planetary wave and a smooth disturbance that belongs to the scan.
    """
    days = scans.mjd(scanid)
    where = scans.place(days)
    latitude, longitude = np.radians(where.latitude), np.radians(where.longitude)
    season = -0.12 * np.sin(latitude) * np.cos(2 * np.pi * (scans.season(days) - 0.25))
    wave = 0.10 * np.sin(2 * latitude) ** 2 * np.cos(longitude + altitude / 12e3)
    rng = np.random.default_rng(scanid)
    centres = np.arange(12e3, 80e3, 8e3)
    bumps = rng.normal(0.0, 0.25, centres.size) @ np.exp(-(((altitude - centres[:, None]) / 6e3) ** 2))
    # exp keeps the mixing ratio above zero whatever the disturbances add up to.
    return climatology(altitude, where.latitude) * np.exp(season + wave + bumps)
