"""The progress of a run, in a file that is replaced atomically: what bars and lines are drawn from."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import QsmrError
from .files import write_state
from .words import duration, speed

if TYPE_CHECKING:
    from .transport import Report

_SECONDS_BETWEEN = 0.5
# Seconds in which nothing moved before the line tells so.
STILL = 60


class Progress:
    """Writes progress.json::

    project, process           whose run it is, and its process id
    phase                      reading, asking, looking, adding, checking, freeing; in the end done or failed
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
            write_state(self._path, json.dumps({**self._now, **self._speed(now), "updated": round(time.time(), 1)}))

    def _speed(self, now: float) -> dict[str, float | None]:
        began, before = self._adding or (now, 0)
        rate = (self._now["done"] - before) / (now - began) if now - began >= _SECONDS_BETWEEN else 0
        left = self._now["total"] - self._now["done"]
        return {"rate": round(rate, 1) or None, "eta_seconds": round(left / rate, 1) if rate else None}


class PushProgress:
    """Writes push.json::

    project, process           whose run it is, and its process id
    phase                      packing, sending; in the end done or failed
    total, done                bytes that the hosts are to have, and how many of them are there
    sent                       bytes that left the control node
    hosts, complete, failed    number of hosts: in all, with everything, given up
    loading                    hosts with everything whose Docker still takes it over
    shares                     what each host has of its bytes, in percent
    rate, eta_seconds          bytes a second of the last seconds, and the time that the rest needs; null: not known
    started, updated           seconds since 1970
    """

    _WINDOW = 20  # reports that the rate is taken from

    def __init__(self, path: Path, project: str) -> None:
        self._path = path
        self._seen: deque[tuple[float, int]] = deque(maxlen=self._WINDOW)
        self._now: dict[str, Any] = {"project": project, "process": os.getpid(), "phase": "packing", "total": 0}
        self._now |= {"done": 0, "sent": 0, "hosts": 0, "complete": 0, "loading": 0, "failed": 0, "shares": {}}
        self._now |= {"rate": None, "eta_seconds": None, "started": round(time.time(), 1)}
        self._write()

    def follow(self, report: Report) -> None:
        """Note how far the push is; twice a second, say."""
        now = time.monotonic()
        arrived = report.held - report.resumed
        self._seen.append((now, arrived))
        since, before = self._seen[0]
        rate = (arrived - before) / (now - since) if now - since >= _SECONDS_BETWEEN else 0
        self._now |= {"phase": "sending", "total": report.total, "done": report.held, "sent": report.sent}
        self._now |= {"hosts": report.hosts, "complete": report.complete, "failed": report.failed}
        self._now |= {"loading": report.loading, "shares": dict(report.shares), "rate": round(rate) or None}
        self._now["eta_seconds"] = round((report.total - report.held) / rate, 1) if rate > 0 else None
        self._write()

    def __enter__(self) -> PushProgress:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        with suppress(*([QsmrError] if error else [])):  # a full disk, say, which must not hide what went wrong
            self.end()

    def end(self) -> None:
        done = self._now["total"] == self._now["done"]
        self._now |= {"phase": "done" if done else "failed", "rate": None, "eta_seconds": None}
        self._write()

    def _write(self) -> None:
        write_state(self._path, json.dumps({**self._now, "updated": round(time.time(), 1)}))


def line_of(progress: Mapping[str, Any]) -> str:
    """Progress in words: what a log wants now and then."""
    if "hosts" in progress:
        return _push_line(progress)
    total, done = progress["total"], progress["done"]
    if progress["phase"] == "watching":
        return _line_of_watch(progress)
    if progress["phase"] == "looking":
        return f"{progress['project']}: asking level 1 whether it has the scans, {done:,} of {total:,} answers"
    if progress["phase"] == "freeing":
        return f"{progress['project']}: {done:,} of {total:,} jobs made available again"
    if progress["phase"] != "adding":
        doing = {"reading": "reading the scan list", "asking": "asking the job service what it has"}
        return f"{progress['project']}: {doing.get(progress['phase'], 'checking that the jobs are there')}"
    parts = [f"{progress['project']}: {done:,} of {total:,} jobs ({100 * done // max(total, 1)} %)"]
    if progress["rate"]:
        parts += [f"{progress['rate']:,.0f}/s", f"{_clock(progress['eta_seconds'])} left"]
    if progress["retries"]:
        parts.append(f"{progress['retries']:,} retries")
    return ", ".join(parts)


def bar_of(progress: Mapping[str, Any], columns: int) -> str:
    """Progress as a bar that fits into so many columns: what a terminal wants, redrawn in place."""
    width = 20
    full = width * progress["done"] // max(progress["total"], 1)
    failed = min(-(-width * progress.get("failed", 0) // max(progress["total"], 1)), full)
    return f"[{'#' * (full - failed)}{'x' * failed}{'.' * (width - full)}] {line_of(progress)}"[: max(columns - 1, 0)]


def _line_of_watch(progress: Mapping[str, Any]) -> str:
    """As qsmr.watch sees the project: rate in jobs a minute over the last minutes."""
    total, done = progress["total"], progress["done"]
    parts = [f"{progress['project']}: {done:,} of {total:,} jobs ended ({100 * done // max(total, 1)} %)"]
    parts += [
        f"{progress['finished']:,} finished",
        f"{progress['failed']:,} failed",
        f"{progress['running']:,} running",
    ]
    if progress["rate"]:
        left = _clock(progress["eta_seconds"]) if progress["eta_seconds"] < 86400 else duration(progress["eta_seconds"])
        parts += [speed(60 * progress["rate"]).replace(" jobs", ""), f"{left} left"]
    if progress["still"] >= STILL:
        parts.append(f"nothing has moved for {duration(progress['still'])}")
    workers = progress["workers"]
    parts.append(f"{workers} worker{'s' * (workers != 1)} alive" if workers else "no worker seen")
    return f"{progress['trouble']}; still waiting" if progress["trouble"] else ", ".join(parts)


def _push_line(progress: Mapping[str, Any]) -> str:
    if progress["phase"] == "packing":
        return f"{progress['project']}: packing what the hosts lack"
    total, done = progress["total"], progress["done"]
    parts = [f"{progress['project']}: {done / 1e6:,.0f} of {total / 1e6:,.0f} MB ({100 * done // max(total, 1)} %)"]
    if progress["rate"]:
        parts += [f"{progress['rate'] / 1e6:,.1f} MB/s", f"{_clock(progress['eta_seconds'])} left"]
    parts.append(f"{progress['complete']} of {progress['hosts']} hosts complete")
    for what in ("loading", "failed"):
        if progress[what]:
            parts.append(f"{progress[what]} {what}")
    left = {name: share for name, share in progress["shares"].items() if share < 100}
    if left:
        last = min(left, key=lambda name: left[name])
        parts.append(f"last {last}: {left[last]} %")
    return ", ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
