"""Level 2 as data sets: one NetCDF file for each product, with the conventions CF-1.11.

Profiles are an incomplete multidimensional array of profiles (CF-1.11, appendix H.3.2): dimensions scan and level, both
without limit. A file is a copy of the last one with what is new written in slabs, so that neither memory nor time goes
with the number of scans that were there before; it appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import QsmrError
from .files import replacing
from .libraries import libraries

with libraries():
    import netCDF4
    import numpy as np

if TYPE_CHECKING:
    import xarray
    from numpy.typing import NDArray

CONVENTIONS = "CF-1.11"
# Raised when the variables change: a file of another layout is made anew.
LAYOUT = 1
LONGEST_SLUG = 100
SLAB = 256
LEVELS_IN_CHUNK = 32
CHUNK_CACHE = 2**20  # bytes
SCAN, LEVEL, KERNEL_LEVEL = "scan", "level", "kernel_level"
# Names of the CF standard name table, for the species that the frequency modes see.
STANDARD_NAMES = {
    "O3": "mole_fraction_of_ozone_in_air",
    "H2O": "mole_fraction_of_water_vapor_in_air",
    "N2O": "mole_fraction_of_nitrous_oxide_in_air",
    "HNO3": "mole_fraction_of_nitric_acid_in_air",
    "ClO": "mole_fraction_of_chlorine_monoxide_in_air",
    "CO": "mole_fraction_of_carbon_monoxide_in_air",
    "NO": "mole_fraction_of_nitrogen_monoxide_in_air",
}

Key = tuple[int, int]
"""Frequency mode and scan id."""
Values = Mapping[str, Any]
_KEY = ["scan_id", "freq_mode"]
_COLUMNS = (*_KEY, "finished")
_ROW = [(name, "i8") for name in _COLUMNS]


class Scan(NamedTuple):
    """A scan that has a product, and when its job finished (s since 1970)."""

    key: Key
    finished: int


# Level 2 key and attributes of what a product has at each level (Odin API contract, sections 3 and 4).
PROFILES: dict[str, tuple[str, dict[str, str]]] = {
    "altitude": ("Altitude", {"units": "m", "standard_name": "altitude", "positive": "up", "axis": "Z"}),
    "pressure": ("Pressure", {"units": "Pa", "standard_name": "air_pressure"}),
    "temperature": (
        "Temperature",
        {"units": "K", "standard_name": "air_temperature", "units_metadata": "temperature: on_scale"},
    ),
    "level_latitude": (
        "Latitude",
        {"units": "degrees_north", "standard_name": "latitude", "long_name": "latitude of the level"},
    ),
    "level_longitude": (
        "Longitude",
        {"units": "degrees_east", "standard_name": "longitude", "long_name": "longitude of the level"},
    ),
    "vmr": ("VMR", {"units": "1", "long_name": "volume mixing ratio"}),
    "vmr_apriori": ("Apriori", {"units": "1", "long_name": "a priori volume mixing ratio"}),
    "vmr_error_total": ("ErrorTotal", {"units": "1", "long_name": "total error, one standard deviation"}),
    "vmr_error_noise": ("ErrorNoise", {"units": "1", "long_name": "error by noise, one standard deviation"}),
    "measurement_response": ("MeasResponse", {"units": "1", "long_name": "part that the measurement has in the value"}),
}
KERNEL = ("AVK", {"units": "1", "long_name": "averaging kernel: change at level for a change at kernel_level"})
# Days have 86400 seconds.
_CALENDAR = {"calendar": "standard", "units_metadata": "leap_seconds: none"}
MJD = "days since 1858-11-17 00:00:00"
_SINCE_1970 = "seconds since 1970-01-01 00:00:00"
# Type and attributes of what a scan has once.
NUMBERS: dict[str, tuple[str, dict[str, str]]] = {
    "scan_id": ("i8", {"long_name": "scan id", "cf_role": "profile_id"}),
    "freq_mode": ("i4", {"long_name": "frequency mode"}),
    "time": ("f8", {"units": MJD, "standard_name": "time", "axis": "T", **_CALENDAR}),
    "latitude": ("f4", {"units": "degrees_north", "standard_name": "latitude"}),
    "longitude": ("f4", {"units": "degrees_east", "standard_name": "longitude"}),
    "quality": ("f4", {"units": "1", "long_name": "quality as the retrieval rates it"}),
    "residual": ("f4", {"units": "1", "long_name": "misfit of the spectra"}),
    "cost": ("f4", {"units": "1", "long_name": "cost of the solution, from the retrieval's comments"}),
    "spectra": ("f4", {"units": "1", "long_name": "number of spectra used"}),
    "lo_frequency": ("f8", {"units": "Hz", "long_name": "frequency of the local oscillator"}),
    "frequency_offset": ("f8", {"units": "Hz", "long_name": "frequency offset"}),
    "finished": ("i8", {"units": _SINCE_1970, "long_name": "when the job finished", **_CALENDAR}),
    "processing_time": ("f4", {"units": "s", "long_name": "processing time of the job"}),
}
TEXTS = {
    "inversion_mode": "inversion mode (InvMode)",
    "configuration": "configuration (QSMR_CONFIG), from the retrieval's comments",
    "snapshot_id": "snapshot that made the profile",
    "worker": "worker that retrieved the scan",
}
_COORDINATES = "time latitude longitude altitude"


def slug(product: str) -> str:
    """A product's name as part of a file name: products have slashes and blanks in theirs."""
    return re.sub(r"[^A-Za-z0-9-]+", "_", product).strip("_")[:LONGEST_SLUG] or "product"


def unreadable_files(results: Path) -> Iterator[Path]:
    """What has the name of one of our NetCDF files and cannot be read."""
    for path in sorted(results.glob("level2_*.nc")):
        try:
            with _opened(path):
                pass
        except QsmrError:
            yield path


def files_of_ours(results: Path) -> Iterator[Path]:
    """The NetCDF files of results.yml in a directory: each says its own name, which no copy and no other file does."""
    for path in sorted(results.glob("level2_*.nc")):
        with contextlib.suppress(QsmrError), _opened(path) as file:
            if getattr(file, "file", None) == path.name:
                yield path


def product_files(results: Path) -> dict[str, Path]:
    """The NetCDF files of results.yml in a directory by the name of their product."""
    found = {}
    for path in files_of_ours(results):
        with _opened(path) as file:
            found[str(file.product)] = path
    return found


def read_columns(path: Path, names: Sequence[str], most: int | None = None) -> tuple[int, list[NDArray[Any]]]:
    """How many scans a file has, and its variables as they are, with NaN for what is not there.

    Of more than ``most`` scans every so many is read, evenly over the file. Without xarray, which takes long to import.
    """
    with _opened(path) as file:
        scans = len(file.dimensions[SCAN])
        step = max(-(-scans // most), 1) if most else 1
        columns = (file[name][::step] for name in names)
        return scans, [np.ma.filled(one, np.nan) if one.dtype.kind == "f" else np.asarray(one) for one in columns]


def open_results(results: Path, product: str | None = None) -> xarray.Dataset:
    """The profiles of a product as a data set that is read when it is used; without a name, the one of most scans.

    Close it, or use it in a ``with``. Raises QsmrError if there is none.
    """
    import xarray  # with pandas below it, too slow to import for who does not need it

    files = product_files(results)
    if product is None and files:
        product = max(files, key=lambda name: _scans(files[name]))
    if product not in files:
        what = f"no profiles of {product}" if product else "no profiles yet"
        raise QsmrError(f"{results} has {what}: run results.yml")
    return xarray.open_dataset(files[product], engine="netcdf4")


class ProductFile:
    """A product's file that shall hold ``scans``, which come in the order of scan id and frequency mode.

    ``todo`` are those to be added before it is closed: what it has of a job that finished at the same time stays.
    Where ``is_in_the_way``, results.yml did not make what is there, or it is damaged.
    """

    def __init__(self, path: Path, product: str, scans: Iterable[Scan], attributes: Mapping[str, str]) -> None:
        self.path, self._product, self._attributes = path, product, {**attributes, "file": path.name}
        # Arrays, not objects: a hundred thousand scans are 3 MB.
        wanted = np.fromiter(((scan.key[1], scan.key[0], scan.finished) for scan in scans), _ROW)
        held, there = _read_rows(path, product)
        self.is_in_the_way = there is None and path.exists() and path not in files_of_ours(path.parent)
        rows = _find(wanted[_KEY], held[_KEY])
        if there is None or np.count_nonzero(rows >= 0) < len(held):
            there, held, rows = None, held[:0], np.full(len(wanted), -1)
        new = rows < 0
        other = new.copy()
        other[~new] = held["finished"][rows[~new]] != wanted["finished"][~new]
        rows[new] = np.arange(len(held), len(held) + np.count_nonzero(new))
        self._todo, self._rows = wanted[other], rows[other]
        self._fresh = there is None
        self.changed = self._fresh or bool(len(self._todo)) or (there or {}) | self._attributes != there
        self._added = 0
        self._slab: list[Values] = []
        self._first = 0

    @property
    def todo(self) -> Iterator[Key]:
        """The scans to add, in this order."""
        for scan_id, freq_mode, _finished in map(np.void.tolist, self._todo):
            yield freq_mode, scan_id

    @contextlib.contextmanager
    def open(self) -> Iterator[ProductFile]:
        """Write the file in the block, with ``add``; it then replaces the last one."""
        with replacing(self.path) as new:
            if not self._fresh:
                shutil.copyfile(self.path, new)
            with contextlib.closing(netCDF4.Dataset(new, "w" if self._fresh else "a")) as self._file:
                if self._fresh:
                    _lay_out(self._file, self._product)
                for variable in self._file.variables.values():
                    # The library's own is 16 MiB for each variable, which would grow with the number of scans.
                    variable.set_var_chunk_cache(CHUNK_CACHE)
                yield self
                self._flush()
                now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                self._file.setncatts({**self._attributes, "date_modified": now, "history": f"{now} results.yml"})

    def add(self, values: Values) -> None:
        """Take in the next of ``todo``; ``values`` by variable name, what is absent is filled."""
        row = int(self._rows[self._added])
        if row != self._first + len(self._slab) or len(self._slab) == SLAB:
            self._flush()
            self._first = row
        self._slab.append({**values, **dict(zip(_COLUMNS, self._todo[self._added].tolist(), strict=True))})
        self._added += 1

    def _flush(self) -> None:
        if self._slab:
            _write_slab(self._file, self._first, self._slab)
        self._slab = []


def _opened(path: Path) -> contextlib.closing[Any]:
    try:
        return contextlib.closing(netCDF4.Dataset(path))
    except OSError as error:
        raise QsmrError(f"{path} cannot be read ({error.strerror}): remove it and run results.yml") from None


def _scans(path: Path) -> int:
    with _opened(path) as file:
        return len(file.dimensions[SCAN])


def _read_rows(path: Path, product: str) -> tuple[NDArray[Any], dict[str, Any] | None]:
    """The scans that a file holds, and its attributes; without them there is nothing to go on with."""
    rows = np.empty(0, _ROW)
    if not path.exists():
        return rows, None
    try:
        with _opened(path) as file:
            if (file.layout, file.product) != (LAYOUT, product):
                return rows, None
            rows = np.empty(len(file.dimensions[SCAN]), _ROW)
            for name in _COLUMNS:
                rows[name] = file[name][:]
            return rows, {name: file.getncattr(name) for name in file.ncattrs()}
    except (QsmrError, AttributeError, LookupError):
        return rows[:0], None


def _find(wanted: NDArray[Any], held: NDArray[Any]) -> NDArray[np.int64]:
    """Where each of ``wanted`` is in ``held``, which has nothing twice; -1: nowhere."""
    if not len(held):
        return np.full(len(wanted), -1)
    order = np.argsort(held)
    found = order[np.minimum(np.searchsorted(held, wanted, sorter=order), len(held) - 1)]
    return np.where(held[found] == wanted, found, -1)


def _lay_out(file: Any, product: str) -> None:
    species = product.split(" ")[0]
    file.setncatts(
        {
            "Conventions": CONVENTIONS,
            "featureType": "profile",
            "title": f"Odin/SMR level 2: {product}",
            "product": product,
            "species": species,
            "layout": np.int32(LAYOUT),
        }
    )
    for dimension in (SCAN, LEVEL, KERNEL_LEVEL):
        file.createDimension(dimension, None)

    def variable(name: str, kind: Any, chunks: tuple[int, ...], texts: Mapping[str, str]) -> None:
        fill = netCDF4.default_fillvals[kind] if isinstance(kind, str) and kind[0] == "f" else None
        packed = {} if kind is str else {"zlib": True, "complevel": 1, "shuffle": True}
        dimensions = (SCAN, LEVEL, KERNEL_LEVEL)[: len(chunks)]
        made = file.createVariable(name, kind, dimensions, chunksizes=chunks, fill_value=fill, **packed)
        made.setncatts(texts)

    for name, (kind, texts) in NUMBERS.items():
        located = {"coordinates": "time latitude longitude"} if name not in _COORDINATES else {}
        variable(name, kind, (1024,), texts | located)
    for name, meaning in TEXTS.items():
        variable(name, str, (1024,), {"long_name": meaning, "coordinates": "time latitude longitude"})
    for name, (_key, texts) in PROFILES.items():
        located = {"coordinates": _COORDINATES} if name not in _COORDINATES else {}
        if name == "vmr" and species in STANDARD_NAMES:
            located["standard_name"] = STANDARD_NAMES[species]
        variable(name, "f4", (SLAB, LEVELS_IN_CHUNK), texts | located)
    file["vmr"].ancillary_variables = "vmr_error_total vmr_error_noise measurement_response"
    variable("averaging_kernel", "f4", (SLAB // 8, LEVELS_IN_CHUNK, LEVELS_IN_CHUNK), KERNEL[1])


def _write_slab(file: Any, first: int, scans: list[Values]) -> None:
    rows = slice(first, first + len(scans))
    levels = max([len(file.dimensions[LEVEL]), *(len(scan["altitude"]) for scan in scans)])
    for name, (kind, _texts) in NUMBERS.items():
        missing = np.nan if kind[0] == "f" else 0
        column = np.array([_number(scan.get(name), missing) for scan in scans], kind)
        file[name][rows] = np.ma.masked_invalid(column) if kind[0] == "f" else column
    for name in TEXTS:
        file[name][rows] = np.array([scan.get(name) or "" for scan in scans], object)
    for name in PROFILES:
        padded = np.full((len(scans), levels), np.nan, "f4")
        for row, scan in zip(padded, scans, strict=True):
            values = scan[name]
            row[: len(values)] = values
        file[name][rows, :levels] = np.ma.masked_invalid(padded)
    kernels = np.full((len(scans), levels, levels), np.nan, "f4")
    for square, scan in zip(kernels, scans, strict=True):
        kernel = scan["averaging_kernel"]
        square[: len(kernel), : len(kernel)] = kernel
    file["averaging_kernel"][rows, :levels, :levels] = np.ma.masked_invalid(kernels)


def _number(value: Any, missing: float) -> float:
    return value if isinstance(value, int | float) and not (isinstance(value, float) and math.isnan(value)) else missing
