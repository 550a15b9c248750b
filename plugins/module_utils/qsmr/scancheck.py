"""Whether level 1 has the scans of a list, asked in bulk: by day, not by scan.

A list of few days is compared scan by scan with what level 1 lists. For more days level 1 is first asked how many scans
it has of which mode on each day, six weeks at a time, and only days that have too few are looked at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from itertools import chain

from .errors import QsmrError
from .ledger import Scan
from .odinapi import OdinApi
from .scansource import FIRST_DAY

# Level 1 is asked for the scans of so many days at most, and for so many scans one by one.
_MOST_DAYS, _MOST_SCANS, _SHOWN = 64, 20, 5
_AT_ONCE = 4
_PERIOD = timedelta(days=42)
# A scan may be listed under the day before or after, so near to midnight.
_NEAR = timedelta(minutes=15)
# The satellite's clock (Odin API contract, section 4).
_TICKS, _TICK_RATE, _MJD = 6161431982, 16.0016444, 56416.7782534
_MJD_EPOCH = datetime(1858, 11, 17)

Day = tuple[int, date]
Say = Callable[[int, int], None]


def check_scans(odin: OdinApi, scans: Iterable[Scan], say: Say = lambda done, total: None) -> None:
    """Raise MissingScans if level 1 has not all of these scans, and another QsmrError if it cannot be asked.

    ``say`` is told how many of how many questions are answered.
    """
    days: dict[Day, set[int]] = defaultdict(set)
    for scan in scans:
        days[scan.freq_mode, _time(scan.scan_id).date()].add(scan.scan_id)
    odin.check_level1()
    # Nobody has to be asked about days without a satellite.
    end = datetime.now(UTC).date() + timedelta(days=1)
    known = [day for day in sorted(days) if FIRST_DAY <= day[1] <= end]
    missing = [Scan(day[0], scan) for day in sorted({*days} - {*known}) for scan in sorted(days[day])]
    suspects = known if len(known) <= _MOST_DAYS else list(_short_days(odin, days, known, say))
    missing += _missing(odin, days, suspects[:_MOST_DAYS], say)
    there = {scan for scan in missing[:_MOST_SCANS] if odin.has_scan(*scan)}
    if len(there) == len(missing[:_MOST_SCANS]):
        return
    missing = [scan for scan in missing if scan not in there]
    total = sum(map(len, days.values()))
    least = "At least " if len(suspects) > _MOST_DAYS else ""
    shown = ", ".join(map(str, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
    raise MissingScans(
        f"{least}{len(missing)} of {total} new scans are not in level 1, so that their jobs would fail: {shown}."
        " Nothing was sent: correct the list or qsmr_freq_mode, or add them nevertheless with -e qsmr_check_scans=false"
    )


class MissingScans(QsmrError):
    """Level 1 does not have some scans."""


def _time(scan_id: int) -> datetime:
    """When a scan began (UTC); the end of time for an id that is out of all bounds."""
    try:
        days = (scan_id - _TICKS) / _TICK_RATE / 86400 + _MJD
        return _MJD_EPOCH + timedelta(days=days)
    except OverflowError:
        return datetime(9999, 1, 1)


def _short_days(odin: OdinApi, days: dict[Day, set[int]], known: Iterable[Day], say: Say) -> Iterator[Day]:
    """Those of the ``known`` days on which level 1 has fewer scans than the list."""
    dates = sorted({day for _mode, day in known})
    starts: list[date] = []
    for day in dates:
        if not starts or day - starts[-1] >= _PERIOD:
            starts.append(day)
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        has: dict[Day, int] = {}
        for number, found in enumerate(threads.map(lambda start: odin.scans_by_day(start, _PERIOD.days), starts), 1):
            has |= found
            say(number, len(starts))
    yield from (day for day in known if len(days[day]) > has.get(day, 0))


def _missing(odin: OdinApi, days: dict[Day, set[int]], suspects: Sequence[Day], say: Say) -> Iterator[Scan]:
    """The scans of these days that level 1 does not list."""
    listed: dict[Day, set[int]] = {}

    def take(wanted: Iterable[Day]) -> None:
        new = [day for day in dict.fromkeys(wanted) if day not in listed]
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            answers = zip(new, threads.map(lambda day: odin.scans_of_day(*day), new), strict=True)
            for number, (day, found) in enumerate(answers, 1):
                listed[day] = found
                say(number, len(new))

    take(suspects)
    left = [Scan(mode, scan) for mode, day in suspects for scan in sorted(days[mode, day] - listed[mode, day])]
    near = {scan: [(scan.freq_mode, (_time(scan.scan_id) + gap).date()) for gap in (-_NEAR, _NEAR)] for scan in left}
    take(chain.from_iterable(list(near.values())[:_MOST_SCANS]))
    yield from (scan for scan in left if not any(scan.scan_id in listed.get(day, ()) for day in near[scan]))
