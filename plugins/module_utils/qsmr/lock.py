"""A lock in a file: one rollout of a project at a time, and everybody else is told whose.

The control node has one in its state directory, and every host one beside the releases, since operators on several
control nodes share nothing but the hosts. Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from .errors import QsmrError
from .files import make_directory, write_atomically
from .hostpaths import why
from .release import DIRECTORY_MODE

LOCK_FILE = "rollout.lock"
# Held while the workers of a host are changed: that goes on when the control node dies, and the next run begins.
CHANGE_FILE = "change.guard"


class Locked(QsmrError):
    """Somebody else has the lock; the message tells who, since when, for what and until when."""


class Lock:
    """One lock file. A lock is a mapping with the texts ``id``, ``who``, ``since`` and ``what``, and ``expires``, the
    seconds since 1970 at which it counts for nothing any more."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self, mine: Mapping[str, Any], now: float, by_force: bool = False, own: bool = True) -> str:
        """Have the lock, and return in a line whose it was if it was taken from another; empty else.

        A lock of the same id is ours if ``own``: of a run that is over. Raises Locked.
        """
        with self._guard():
            there = self.read()
            free = not there or there["expires"] <= now or (own and there["id"] == mine["id"])
            if not free and not by_force:
                raise Locked(told(there))
            self._write(mine)
            return told(there) if there and not (own and there["id"] == mine["id"]) else ""

    def release(self, id_: str) -> bool:
        """Give the lock back if it has this id, and tell whether it had."""
        if not self.path.exists():
            return False
        with self._guard():
            if self.read().get("id") != id_:
                return False
            self.path.unlink()
            return True

    def read(self) -> dict[str, Any]:
        """The lock as it is; empty if there is none. What is damaged counts for none."""
        try:
            found: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            return found if {"id", "who", "since", "what", "expires"} <= set(found) else {}
        except (OSError, ValueError, TypeError):
            return {}

    def _write(self, lock: Mapping[str, Any]) -> None:
        try:
            write_atomically(self.path, json.dumps(lock) + "\n", 0o640)
        except OSError as error:
            raise QsmrError(f"{self.path} cannot be written: {why(error)}") from None

    def _guard(self) -> AbstractContextManager[None]:
        """Between reading and writing nobody else does either."""
        return held(self.path.with_suffix(".guard"))


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Wait until no other process holds this file, and hold it. It ends with the process, however that ends."""
    try:
        make_directory(path.parent.parent)
        make_directory(path.parent, DIRECTORY_MODE)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o640)
    except OSError as error:
        raise QsmrError(f"{path} cannot be opened: {why(error)}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def told(lock: Mapping[str, Any]) -> str:
    """A lock in a line."""
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(lock["expires"]))
    return f"{lock['who']} holds the lock since {lock['since']} for a {lock['what']}, until {until} at most"
