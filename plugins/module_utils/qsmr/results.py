"""Keep level 2 of a project's finished jobs on disk, fetching what is new only."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import QsmrError
from .files import write_atomically
from .odinapi import OdinApi
from .status import parse_time

CONNECTIONS = 4
JOB_ID = re.compile(r"([0-9]+):([0-9]+)")
SNAPSHOT_LINE = re.compile(r"Snapshot: (\S+)")


@dataclass(frozen=True)
class FinishedJob:
    """A finished job of the job service: which scan, and when it finished (UTC)."""

    freq_mode: int
    scan_id: int
    finished: datetime

    @classmethod
    def from_listing(cls, job: dict[str, Any]) -> FinishedJob | None:
        """From an entry of ``GET /v4/<project>/jobs``; ``None`` for a job that is not a scan's."""
        match = JOB_ID.fullmatch(job["Id"])
        if not match:
            return None
        finished = parse_time(job.get("Finished")) or datetime.fromtimestamp(0, UTC)
        return cls(int(match[1]), int(match[2]), finished)


@dataclass
class Outcome:
    """What a run found: scans by what became of them, and how many documents each snapshot made."""

    new: list[FinishedJob] = field(default_factory=list)
    there: int = 0
    missing: list[FinishedJob] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    """Why a document was not kept, one line for each."""
    failed_scans: list[int] = field(default_factory=list)
    snapshots: Counter[str] = field(default_factory=Counter)


def document_path(directory: Path, job: FinishedJob) -> Path:
    """Where a scan's document lies: ``<directory>/<frequency mode>/<scan id>.json``."""
    return directory / str(job.freq_mode) / f"{job.scan_id}.json"


def snapshot_of(document: dict[str, Any]) -> str:
    """The snapshot that made a document, from the comment line that the retrieval writes; ``unknown`` without one."""
    comments = document.get("L2c") or []
    lines = comments.splitlines() if isinstance(comments, str) else comments
    return next((match[1] for line in lines if (match := SNAPSHOT_LINE.match(line))), "unknown")


def _fault(document: dict[str, Any], job: FinishedJob) -> str:
    """Why a document is not this scan's, by the ids in its level 2 info; empty if it is."""
    info = document.get("L2i") or {}
    for key, wanted in (("ScanID", job.scan_id), ("FreqMode", job.freq_mode)):
        if info.get(key, wanted) != wanted:
            return f"level 2 of scan {job.scan_id} holds {key} {info[key]} instead of {wanted}"
    return ""


def fetch(
    api: OdinApi, project: str, jobs: Iterable[FinishedJob], directory: Path, *, check_mode: bool = False
) -> Outcome:
    """Bring ``directory`` up to date with level 2 of ``jobs``.

    A document is new when there is none of the time at which its job finished: each file's modification time is
    that time, so a scan that was processed again is fetched again. Files appear whole or not at all.
    """
    outcome = Outcome()
    wanted: list[FinishedJob] = []
    for job in jobs:
        document = _kept(document_path(directory, job), job)
        if document is None:
            wanted.append(job)
        else:
            outcome.there += 1
            _account(outcome, job, document)
    if check_mode:
        outcome.new = wanted
        return outcome
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for job, document in zip(wanted, _read(pool, api, project, wanted), strict=True):
            if document is None:
                outcome.missing.append(job)
                continue
            if fault := _fault(document, job):
                outcome.wrong.append(fault)
                continue
            path = document_path(directory, job)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, json.dumps(document, indent=1), modified=job.finished.timestamp())
            except OSError as error:
                raise QsmrError(f"{path} cannot be written: {error.strerror}; check qsmr_state_dir") from None
            outcome.new.append(job)
            _account(outcome, job, document)
    return outcome


def _kept(path: Path, job: FinishedJob) -> dict[str, Any] | None:
    """The job's document if a whole one of this time is there."""
    try:
        document = json.loads(path.read_text()) if path.stat().st_mtime == job.finished.timestamp() else None
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise QsmrError(f"{path} cannot be read: {error.strerror}; check qsmr_state_dir") from None
    return document if isinstance(document, dict) else None


def _read(
    pool: ThreadPoolExecutor, api: OdinApi, project: str, jobs: list[FinishedJob]
) -> Iterator[dict[str, Any] | None]:
    return pool.map(lambda job: api.level2(project, job.freq_mode, job.scan_id), jobs)


def _account(outcome: Outcome, job: FinishedJob, document: dict[str, Any]) -> None:
    outcome.snapshots[snapshot_of(document)] += 1
    if not document.get("L2"):
        outcome.failed_scans.append(job.scan_id)


def profile_table(document: dict[str, Any], species: str = "O3") -> list[dict[str, float]]:
    """The first product of a species as rows of altitude (km), VMR and a priori (ppm), measurement response.

    Empty without a product of that species that has all of them.
    """
    keys = ("Altitude", "VMR", "Apriori", "MeasResponse")
    for product in document.get("L2") or []:
        if str(product.get("Product")).startswith(species) and all(product.get(key) for key in keys):
            return [
                {"altitude_km": z / 1e3, "vmr_ppm": x * 1e6, "apriori_ppm": a * 1e6, "response": m}
                for z, x, a, m in zip(*(product[key] for key in keys), strict=False)
                if None not in (z, x, a, m)
            ]
    return []
