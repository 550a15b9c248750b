"""Where scans come from: a file, a list, level 1 of a period, the verification data set, all that level 1 has.

Whatever does not come from a file is written to one first, so that a run can be repeated to the letter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

from .errors import QsmrError
from .files import write_state
from .odinapi import OdinApi

# Nothing of the mission is older (Odin API contract, section 5).
FIRST_DAY = date(2001, 8, 4)
# The backend of each frequency mode with level 2 interest (Odin API contract, section 4).
BACKENDS = {
    mode: "AC2" if mode in (1, 8, 14, 17, 22, 102, 113, 119, 121) else "AC1"
    for mode in (1, 2, 8, 13, 14, 17, 19, 21, 22, 23, 24, 25, 29, 102, 113, 119, 121)
}
# Level 1 is asked day by day, because long spans are slow and arrive truncated; so many days at once.
DAYS_AT_ONCE = 4
_DAYS_IN_ADVANCE = 64


@dataclass(frozen=True)
class ScanSource:
    """What the user asks for; ``period`` needs both days, and both of them belong to it."""

    kind: str
    freq_modes: Sequence[int]
    scans: Sequence[str] = field(default_factory=tuple)
    first_day: str = ""
    last_day: str = ""

    def write(self, path: Path, odin: OdinApi) -> None:
        """Write the scans to ``path``, one ``<frequency mode>:<scan id>`` a line; whole or not at all."""
        lines = (f"{line}\n" for line in self._lines(odin))
        first = next(lines, None)
        if first is None:
            raise QsmrError(f"There are no scans: {self} has none")
        write_state(path, itertools.chain([first], lines))

    def __str__(self) -> str:
        modes = ", ".join(map(str, self.freq_modes))
        days = f" from {self.first_day or 'the first day'} to {self.last_day or 'the last day'}"
        return f"{self.kind} of frequency mode {modes}{days if self.kind in ('period', 'production') else ''}"

    def _lines(self, odin: OdinApi) -> Iterator[str]:
        if self.kind == "list":
            yield from map(str, self.scans)
        elif self.kind == "verification":
            for mode in self.freq_modes:
                yield from (f"{mode}:{scan}" for scan in _verification(odin, mode))
        else:
            first, last = self._days(odin)
            for mode in self.freq_modes:
                yield from (f"{mode}:{scan}" for scan in _in_period(odin, mode, first, last))

    def _days(self, odin: OdinApi) -> tuple[date, date]:
        """The first and the last day, both included; production ends with the weather data at the latest."""
        if self.kind == "period" and not (self.first_day and self.last_day):
            raise QsmrError("Scans of a period need their days: set qsmr_first_day and qsmr_last_day to YYYY-MM-DD")
        first = _day(self.first_day, "qsmr_first_day") if self.first_day else FIRST_DAY
        last = _day(self.last_day, "qsmr_last_day") if self.last_day else date.max
        said = f"qsmr_last_day {last}"
        if self.kind == "production" and (with_weather := odin.last_weather_day() - timedelta(days=1)) < last:
            last, said = with_weather, f"{with_weather}, the last day with weather data"
        if first > last:
            raise QsmrError(f"qsmr_first_day {first} is after {said}")
        return first, last


def scan_list(source: ScanSource, jobs_file: str | None, odin_root: str, directory: Path) -> Path:
    """The file with the scans: the user's own, or ``scans.txt`` in the directory, written from any other source."""
    if source.kind == "file":
        if not jobs_file:
            raise QsmrError("There is no scan list: set qsmr_jobs_file to a file with one scan id a line")
        return Path(jobs_file)
    path = directory / "scans.txt"
    source.write(path, OdinApi(odin_root, connections=DAYS_AT_ONCE))
    return path


def _day(text: str, setting: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise QsmrError(f'{setting} is "{text}": give a day as YYYY-MM-DD') from None


def _in_period(odin: OdinApi, mode: int, first: date, last: date) -> Iterator[int]:
    def of_day(day: date) -> list[int]:
        span = {"start_time": f"{day}", "end_time": f"{day + timedelta(days=1)}"}
        return _ids(odin.listing(f"/v5/level1/{mode}/scans/", "Data", **span))

    days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
    with ThreadPoolExecutor(DAYS_AT_ONCE) as threads:
        for start in range(0, len(days), _DAYS_IN_ADVANCE):
            for scans in threads.map(of_day, days[start : start + _DAYS_IN_ADVANCE]):
                yield from scans


def _verification(odin: OdinApi, mode: int) -> list[int]:
    if mode not in BACKENDS:
        raise QsmrError(f"Frequency mode {mode} has no verification data set: {', '.join(map(str, BACKENDS))} have")
    entries = odin.listing(f"/v4/vds/{BACKENDS[mode]}/{mode}/allscans", "VDS")
    return _ids(entry.get("Info", {}) for entry in entries)


def _ids(entries: Iterable[dict[str, object]]) -> list[int]:
    try:
        return [int(str(entry["ScanID"])) for entry in entries]
    except (KeyError, ValueError):
        raise QsmrError("The Odin API lists scans without a ScanID: check ODIN_API_ROOT") from None
