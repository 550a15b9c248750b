"""Scan id files: one decimal number a line, read as a stream, checked whole before anybody uses it.

Blank lines, CRLF and a byte order mark are allowed. A scan id is written in one way only: digits, without sign and
leading zeros. The former scripts took whatever Python's ``int`` takes (``+7``, ``007``, ``-5``, ``1_000``). Odin's scan
ids are never written so, and two spellings of one number would pass as two scans: such a line is named as a fault.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from .errors import QsmrError

MOST_SHOWN = 20
# The widest number that the services' databases and our ledger hold.
_LARGEST = 2**63 - 1
_SCAN_ID = re.compile(rb"[1-9][0-9]{0,18}")
_BOM = b"\xef\xbb\xbf"


def read_scan_ids(path: Path, skip: int = 0) -> Iterator[int]:
    """The scan ids of a file in its order, without the first ``skip`` rows (blank lines are no rows).

    Bad lines, wherever they are, raise QsmrError once the file is read to its end, so nothing must be done with the ids
    before the iterator is exhausted. The skipped rows are checked like the others.
    """
    try:
        with path.open("rb") as lines:
            yield from _scan_ids_of(lines, str(path), skip)
    except OSError as error:
        raise QsmrError(f"Scan id file {path} cannot be read: {error.strerror}") from None


def _scan_ids_of(lines: Iterable[bytes], name: str, skip: int) -> Iterator[int]:
    if skip < 0:
        raise QsmrError(f"The number of rows to skip is {skip}: it must be 0 or more")
    faults: list[str] = []
    rows = bad = 0
    for number, line in enumerate(lines, 1):
        word = line.removeprefix(_BOM).strip() if number == 1 else line.strip()
        if not word:
            continue
        if _SCAN_ID.fullmatch(word) and (scan_id := int(word)) <= _LARGEST:
            if rows >= skip:
                yield scan_id
        else:
            bad += 1
            if len(faults) < MOST_SHOWN:
                faults.append(f"{name} line {number}: {_shown(word)} is not a scan id")
        rows += 1
    if bad > len(faults):
        faults.append(f"and {bad - len(faults)} lines more")
    if bad:
        raise QsmrError("\n".join([*faults, f"Nothing was sent: correct {name}, one decimal scan id a line"]))
    if not rows:
        raise QsmrError(f"{name} holds no scan ids")
    if skip >= rows:
        raise QsmrError(f"{name} has {rows} rows: skipping the first {skip} leaves none")


def _shown(word: bytes, longest: int = 40) -> str:
    text = word.decode("utf-8", "replace")
    return repr(text if len(text) <= longest else text[:longest] + "...")
