"""The output of a job: time-stamped lines, bounded to what the job service stores (worker contract, section 6)."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone

SERVICE_LIMIT = 65_535  # bytes of UTF-8
LINE_LIMIT = 8_000  # characters; a longer line goes on in the next one
_MARK_RESERVE = 200  # bytes for the line that stands for what was left out


class Output:
    """Collects lines; of an output that is too long it keeps both ends and says what is left out between them.

    `echo` gets every line at once.
    """

    def __init__(self, limit: int = SERVICE_LIMIT, echo: Callable[[str], object] = lambda entry: None) -> None:
        self._echo = echo
        self._head: list[str] = []
        self._tail: deque[str] = deque()
        self._head_room = limit // 2
        self._tail_room = limit - self._head_room - _MARK_RESERVE
        self._dropped_lines = self._dropped_bytes = 0
        self.lines = 0

    def add(self, source: str, line: str) -> None:
        """Append one line of `source` (STDOUT, STDERR or EXECUTOR), stamped with the UTC time."""
        now = datetime.now(timezone.utc).replace(tzinfo=None).isoformat(timespec="microseconds")
        # Databases refuse NUL in a text.
        entry = f"{now} - {source}: {line}\n".replace("\0", "\ufffd")
        size = _size(entry)
        self.lines += 1
        self._echo(entry)
        if not self._tail and size <= self._head_room:
            self._head.append(entry)
            self._head_room -= size
            return
        self._tail.append(entry)
        self._tail_room -= size
        while self._tail_room < 0:
            dropped = _size(self._tail.popleft())
            self._tail_room += dropped
            self._dropped_bytes += dropped
            self._dropped_lines += 1

    def text(self) -> str:
        """Return the whole text so far, within the limit."""
        mark = f"[... {self._dropped_lines} lines ({self._dropped_bytes} bytes) left out here ...]\n"
        return "".join([*self._head, mark if self._dropped_lines else "", *self._tail])


class LineReader:
    """Cuts the bytes of one stream into the lines of an output; bytes that are not UTF-8 are replaced."""

    def __init__(self, source: str, output: Output) -> None:
        self._source = source
        self._output = output
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._rest = ""

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream; no bytes mean its end."""
        *lines, self._rest = (self._rest + self._decode(data, not data)).split("\n")
        for line in lines:
            self._add(line.rstrip("\r"))
        while len(self._rest) > LINE_LIMIT:
            self._output.add(self._source, self._rest[:LINE_LIMIT])
            self._rest = self._rest[LINE_LIMIT:]
        if not data and self._rest:
            self._add(self._rest)
            self._rest = ""

    def _add(self, line: str) -> None:
        for start in range(0, len(line) or 1, LINE_LIMIT):
            self._output.add(self._source, line[start : start + LINE_LIMIT])


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))
