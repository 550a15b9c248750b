"""By which snapshots a project's results are, and how many of them the one that runs now has not made.

The retrieval writes its snapshot into the comments of level 2, and the Odin API counts by comment. Where retrievals
write no such line, the time of the rollout is what tells an old result from a new one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .audit import reign
from .jobapi import JobApi, JobApiError
from .jobstates import canonical, state_of
from .odinapi import OdinApi
from .scanids import freq_modes_of
from .snapshot import MANIFEST

LISTS = ("scans", "failed")
HOW = "ansible-playbook playbooks/jobs.yml -e qsmr_reprocess=true"
# Older snapshots than so many are not asked for, or not named.
_MOST, _SHOWN = 20, 3


def comment_of(snapshot: str) -> str:
    """The line that the retrieval writes into the comments."""
    return f"Snapshot: {snapshot}"


@dataclass(frozen=True)
class MadeBy:
    """How many results each snapshot made. ``current`` is the one that runs now, empty if nobody knows."""

    current: str = ""
    by: Mapping[str, int] = field(default_factory=dict)
    unknown: int = 0
    """Results that say no snapshot, or one that is not known here."""
    outdated: int = 0
    """Finished jobs whose result is not by ``current``."""

    @property
    def facts(self) -> dict[str, Any]:
        """What modules return and what the picture of the project has."""
        return {**asdict(self), "told": self.told()}

    def told(self) -> str:
        """In a sentence, what to know and to do; empty where all results are by the snapshot that runs."""
        others = [(snapshot, number) for snapshot, number in self.by.items() if number and snapshot != self.current]
        unknown = self.unknown if others or self.outdated else 0
        if not (len(others) + bool(unknown) > (not self.current) or self.outdated):
            return ""
        parts = [f"{number} by {snapshot}" for snapshot, number in others[:_SHOWN]]
        if rest := sum(number for _snapshot, number in others[_SHOWN:]):
            parts.append(f"{rest} by older snapshots")
        parts += [f"{unknown} by snapshots that are not known here"] if unknown else []
        if self.current:
            parts.append(f"{self.by.get(self.current, 0)} by {self.current}, which runs now")
        said = f"{', '.join(parts).replace(' by', ' results are by', 1)}."
        if self.outdated:
            return f"{said} To have {self.outdated} of them made by {self.current}: {HOW}"
        return f"{said} The old ones stay until their jobs are done again." if self.current else said


def count(
    odin: OdinApi,
    project: str,
    freq_modes: Iterable[int],
    current: str,
    others: Iterable[str],
    finished: int,
    ended_before: Callable[[], int],
) -> MadeBy:
    """Ask the Odin API how many results each snapshot made: ``current`` and, newest first, the ``others``.

    ``finished`` is the number of finished jobs; ``ended_before`` tells how many of them had ended when ``current`` came
    to the hosts, and is asked only where results don't tell. Raises QsmrError if the Odin API gives no answer.
    """
    modes = list(freq_modes)

    def results(comment: str = "") -> int:
        return sum(odin.level2_count(project, mode, listed, comment) for mode in modes for listed in LISTS)

    left = total = results()
    by: dict[str, int] = {}
    for snapshot in dict.fromkeys([current, *others][: _MOST + 1]):
        if snapshot and left > 0:
            by[snapshot] = results(comment_of(snapshot))
            left -= by[snapshot]
    unknown = max(left, 0)
    # Level 2 that is not by the snapshot, and jobs that it has not done: fewer where they are being done again.
    outdated = max(min(finished, total) - by.get(current, 0), 0) if current else 0
    if unknown and outdated:
        outdated = min(outdated, ended_before())
    return MadeBy(current, by, unknown, outdated)


def look(
    api: JobApi,
    odin_root: str,
    project: str,
    odin_project: str,
    freq_mode: str,
    current: str,
    finished: int,
    events: Sequence[Mapping[str, Any]],
    snapshot_dir: Path | None,
) -> MadeBy:
    """By which snapshots the results of a project are that has so many ``finished`` jobs.

    ``events`` are those of its audit. Raises QsmrError if the Odin API gives no answer.
    """
    if not finished:
        return MadeBy(current)
    return count(
        OdinApi(odin_root, tries=1),
        odin_project,
        freq_modes_of(freq_mode),
        current,
        known_snapshots(project, snapshot_dir, events),
        finished,
        lambda: ended_before(api, project, events, current),
    )


def ended_before(api: JobApi, project: str, events: Sequence[Mapping[str, Any]], current: str) -> int:
    """How many finished jobs had ended when hosts were switched to ``current``; 0 if the audit does not know when."""
    since = reign(events, current)[0]
    # The service selects by the time, whatever became of the job since (REST contract v4, section 7).
    ended = api.each_job(project, status="finished", end=since[:19]) if since else ()
    return sum(1 for job in ended if state_of(job) == "finished")


def finished_jobs(api: JobApi, project: str) -> int:
    """How many jobs of a project are finished; none if there is no such project."""
    try:
        states = (api.project(project) or {}).get("JobStates") or {}
    except JobApiError as error:
        if error.status != 500:
            raise
        # One job with a null status is enough for that (REST contract v4, section 4).
        return sum(1 for job in api.each_job(project, status="finished") if state_of(job) == "finished")
    return sum(number for status, number in states.items() if canonical(status) == "finished")


def known_snapshots(project: str, snapshot_dir: Path | None, events: Iterable[Mapping[str, Any]]) -> list[str]:
    """The snapshots of a project that are here, or were brought to hosts from here, newest first."""
    found: dict[str, str] = {}
    for event in events:
        if event.get("event") == "begin":
            found |= dict.fromkeys(filter(None, str(event.get("to") or "").split(", ")), str(event["time"]))
    for path in snapshot_dir.glob(f"qsmr_snapshot_*/{MANIFEST}") if snapshot_dir else ():
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            if manifest["project"] == project:
                found.setdefault(manifest["snapshot_id"], manifest["created"])
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return sorted(found, key=lambda snapshot: found[snapshot], reverse=True)
