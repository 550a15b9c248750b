"""A lock in a file: one rollout of a project at a time, and everybody else is told whose.

The control node has one in its state directory, and every host one beside the releases, since operators on several
control nodes share nothing but the hosts. Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from .errors import QsmrError
from .files import make_directory, write_atomically
from .hostpaths import HOST_SETTING, why
from .release import DIRECTORY_MODE, Releases

LOCK_FILE = "rollout.lock"
# Held while a host is changed: that goes on when the control node dies, and the next run begins.
CHANGE_FILE = "change.guard"


class Locked(QsmrError):
    """Somebody else has the lock; the message tells who, since when, for what and until when."""


class Lock:
    """One lock file. A lock is a mapping with the texts ``id`` (of the control node's state directory), ``run``,
    ``who``, ``since`` and ``what``, and ``expires``, the seconds since 1970 at which it counts for nothing any more."""

    def __init__(self, path: Path, setting: str = HOST_SETTING) -> None:
        """``setting`` names the directory in what the user is told if the lock cannot be used."""
        self.path = path
        self._setting = setting

    def take(
        self,
        mine: Mapping[str, Any],
        now: float,
        by_force: bool = False,
        is_void: Callable[[Mapping[str, Any]], bool] | None = None,
    ) -> str:
        """Have the lock, and return in a line whose it was if it was taken from another control node; empty else.

        ``is_void`` tells, while nobody else can take it, whether a lock counts for nothing. If not given, one of the
        same id does: of a run that is over, as the control node's own lock is asked first. Raises Locked.
        """
        with self.guard():
            there = self.read()
            own = bool(there) and there["id"] == mine["id"]
            is_free = not there or there["expires"] <= now or (is_void(there) if is_void else own)
            if not is_free and not by_force:
                raise Locked(told(there))
            self._write(mine)
            return told(there) if there and not own else ""

    def release(self, mine: Mapping[str, Any]) -> bool:
        """Give the lock back if it is this run's still, and tell whether it was: another may have broken it."""
        try:
            if not self.path.exists():
                return False
            with self.guard():
                there = self.read()
                if (there.get("id"), there.get("run")) != (mine["id"], mine.get("run")):
                    return False
                self.path.unlink()
                return True
        except OSError as error:
            raise QsmrError(f"{self.path} cannot be removed: {why(error, self._setting)}") from None

    def read(self) -> dict[str, Any]:
        """The lock as it is; empty if there is none. What is damaged counts for none."""
        try:
            found: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
            whole = {"id", "who", "since", "what", "expires"} <= set(found) and told(found)
            return found if whole else {}
        except (OSError, ValueError, TypeError, OverflowError):
            return {}

    def _write(self, lock: Mapping[str, Any]) -> None:
        try:
            write_atomically(self.path, json.dumps(lock) + "\n", 0o640)
        except OSError as error:
            raise QsmrError(f"{self.path} cannot be written: {why(error, self._setting)}") from None

    def guard(self) -> AbstractContextManager[None]:
        """Between reading and writing nobody else does either."""
        return held(self.path.with_suffix(".guard"), self._setting)


@contextmanager
def held(path: Path, setting: str = HOST_SETTING, busy: str = "") -> Iterator[None]:
    """Wait until no other process holds this file, and hold it. It ends with the process, however that ends.

    With ``busy`` it does not wait, but raises QsmrError that says so. ``setting`` names the directory in what the user
    is told if the file cannot be locked.
    """
    with _locking(path, setting, busy) as opened:
        while not _is_at(opened, path):  # whoever had it may have removed the file, with all of the project
            make_directory(path.parent.parent)
            make_directory(path.parent, DIRECTORY_MODE)
            opened.append(os.open(path, os.O_RDWR | os.O_CREAT, 0o640))
            fcntl.flock(opened[-1], fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
    try:
        yield
    finally:
        _close(opened)


@contextmanager
def held_directory(path: Path, setting: str, busy: str = "") -> Iterator[None]:
    """``held`` for a directory that is there, in which no file is to be made."""
    with _locking(path, setting, busy) as opened:
        opened.append(os.open(path, os.O_RDONLY))
        fcntl.flock(opened[-1], fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
    try:
        yield
    finally:
        _close(opened)


@contextmanager
def _locking(path: Path, setting: str, busy: str) -> Iterator[list[int]]:
    """A list for what the block opens. Raises QsmrError if that cannot be locked, and closes it then."""
    opened: list[int] = []
    try:
        yield opened
    except BlockingIOError:
        _close(opened)
        raise QsmrError(busy) from None
    except OSError as error:
        _close(opened)
        raise QsmrError(f"{path} cannot be locked: {why(error, setting)}") from None


def _close(opened: list[int]) -> None:
    for descriptor in opened:
        os.close(descriptor)


def _is_at(opened: list[int], path: Path) -> bool:
    """Whether the file that was opened last is the one at this path."""
    try:
        return bool(opened) and os.path.samestat(os.fstat(opened[-1]), path.stat())
    except FileNotFoundError:
        return False


def changing(releases: Releases, check_mode: bool) -> AbstractContextManager[None]:
    """Whatever changes a project's workers, releases or images on this host does it in here: one at a time.

    It waits for what a run that was killed has left at work on the host. Check mode changes nothing.
    """
    return nullcontext() if check_mode else held(releases.root / CHANGE_FILE)


def told(lock: Mapping[str, Any]) -> str:
    """A lock in a line."""
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(lock["expires"]))
    return f"{lock['who']} holds the lock since {lock['since']} for a {lock['what']}, until {until} at most"
