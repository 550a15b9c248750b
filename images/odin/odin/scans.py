"""Which scans there are, when they were made and where the satellite looked: all from the scan id alone.

The instrument's clock gives the id. A mode's listed scans are SLOT_TICKS apart, laid so that 7014791071 and 7123991206
of mode 1 are among them. Any other id within the mission is a scan, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

MISSION_START = date(2001, 8, 4)
MISSION_END = date(2020, 6, 30)
"""First day without data, the day of the newest weather file."""

BANDS = {
    1: ("AC2", 501.5e9),
    2: ("AC1", 544.5e9),
    8: ("AC2", 489.0e9),
    13: ("AC1", 557.0e9),
    14: ("AC2", 576.5e9),
    17: ("AC2", 490.5e9),
    19: ("AC1", 557.0e9),
    21: ("AC1", 551.5e9),
    22: ("AC2", 576.5e9),
    23: ("AC1", 488.5e9),
    24: ("AC1", 576.5e9),
    25: ("AC1", 502.5e9),
    29: ("AC1", 499.5e9),
    102: ("AC2", 544.5e9),
    113: ("AC2", 557.0e9),
    119: ("AC2", 557.0e9),
    121: ("AC2", 551.5e9),
}
"""Frequency mode -> backend and the frequency (Hz) of the one idealised ozone line of its synthetic band."""

TICK_RATE = 16.0016444  # Hz
FIRST_SPECTRUM_TICKS = 320  # from the scan id to the first spectrum
SPECTRUM_TICKS = 80  # from one spectrum to the next
SLOT_TICKS = 2885  # three minutes: 479 scans a day
_ANCHOR = 7123991206
_MODE_SHIFT = 100  # ticks between neighbouring modes, a multiple of 5 as SLOT_TICKS is: see BROKEN_EVERY

BROKEN_EVERY = 1000
"""A scan whose id is a multiple is broken off after a few spectra. Listed ids never are."""

_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
_ORBIT_DAYS = 96 / 1440
_INCLINATION = math.radians(97.8)


def mjd(scanid: float) -> float:
    """Modified Julian date (days, UTC) at which a scan begins."""
    return (scanid - 6161431982) / TICK_RATE / 86400 + 56416.7782534


def utc(days: float) -> datetime:
    """A modified Julian date as datetime."""
    return _MJD_EPOCH + timedelta(days=days)


def first_id(when: datetime) -> int:
    """The lowest scan id that is not before a time."""
    days = (when - _MJD_EPOCH) / timedelta(days=1)
    return math.ceil((days - 56416.7782534) * 86400 * TICK_RATE + 6161431982)


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def exists(scanid: int) -> bool:
    """Whether the id lies within the mission."""
    return first_id(midnight(MISSION_START)) <= scanid < first_id(midnight(MISSION_END))


def listed(freqmode: int, start: date, end: date) -> range:
    """The ids of a mode's scans from day `start` to the day before `end`."""
    low, high = (first_id(midnight(min(max(day, MISSION_START), MISSION_END))) for day in (start, end))
    phase = _ANCHOR + (freqmode - 1) * _MODE_SHIFT
    return range(low + (phase - low) % SLOT_TICKS, high, SLOT_TICKS)


def verification_set(freqmode: int) -> Iterator[int]:
    """The ids of the verification data set: six scans of the first day of each month of 2015."""
    for month in range(1, 13):
        day = date(2015, month, 1)
        yield from listed(freqmode, day, day + timedelta(days=1))[::80]


@dataclass(frozen=True)
class Place:
    """Where the line of sight touches, degrees: latitude -90..90, longitude 0..360, solar zenith angle."""

    latitude: float
    longitude: float
    sun_zenith: float
    local_time: float
    """Mean solar time, hours."""
    orbit: int


def _from_node(revolutions: float) -> tuple[float, float]:
    """Latitude and longitude (rad) from the ascending node, in a frame that keeps still with the orbit."""
    argument = math.tau * revolutions
    latitude = math.asin(math.sin(_INCLINATION) * math.sin(argument))
    return latitude, math.atan2(math.cos(_INCLINATION) * math.sin(argument), math.cos(argument))


# One real place fixes the phase of the orbit, and the angle of its plane to the mean sun, which it keeps.
_EXAMPLE_MJD = mjd(_ANCHOR + FIRST_SPECTRUM_TICKS)
_EXAMPLE_LATITUDE, _EXAMPLE_LONGITUDE = math.radians(-4.48723), math.radians(95.4083)
_EXAMPLE_PHASE = 0.5 - math.asin(math.sin(_EXAMPLE_LATITUDE) / math.sin(_INCLINATION)) / math.tau
_PLANE = _EXAMPLE_LONGITUDE - _from_node(_EXAMPLE_PHASE)[1] + math.tau * _EXAMPLE_MJD


def place(days: float) -> Place:
    """The place of the tangent point at a modified Julian date, on a sun-synchronous orbit of 96 minutes."""
    latitude, along = _from_node((days - _EXAMPLE_MJD) / _ORBIT_DAYS + _EXAMPLE_PHASE)
    longitude = math.degrees(along + _PLANE - math.tau * days) % 360
    local_time = (days * 24 + longitude / 15) % 24
    declination = math.radians(-23.44) * math.cos(math.tau * (season(days) + 10 / 365.25))
    cos_zenith = math.sin(latitude) * math.sin(declination)
    cos_zenith += math.cos(latitude) * math.cos(declination) * math.cos(math.radians(15 * (local_time - 12)))
    orbit = int((days - mjd(first_id(midnight(MISSION_START)))) / _ORBIT_DAYS) + 1
    zenith = math.degrees(math.acos(max(-1.0, min(1.0, cos_zenith))))
    return Place(math.degrees(latitude), longitude, zenith, local_time, orbit)


def season(days: float) -> float:
    """Part of the year that has passed on 0..1, in mean years."""
    return (days - 51544) / 365.25 % 1  # from 1 January 2000
