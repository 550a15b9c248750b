"""Scan lists: one scan id a line, read as a stream, checked whole before anybody uses it.

A line may also be ``<frequency mode>:<scan id>``, which a list of several frequency modes needs. Blank lines, CRLF
and a byte order mark are allowed. A scan id is written in one way only: digits, without sign and leading zeros. The
former scripts took whatever Python's ``int`` takes (``+7``, ``007``, ``-5``, ``1_000``). Odin's scan ids are never
written so, and two spellings of one number would pass as two scans: such a line is named as a fault.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .errors import QsmrError

MOST_SHOWN = 20
LARGEST_FREQ_MODE = 999
LONGEST_LINE = 4096
# The widest number that the services' databases and our ledger hold.
_LARGEST = 2**63 - 1
_SCAN = re.compile(rb"(?:([1-9][0-9]{0,2}):)?([1-9][0-9]{0,18})")
_BOM = b"\xef\xbb\xbf"


def freq_modes_of(text: str) -> list[int]:
    """The frequency modes that a user wrote, one or more with commas between; QsmrError names what is none."""
    words = [word.strip() for word in text.split(",")]
    if words == [""]:
        raise QsmrError("There is no frequency mode: set qsmr_freq_mode")
    for word in words:
        if not (word.isascii() and word.isdigit() and 0 < int(word) <= LARGEST_FREQ_MODE):
            raise QsmrError(f'"{word}" is not a frequency mode: give a number from 1 to {LARGEST_FREQ_MODE}')
    return list(dict.fromkeys(map(int, words)))


def read_scans(path: Path, freq_modes: Sequence[int], skip: int = 0) -> Iterator[tuple[int, int, int]]:
    """Frequency mode, scan id and line of each scan of a file, in its order, without the first ``skip`` rows.

    Lines count from 1, as in editors; blank lines are no rows. A line that names no frequency mode is of the one in
    ``freq_modes``; if there are several, each line must name one of them.
    Bad lines, wherever they are, raise QsmrError once the file is read to its end, so nothing must be done with the
    scans before the iterator is exhausted. The skipped rows are checked like the others.
    """
    try:
        with path.open("rb") as stream:
            lines = iter(lambda: stream.readline(LONGEST_LINE), b"")
            yield from _scans_of(lines, str(path), freq_modes, skip)
    except OSError as error:
        raise QsmrError(f"Scan id file {path} cannot be read: {error.strerror}") from None


def _scans_of(
    lines: Iterable[bytes], name: str, freq_modes: Sequence[int], skip: int
) -> Iterator[tuple[int, int, int]]:
    if skip < 0:
        raise QsmrError(f"The number of rows to skip is {skip}: it must be 0 or more")
    only_mode = freq_modes[0] if len(freq_modes) == 1 else None
    faults: list[str] = []
    row = bad = 0
    for number, line in enumerate(lines, 1):
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            raise QsmrError(f"{name} line {number} is longer than {LONGEST_LINE} bytes: that is no list of scan ids")
        word = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
        if not word:
            continue
        found = _SCAN.fullmatch(word)
        mode = int(found[1]) if found and found[1] else only_mode
        if found and mode in freq_modes and mode and (scan_id := int(found[2])) <= _LARGEST:
            if row >= skip:
                yield mode, scan_id, number
        else:
            bad += 1
            if len(faults) < MOST_SHOWN:
                fault = _fault(mode, freq_modes) if found and int(found[2]) <= _LARGEST else "is not a scan id"
                faults.append(f"{name} line {number}: {_shown(word)} {fault}")
        row += 1
    if bad > len(faults):
        faults.append(f"and {bad - len(faults)} lines more")
    if bad:
        raise QsmrError("\n".join([*faults, f"Nothing was sent: correct {name}, one decimal scan id a line"]))
    if not row:
        raise QsmrError(f"{name} holds no scan ids")
    if skip >= row:
        raise QsmrError(f"{name} has {row} rows: skipping the first {skip} leaves none")


def rows_before(path: Path, line: int) -> int:
    """How many rows there are before a line: blank ones are none."""
    with path.open("rb") as stream:
        before = itertools.islice(stream, line - 1)
        return sum(1 for text in before if text.removeprefix(_BOM).strip())


def _fault(mode: int | None, freq_modes: Sequence[int]) -> str:
    if mode is None:
        return "names no frequency mode, and there are several"
    return f"is of frequency mode {mode}, and qsmr_freq_mode is {','.join(map(str, freq_modes))}"


def _shown(word: bytes, longest: int = 40) -> str:
    text = word.decode("utf-8", "replace")
    return repr(text if len(text) <= longest else text[:longest] + "...")
