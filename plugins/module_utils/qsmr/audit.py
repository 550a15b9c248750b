"""The audit: what was done to a project's fleet, by whom, from where, and how it ended. One JSON object a line.

Every line is on disk before what it announces begins. Lines are only ever added; the events of a run share ``run``:

- ``push``: ``by`` whom ``hosts`` are sent the image of the release ``to`` from now on, before the rollout begins
- ``begin``: ``what``, ``to``, ``stages``, ``by``, ``resumes`` (the run that was broken off), ``broke_lock_of``
- ``stage``: ``hosts`` that are switched from now on
- ``host``: ``host``, ``from``, ``to``, ``ended`` (switched, reverted, taken back, failed, lost) and ``check``
- ``broken off``: written by the next run: ``found``, the release of each host as it was found then
- ``end``: ``ended`` (done, stopped), ``why``
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import QsmrError
from .hostpaths import STATE_SETTING, why

AUDIT_FILE = "audit.jsonl"


def operator() -> str:
    """Who runs this, and on which machine."""
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def new_run() -> str:
    """What the events of a run have in common."""
    return uuid.uuid4().hex[:12]


class Audit:
    """The audit of one project."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / AUDIT_FILE

    def add(self, run: str, event: str, **fields: Any) -> None:
        """Add a line, and return when it is on disk."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        line = json.dumps({"time": now, "run": run, "event": event, **fields}, ensure_ascii=False)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                size = os.fstat(descriptor).st_size
                # A line that a crash cut off must not spoil the next one.
                broken = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
                os.write(descriptor, ("\n" * broken + line + "\n").encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise QsmrError(f"{self.path} cannot be written: {why(error, STATE_SETTING)}") from None

    def events(self) -> list[dict[str, Any]]:
        """All lines that are whole, in their order."""
        found = []
        try:
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue
        except FileNotFoundError:
            pass
        except OSError as error:
            raise QsmrError(f"{self.path} cannot be read: {why(error, STATE_SETTING)}") from None
        return found

    def unfinished(self) -> list[dict[str, Any]]:
        """The events of the last run if it has no end; empty if it has one, or there was none."""
        events = self.events()
        last = next((event["run"] for event in reversed(events) if event.get("event") == "begin"), None)
        run = [event for event in events if last is not None and event.get("run") == last]
        over = any(event["event"] in ("end", "broken off") for event in run)
        return [] if over else run


def running_now(events: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The release that each host runs, as far as rollouts from here tell; empty where none runs, or nobody knows."""
    runs: dict[str, str] = {}
    for event in events:
        runs |= _runs_since(event)
    return runs


def _runs_since(event: Mapping[str, Any]) -> dict[str, str]:
    if event.get("event") == "stage":
        return dict.fromkeys(event["hosts"], "")
    if event.get("event") == "host" and event["ended"] in ("switched", "taken back"):
        return {event["host"]: event["to"]}
    return dict(event["runs"]) if event.get("event") == "end" and "runs" in event else {}


def only_release(releases: Iterable[str]) -> str:
    """The release that all hosts run; empty if they run several, or none."""
    found = set(releases)
    return found.pop() if len(found) == 1 else ""


def reign(events: Iterable[Mapping[str, Any]], release: str) -> tuple[str | None, str | None]:
    """Since when hosts are switched to a release, and since when all of them run it; None for what is not so.

    Times are those of the audit: UTC in ISO 8601.
    """
    since = everywhere = None
    targets: dict[str, str] = {}
    runs: dict[str, str] = {}
    for event in events:
        runs |= _runs_since(event)
        if event.get("event") == "begin":
            targets[event["run"]] = event["to"]
        elif event.get("event") == "stage":
            same = targets.get(event["run"]) == release
            since, everywhere = (since or event["time"], everywhere) if same else (None, None)
        elif event.get("event") == "end":
            everywhere = (everywhere or event["time"]) if only_release(runs.values()) == release else None
    return since, everywhere


def switched_by(run: list[dict[str, Any]], found: Mapping[str, str], target: str) -> list[str]:
    """The hosts that a run which was broken off has brought to ``target``, which they were ``found`` on."""
    began = {host for event in run if event["event"] == "stage" for host in event["hosts"]}
    return sorted(host for host in began if found.get(host) == target)
