"""The lock on the control node. The locks on the hosts bear its id, so that a later run from here takes them over."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import QsmrError
from .files import write_atomically
from .hostpaths import STATE_SETTING, why
from .lock import LOCK_FILE, Lock, Locked

ID_FILE = "rollout.id"


class ControlLock:
    """The lock of one project in the state directory. It is void when the process that took it has ended."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = Lock(directory / LOCK_FILE, STATE_SETTING)

    def take(self, lock: Mapping[str, Any], process: int, by_force: bool) -> dict[str, Any]:
        """Have the lock for a process of this machine, and return it as it goes to the hosts. Raises Locked."""
        mine = {**lock, "id": self._id(), "run": uuid.uuid4().hex}
        own = {"node": socket.gethostname(), "process": process, "began": _began(process)}
        try:
            self.lock.take({**mine, **own}, time.time(), by_force, _is_void)
        except Locked as error:
            raise QsmrError(
                f"Nothing was changed: {error}. Wait for it, or break the lock with -e qsmr_break_lock=true"
            ) from None
        return mine

    def release(self, lock: Mapping[str, Any]) -> None:
        """Give back what ``take`` returned, unless it was broken meanwhile."""
        self.lock.release(lock)

    def _id(self) -> str:
        """What tells this state directory from others, made once."""
        path = self.directory / ID_FILE
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with self.lock.guard():
                if not path.exists():
                    write_atomically(path, uuid.uuid4().hex + "\n")
                return path.read_text(encoding="ascii").strip()
        except OSError as error:
            raise QsmrError(f"{path} cannot be written: {why(error, STATE_SETTING)}") from None


def _is_void(lock: Mapping[str, Any]) -> bool:
    """Whether the process that took a lock on this machine has ended."""
    return lock.get("node") == socket.gethostname() and not _lives(lock)


def _began(process: int) -> str:
    """When a process began (proc(5), starttime): a number may be another process's by now. Empty if it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _lives(lock: Mapping[str, Any]) -> bool:
    try:
        process = int(lock.get("process", 0))
        os.kill(process, 0)
    except (ProcessLookupError, ValueError, TypeError, OverflowError):
        return False
    except PermissionError:
        pass
    return _began(process) == lock.get("began")
