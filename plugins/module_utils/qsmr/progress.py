"""The progress of a run that adds jobs, in a file that is replaced atomically: what bars and lines are drawn from."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from .files import write_atomically

_SECONDS_BETWEEN = 0.5


class Progress:
    """Writes progress.json::

    project, process           whose run it is, and its process id
    phase                      reading, asking, adding, checking; in the end done or failed
    total, done                different jobs of the list, and how many of them are settled
    retries                    requests that had to be made again
    rate, eta_seconds          jobs a second while adding, and the time that the rest needs; null: not known
    started, updated           seconds since 1970
    """

    def __init__(self, path: Path | None, project: str) -> None:
        """Without a path nothing is written."""
        self._path = path
        self._written = 0.0
        self._adding: tuple[float, int] | None = None
        self._now: dict[str, Any] = {"project": project, "process": os.getpid(), "phase": "reading", "total": 0}
        self._now |= {"done": 0, "retries": 0, "started": round(time.time(), 1)}

    def say(self, phase: str, **numbers: int) -> None:
        """Note the phase and what changed; written at once when a phase begins, else at most twice a second."""
        begins = phase != self._now["phase"]
        self._now |= {"phase": phase, **numbers}
        now = time.monotonic()
        if phase == "adding" and self._adding is None:
            self._adding = (now, self._now["done"])
        if self._path and (begins or now - self._written >= _SECONDS_BETWEEN):
            self._written = now
            write_atomically(
                self._path, json.dumps({**self._now, **self._speed(now), "updated": round(time.time(), 1)})
            )

    def _speed(self, now: float) -> dict[str, float | None]:
        began, before = self._adding or (now, 0)
        rate = (self._now["done"] - before) / (now - began) if now - began >= _SECONDS_BETWEEN else 0
        left = self._now["total"] - self._now["done"]
        return {"rate": round(rate, 1) or None, "eta_seconds": round(left / rate, 1) if rate else None}
