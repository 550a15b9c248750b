"""Level 1 routes: scan logs, spectra, atmosphere, scan lists.

Links lead to this service as the client named it. A scan outside the mission is not found (the real API's answer
differs by version and is not clean).
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import numpy as np
from flask import Blueprint, abort, request

from . import atmosphere, instrument, scans

api = Blueprint("level1", __name__)
Json = dict[str, Any]

LEVELS = np.arange(0.0, 100e3, 2e3)
"""Altitudes (m) that ptz and a priori are given at."""


def root() -> str:
    """The API root as the client sees it, without a slash at the end."""
    return f"{request.host_url}rest_api"


def day_argument(name: str) -> date:
    """A required date of the query, else 400."""
    try:
        return date.fromisoformat(request.args[name][:10])
    except (KeyError, ValueError):
        abort(400, f"{name} must be given as YYYY-MM-DD")


def scan_urls(freqmode: int, scanid: int) -> Json:
    """The links from a scan to its level 1."""
    backend = scans.BANDS[freqmode][0]
    return {
        "URL-log": f"{root()}/v4/l1_log/{freqmode}/{scanid}/",
        "URL-spectra": f"{root()}/v4/scan/{backend}/{freqmode}/{scanid}/",
    }


def scan_log(freqmode: int, scanid: int, apriori: bool = True) -> Json:
    """The log of a scan: altitudes in m, places and SunZD in degrees, times in UTC."""
    altitude, ticks = instrument.geometry(freqmode, scanid)
    start, end = scans.mjd(ticks[0]), scans.mjd(ticks[-1])
    first, last = scans.place(start), scans.place(end)
    backend, when = scans.BANDS[freqmode][0], scans.utc(start)
    links = scan_urls(freqmode, scanid)
    links["URL-ptz"] = f"{root()}/v4/ptz/{when:%Y-%m-%d}/{backend}/{freqmode}/{scanid}/"
    if apriori:
        links["URL-apriori-O3"] = f"{root()}/v4/apriori/O3/{when:%Y-%m-%d}/{backend}/{freqmode}/{scanid}/"
    return {
        "AltStart": float(altitude[0]),
        "AltEnd": float(altitude[-1]),
        "LatStart": first.latitude,
        "LatEnd": last.latitude,
        "LonStart": first.longitude,
        "LonEnd": last.longitude,
        "MJDStart": start,
        "MJDEnd": end,
        "DateTime": f"{when:%Y-%m-%d %H:%M:%S.%f}",
        "SunZD": (first.sun_zenith + last.sun_zenith) / 2,
        "NumSpec": len(ticks),
        "FreqMode": freqmode,
        "ScanID": scanid,
        "Quality": 0,
        "URLS": links,
    }


def existing(scanid: int) -> int:
    if not scans.exists(scanid):
        abort(404, f"there is no scan {scanid}")
    return scanid


def matching_backend(backend: str, freqmode: int) -> None:
    if scans.BANDS[freqmode][0] != backend:
        abort(404, f"frequency mode {freqmode} is not measured with backend {backend}")


@api.get("/v4/l1_log/<freqmode:freqmode>/<scanid:scanid>/")
def log_v4(freqmode: int, scanid: int) -> Json:
    return {"Info": scan_log(freqmode, existing(scanid))}


@api.get("/v5/level1/<freqmode:freqmode>/<scanid:scanid>/Log/")
def log_v5(freqmode: int, scanid: int) -> Json:
    return {"Data": scan_log(freqmode, existing(scanid)), "Type": "Log", "Count": None}


@api.get("/v4/scan/<backend>/<freqmode:freqmode>/<scanid:scanid>/")
def spectra(backend: str, freqmode: int, scanid: int) -> Json:
    """The spectra of a scan: an object of arrays with an entry for each spectrum, if not said otherwise.

    Spectrum     list of spectra, each a list of Rayleigh-Jeans brightness temperatures (K), one for each channel
    Frequency    object: IFreqGrid (Hz, intermediate frequency of each channel), ChannelsID (number of each channel),
                 LOFreq (Hz, local oscillator of each spectrum; sky frequency = LOFreq + IFreqGrid)
    RestFreq     Hz, the line in the band; FreqRes, Hz, width of a channel (numbers)
    Altitude     m, of the tangent point; Latitude, Longitude (0..360), SunZD: degrees
    MJD          days, UTC; STW: satellite time, ticks; IntTime: s, time of integration
    Tsys         K, system temperature (single side band): the noise of a channel is Tsys / sqrt(FreqRes * IntTime)
    SBpath (m), TSat (C): state of the instrument
    Quality      0 = good; Orbit: number; ScanID, FreqMode, Backend: what was asked for (numbers and a text)
    """
    matching_backend(backend, freqmode)
    scan = instrument.observe(freqmode, existing(scanid))
    days = [scans.mjd(tick) for tick in scan.ticks]
    places = [scans.place(day) for day in days]
    line, count = scans.BANDS[freqmode][1], len(days)
    return {
        "Spectrum": np.round(scan.spectra, 3).tolist(),
        "Frequency": {
            "IFreqGrid": (instrument.INTERMEDIATE_FREQUENCY + instrument.CHANNELS).tolist(),
            "ChannelsID": (400 + np.rint(instrument.CHANNELS / instrument.CHANNEL_WIDTH)).astype(int).tolist(),
            "LOFreq": [line - instrument.INTERMEDIATE_FREQUENCY] * count,
        },
        "RestFreq": line,
        "FreqRes": instrument.CHANNEL_WIDTH,
        "Altitude": np.round(scan.altitude, 2).tolist(),
        "Latitude": [where.latitude for where in places],
        "Longitude": [where.longitude for where in places],
        "SunZD": [where.sun_zenith for where in places],
        "Orbit": [where.orbit for where in places],
        "MJD": days,
        "STW": scan.ticks,
        "IntTime": [instrument.INTEGRATION_TIME] * count,
        "Tsys": [instrument.SYSTEM_TEMPERATURE] * count,
        "SBpath": [0.0] * count,
        "TSat": [20.0] * count,
        "Quality": [0] * count,
        "ScanID": scanid,
        "FreqMode": freqmode,
        "Backend": backend,
    }


@api.get("/v4/ptz/<day>/<backend>/<freqmode:freqmode>/<scanid:scanid>/")
def ptz(day: str, backend: str, freqmode: int, scanid: int) -> Json:
    """Pressure (Pa), Temperature (K) and Altitude (m) at the scan, as a weather model would give them."""
    matching_backend(backend, freqmode)
    days = scans.mjd(existing(scanid))
    where, season = scans.place(days), scans.season(days)
    levels = LEVELS
    return {
        "Altitude": levels.tolist(),
        "Pressure": atmosphere.pressure(levels, where.latitude, season).tolist(),
        "Temperature": atmosphere.temperature(levels, where.latitude, season).tolist(),
        "Latitude": where.latitude,
        "Longitude": where.longitude,
        "MJD": days,
    }


@api.get("/v4/apriori/O3/<day>/<backend>/<freqmode:freqmode>/<scanid:scanid>/")
def apriori(day: str, backend: str, freqmode: int, scanid: int) -> Json:
    """The annual zonal mean of ozone at the scan: VMR (1) at Altitude (m) and Pressure (Pa)."""
    state = ptz(day, backend, freqmode, scanid)
    vmr = atmosphere.climatology(LEVELS, state["Latitude"])
    return {
        "Species": "O3",
        "VMR": vmr.tolist(),
        "Altitude": state["Altitude"],
        "Pressure": state["Pressure"],
    }


def listing(freqmode: int, start: date, end: date) -> Json:
    species = {name for value in request.args.getlist("apriori") for name in value.split(",")}
    logs = [scan_log(freqmode, scanid, bool(species & {"all", "O3"})) for scanid in scans.listed(freqmode, start, end)]
    return {"Data": logs, "Type": "Log", "Count": len(logs)}


@api.get("/v5/level1/<freqmode:freqmode>/scans/")
def scan_list(freqmode: int) -> Json:
    start, end = day_argument("start_time"), day_argument("end_time")
    if start > end:
        abort(400, "start_time is after end_time")
    return listing(freqmode, start, end)


@api.get("/v5/freqmode_info/<day>/<freqmode:freqmode>/")
def day_list(day: str, freqmode: int) -> Json:
    try:
        start = date.fromisoformat(day)
    except ValueError:
        abort(404, f"{day} is not a date YYYY-MM-DD")
    return listing(freqmode, start, start + timedelta(days=1))


@api.get("/v5/period_info/<int:year>/<int:month>/<int:day>/")
def period(year: int, month: int, day: int) -> Json:
    """How many scans of which mode there are on each day of a period; PeriodEnd is its last day."""
    try:
        start, length = date(year, month, day), int(request.args.get("length", "42"))
        last = start + timedelta(days=length - 1)
    except (ValueError, OverflowError):
        abort(400, "a date /yyyy/mm/dd/ and ?length=<days> are needed")
    if not 1 <= length <= 366:
        abort(400, "length must be 1 to 366 days")
    entries = []
    for now in (start + timedelta(days=n) for n in range(length)):
        for freqmode, (backend, _) in scans.BANDS.items():
            if count := len(scans.listed(freqmode, now, now + timedelta(days=1))):
                url = f"{root()}/v5/freqmode_info/{now}/{freqmode}/"
                entries.append(
                    {"Date": f"{now}", "Backend": backend, "FreqMode": freqmode, "NumScan": count, "URL": url}
                )
    return {
        "PeriodStart": f"{start}",
        "PeriodEnd": f"{last}",
        "Data": entries,
        "Type": "freqmode_info",
        "Count": len(entries),
    }


@api.get("/v4/vds/<backend>/<int:freqmode>/allscans")
def verification(backend: str, freqmode: int) -> Json:
    known = freqmode in scans.BANDS and scans.BANDS[freqmode][0] == backend
    return {
        "VDS": [
            {
                "Info": {
                    "ScanID": scanid,
                    "Date": f"{scans.utc(scans.mjd(scanid)):%Y-%m-%d}",
                    "FreqMode": freqmode,
                    "Backend": backend,
                },
                "URLS": scan_urls(freqmode, scanid),
            }
            for scanid in (scans.verification_set(freqmode) if known else ())
        ]
    }


@api.get("/v5/config_data/latest_ecmf_file/")
def latest_weather() -> Json:
    return {"File": f"ODIN_NWP_{scans.MISSION_END:%Y_%m_%d_00_00_00}.NC", "Date": f"{scans.MISSION_END}"}
