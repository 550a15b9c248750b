"""A level 2 document: whether it is what was asked for, and what it tells (Odin API contract, sections 3 and 4).

Keys are looked up without regard to case, as the API takes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .level2set import KERNEL, PROFILES, Key, Values
from .libraries import libraries

with libraries():
    import numpy as np

Document = Mapping[str, Any]
UNKNOWN = "unknown"
_SNAPSHOT = re.compile(r"Snapshot: (\S+)")
_CONFIGURATION = re.compile(r"Config: (\S+)")
_COST = re.compile(r"\bcost ([0-9.eE+-]+)")
_SETTING = re.compile(r"(Config|InvMode): ")
_REQUIRED = ("product", "altitude", "vmr", "mjd", "lat1d", "lon1d")

_LINK = re.compile(r"/level2/(?:development/)?(\w+)/(\d+)/(\d+)/?$")
_LONGEST_REASON = 300
_YEARS = (40587, 88069)  # MJD of 1970 and 2100


class WrongDocument(Exception):
    """Why a document is not taken, on one line whatever it holds."""

    def __init__(self, why: str) -> None:
        super().__init__(" ".join(_text(why).split())[:_LONGEST_REASON])


@dataclass(frozen=True)
class Facts:
    """What a document tells in short. ``time`` is a modified Julian date (UTC), places are in degrees."""

    retrieved: bool
    reason: str
    """Why there is no profile; empty if there is one."""
    snapshot: str
    configuration: str
    settings: str
    """The comment lines that tell the retrieval's settings."""
    products: list[str] = field(default_factory=list)
    levels: int | None = None
    time: float | None = None
    latitude: float | None = None
    longitude: float | None = None
    residual: float | None = None
    cost: float | None = None


def check(document: Document, project: str, key: Key) -> Facts:
    """What a document tells. Raises WrongDocument unless it is the level 2 of this scan in this project, and whole."""
    freq_mode, scan_id = key
    _check_shape(document, scan_id)
    link = str((document.get("URLS") or {}).get("URL-level2") or "")
    match = _LINK.search(link)
    if match and match.groups() != (project, str(freq_mode), str(scan_id)):
        raise WrongDocument(f"level 2 of scan {scan_id} is of another project, mode or scan: {link}")
    info, products = _lower(document["L2i"]), document["L2"]
    for part in (info, *map(_lower, products)):
        for name, wanted in (("ScanID", scan_id), ("FreqMode", freq_mode)):
            if part.get(name.lower(), wanted) != wanted:
                raise WrongDocument(f"level 2 of scan {scan_id} holds {name} {part[name.lower()]} instead of {wanted}")
    named = products_of(document)
    for name, product in named.items():
        missing = [wanted for wanted in _REQUIRED if product.get(wanted) is None]
        if missing:
            raise WrongDocument(f"level 2 of scan {scan_id}, product {name}, lacks {', '.join(missing)}")
        try:
            profiles_of(product)
            days, *place = (_number(product[wanted]) for wanted in ("mjd", "lat1d", "lon1d"))
        except (TypeError, ValueError, OverflowError) as error:
            raise WrongDocument(f"level 2 of scan {scan_id}, product {name}: {error}") from None
        if None in place or days is None or not _YEARS[0] <= days < _YEARS[1]:
            raise WrongDocument(f"level 2 of scan {scan_id}, product {name}: no time (MJD) or place that can be")
    lines = comments_of(document)
    first = next(iter(named.values()), {})
    return Facts(
        retrieved=bool(named),
        reason="" if named else reason_of(lines),
        snapshot=snapshot_of(document),
        configuration=_found(_CONFIGURATION, lines),
        settings="\n".join(line for line in lines if _SETTING.match(line)),
        products=list(named),
        levels=len(_column(first["altitude"])) if first else None,
        time=_number(first.get("mjd")),
        latitude=_number(first.get("lat1d")),
        longitude=_number(first.get("lon1d")),
        residual=_number(info.get("residual")),
        cost=cost_of(lines),
    )


def _check_shape(document: Any, scan_id: int) -> None:
    """Raise WrongDocument where a part is not what the rest of this module takes it for."""
    if not isinstance(document, dict):
        raise WrongDocument(f"level 2 of scan {scan_id} is no object")
    for name in ("L2", "L2i"):
        if name not in document:
            raise WrongDocument(f"level 2 of scan {scan_id} has no {name}")
    if not isinstance(document["L2"], list):
        raise WrongDocument(f"level 2 of scan {scan_id} has no list of products")
    if not isinstance(document.get("URLS") or {}, dict):
        raise WrongDocument(f"level 2 of scan {scan_id}: URLS is no object")
    if not isinstance(document.get("L2c") or [], list | str):
        raise WrongDocument(f"level 2 of scan {scan_id}: L2c is no list of lines")


def comments_of(document: Document) -> list[str]:
    """The comment lines; none in the oldest API."""
    comments = document.get("L2c") or []
    return [_text(line) for line in (comments.splitlines() if isinstance(comments, str) else comments)]


def snapshot_of(document: Document) -> str:
    """The snapshot that made a document, from the comment line that the retrieval writes; ``unknown`` without one."""
    return _found(_SNAPSHOT, comments_of(document)) or UNKNOWN


def reason_of(lines: list[str]) -> str:
    """Why a scan has no profile: the last comment, as the API's own list of failed scans has it."""
    return lines[-1].removeprefix("Error: ") if lines else "no reason given"


def cost_of(lines: Iterable[str]) -> float | None:
    return next((_number(match[1]) for line in lines if (match := _COST.search(line))), None)


def products_of(document: Document) -> dict[str, dict[str, Any]]:
    """The products by their names, which need not be unique: the second of a name is ``<name> (2)``."""
    named: dict[str, dict[str, Any]] = {}
    for product in map(_lower, document["L2"]):
        name = base = _text(product.get("product"))
        number = 1
        while name in named:
            number += 1
            name = f"{base} ({number})"
        named[name] = product
    return named


def profiles_of(product: Mapping[str, Any]) -> dict[str, Any]:
    """A product's columns and averaging kernel by variable name.

    Raises ValueError or TypeError where they are no numbers or not of one length. A column may be absent; one with a
    single level may be a bare number.
    """
    altitude = _column(product["altitude"])
    levels = len(altitude)
    if not np.isfinite(altitude).all():
        raise ValueError("Altitude has gaps")
    columns = {}
    for name, (source, _attributes) in PROFILES.items():
        column = _column(product.get(source.lower()))
        if len(column) not in (0, levels):
            raise ValueError(f"{source} has {len(column)} levels, Altitude {levels}")
        columns[name] = column
    kernel = np.atleast_2d(np.array([] if product.get("avk") is None else product["avk"], float))
    if kernel.size and kernel.shape != (levels, levels):
        raise ValueError(f"{KERNEL[0]} is {' x '.join(map(str, kernel.shape))} for {levels} levels")
    return {**columns, "averaging_kernel": kernel if kernel.size else []}


def values_of(document: Document, product_name: str) -> Values:
    """What a product's NetCDF file holds of a document."""
    product, info, lines = products_of(document)[product_name], _lower(document["L2i"]), comments_of(document)
    ticks = info.get("stw")
    return {
        **profiles_of(product),
        "time": _number(product["mjd"]),
        "latitude": _number(product["lat1d"]),
        "longitude": _number(product["lon1d"]),
        "quality": _number(product.get("quality")),
        "residual": _number(info.get("residual")),
        "cost": cost_of(lines),
        "spectra": len(ticks) if isinstance(ticks, list) else None,
        "lo_frequency": _number(info.get("lofreq")),
        "frequency_offset": _number(info.get("freqoffset")),
        "inversion_mode": _text(info.get("invmode") or ""),
        "configuration": _found(_CONFIGURATION, lines),
        "snapshot_id": snapshot_of(document),
    }


def _lower(part: Any) -> dict[str, Any]:
    if not isinstance(part, dict):
        raise WrongDocument("level 2 has a part that is no object")
    return {str(key).lower(): value for key, value in part.items()}


def _text(value: Any) -> str:
    """A value as text that can be stored: JSON can spell half of a surrogate pair, and NUL."""
    return str(value).encode("utf-8", "replace").decode().replace("\0", "?")


def _found(pattern: re.Pattern[str], lines: Iterable[str]) -> str:
    return next((match[1] for line in lines if (match := pattern.match(line))), "")


def _column(value: Any) -> np.ndarray[Any, Any]:
    column = np.atleast_1d(np.array([] if value is None else value, float))
    if column.ndim != 1:
        raise ValueError("a column has columns")
    return column


def _number(value: Any) -> float | None:
    """A number, or None where there is none: null, NaN, an empty list, text that is none."""
    try:
        number = float(np.ravel(value)[0])
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return number if np.isfinite(number) else None
