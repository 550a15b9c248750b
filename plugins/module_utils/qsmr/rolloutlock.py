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
from .lock import LOCK_FILE, Lock, Locked, told

ID_FILE = "rollout.id"


class ControlLock:
    """The lock of one project in the state directory. It is void when the process that took it has ended."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.lock = Lock(directory / LOCK_FILE)

    def take(self, lock: Mapping[str, Any], process: int, by_force: bool) -> dict[str, Any]:
        """Have the lock for a process of this machine, and return it as it goes to the hosts. Raises Locked."""
        mine = {**lock, "id": self._id(), "node": socket.gethostname(), "process": process, "began": _began(process)}
        there = self.lock.read()
        alive = bool(there) and (there.get("node") != mine["node"] or _lives(there))
        try:
            self.lock.take(mine, time.time(), by_force or not alive, own=False)
        except Locked:
            raise QsmrError(
                f"Nothing was changed: {told(there)}. Wait for it, or break the lock with -e qsmr_break_lock=true"
            ) from None
        return {key: mine[key] for key in ("id", "who", "since", "what", "expires")}

    def release(self, id_: str) -> None:
        self.lock.release(id_)

    def _id(self) -> str:
        """What tells this state directory from others, made once."""
        path = self.directory / ID_FILE
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                write_atomically(path, uuid.uuid4().hex + "\n")
            return path.read_text(encoding="ascii").strip()
        except OSError as error:
            raise QsmrError(f"{path} cannot be written: {error.strerror}") from None


def _began(process: int) -> str:
    """When a process began (proc(5), starttime): a number may be another process's by now. Empty if it is gone."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _lives(lock: Mapping[str, Any]) -> bool:
    process = int(lock.get("process", 0))
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _began(process) == lock.get("began")
