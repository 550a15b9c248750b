"""A project's report: one page with what happened to its jobs and what became of its scans."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import page, reportfigures
from .errors import QsmrError
from .failures import Cause, HostShare, chance, host_of, host_shares, template_of
from .jobapi import JobApi
from .jobstates import SHORTEST, WINDOWS, Rate, parse_time, state_of
from .level2set import product_files, read_columns
from .libraries import libraries
from .provenance import MANIFESTS, commit_line, describe, keep_manifests, settings_line, snapshots_of
from .reportpage import TEMPLATE
from .resultindex import FILE as INDEX
from .resultindex import opened
from .results import SUMMARY
from .status import newest_failed, read_failures
from .verdict import ENOUGH
from .words import duration

with libraries():
    import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

FILE = "report.html"
ANALYSED = 1000
"""So many failed jobs have their output read, the newest."""
MOST_WORKERS = 200
MOST_CAUSES = 50
MOST_PRODUCTS = 4
MOST_PROFILES = 20_000

_PROFILE = ("altitude", "vmr", "vmr_apriori", "measurement_response")
LAYER = 2000.0  # m
BAND = 10.0  # degrees of latitude
_SCAN_JOB = re.compile(r"[0-9]{1,9}:([0-9]{1,19})")
# Of the report that is there: what it was made of.
_MADE_OF = re.compile(r'<meta name="made-of" content="(\w+)-(\w+)">')
STATES = ("finished", "failed", "running", "available")
# Outcomes in the summary of scans whose job has finished.
GAPS = {
    "no_result": "no profile, says the retrieval",
    "missing": "no level 2 at the Odin API",
    "wrong": "level 2 that is not this scan's, or not whole",
}
MOST_NAMED = 20


@dataclass
class JobTable:
    """All jobs of a project, a column for each thing that the report tells of. Times are seconds since 1970."""

    states: NDArray[np.int8]
    """Index into STATES."""
    workers: NDArray[np.int32]
    """Index into ``worker_names``; -1: none."""
    ended: Numbers
    seconds: Numbers
    """Processing time."""
    scans: Numbers
    """Time of the scan, in seconds since 1970, from its id; NaN for a job that is no scan's."""
    worker_names: list[str]
    failed: list[dict[str, Any]] = field(default_factory=list)
    """Id, worker and time of each failed job."""

    @classmethod
    def read(cls, jobs: Iterable[Mapping[str, Any]]) -> JobTable:
        """From the job list, entry by entry: nothing of an entry is kept but numbers."""
        states, workers, ended, seconds, scans = [], [], [], [], []
        names: dict[str, int] = {}
        failed = []
        for job in jobs:
            state = state_of(job)
            # What a client made up counts as running.
            states.append(STATES.index(state) if state in STATES else 2)
            worker = job.get("Worker")
            workers.append(names.setdefault(worker, len(names)) if worker else -1)
            time = parse_time(job.get(state.title())) if state in ("finished", "failed") else None
            ended.append(time.timestamp() if time else np.nan)
            seconds.append(float(job.get("ProcessingTime") or np.nan))
            match = _SCAN_JOB.fullmatch(str(job.get("Id")))
            scans.append(scan_time(int(match[1])) if match else np.nan)
            if state == "failed":
                failed.append({name: job.get(name) for name in ("Id", "Status", "Worker", "Failed")})
        return cls(
            np.array(states, np.int8),
            np.array(workers, np.int32),
            np.array(ended, np.float64),
            np.array(seconds, np.float64),
            np.array(scans, np.float64),
            list(names),
            failed,
        )

    def digest(self) -> str:
        """Equal for tables that tell the same."""
        found = hashlib.sha256(json.dumps(self.worker_names).encode())
        for column in (self.states, self.workers, self.ended, self.seconds, self.scans):
            found.update(column.tobytes())
        return found.hexdigest()

    def of(self, state: str) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.states == STATES.index(state)
        return found

    def count(self, state: str) -> int:
        return int(np.count_nonzero(self.of(state)))

    @property
    def remaining(self) -> int:
        return self.count("running") + self.count("available")

    @property
    def began(self) -> float:
        """When the first job that ended began."""
        known = np.isfinite(self.ended)
        return float(np.min(self.ended[known] - np.nan_to_num(self.seconds[known])))

    def rate(self, now: float) -> Rate | None:
        """How fast jobs ended lately: qsmr.jobstates tells which time that is. In all, once all have ended."""
        times = self.ended[np.isfinite(self.ended)]
        if not len(times):
            return None
        if not self.remaining:
            return Rate(len(times), max(float(np.max(times)) - self.began, SHORTEST))
        for minutes in WINDOWS:
            lately = times[times >= now - 60 * minutes]
            if len(lately) >= min(ENOUGH, len(times)):
                begin = max(now - 60 * minutes, self.began)
                return Rate(len(lately), max(now - begin, SHORTEST))
        return None


def scan_time(scan_id: int) -> float:
    """Seconds since 1970 of a scan, from the clock of the satellite that its id is (Odin API contract, section 4)."""
    mjd = (scan_id - 6161431982) / 16.0016444 / 86400 + 56416.7782534
    return (mjd - 40587) * 86400


@dataclass(frozen=True)
class Profiles:
    """A product's profiles by altitude: percentiles over its scans. ``unit`` is that of the values."""

    product: str
    unit: str
    scans: int
    used: int
    altitude: Numbers
    """km"""
    percentiles: Numbers
    """5, 16, 50, 84, 95 in rows, an altitude in each column."""
    apriori: Numbers
    response: Numbers
    bands: Numbers
    """Median by altitude (rows) and latitude (columns, each of 10 degrees from -90 on); NaN where nothing is."""


def read_profiles(results: Path) -> list[Profiles]:
    """The products with most scans, those that the retrieval only needs ("dummy") last.

    Of very many scans every so many is taken, evenly over the file.
    """
    found = []
    for product, path in product_files(results).items():
        scans, (latitude, *columns) = read_columns(path, ("latitude", *_PROFILE), MOST_PROFILES)
        used, levels = columns[0].shape
        flat = (column.astype(np.float64).ravel() for column in columns)
        profiles = _spread(product, scans, used, np.repeat(latitude.astype(np.float64), levels), *flat)
        if profiles:
            found.append(profiles)
    return sorted(found, key=lambda one: ("dummy" in one.product, -one.scans))[:MOST_PRODUCTS]


def _spread(
    product: str,
    scans: int,
    used: int,
    latitude: Numbers,
    altitude: Numbers,
    vmr: Numbers,
    apriori: Numbers,
    response: Numbers,
) -> Profiles | None:
    """Percentiles in layers of 2 km; a layer that fewer than a tenth of the profiles reach is left out."""
    good = np.isfinite(altitude) & np.isfinite(vmr)
    latitude, altitude, vmr, apriori, response = (
        column[good] for column in (latitude, altitude, vmr, apriori, response)
    )
    layers = np.round(altitude / LAYER).astype(np.int64)
    band = np.clip(np.floor((np.nan_to_num(latitude, nan=-90.0) + 90) / BAND), 0, 180 / BAND - 1).astype(np.int64)
    rows, bands = [], []
    for layer in np.unique(layers):
        inside = layers == layer
        if np.count_nonzero(inside) >= max(used / 10, 1):
            middle = float(np.median(altitude[inside])) / 1000
            medians = [_median(column[inside]) for column in (apriori, response)]
            rows.append([middle, *np.percentile(vmr[inside], (5, 16, 50, 84, 95)), *medians])
            bands.append([_median(vmr[inside][band[inside] == number]) for number in range(round(180 / BAND))])
    if not rows:
        return None
    table = np.array(rows).T
    temperature = product.startswith("Temperature")
    largest = np.nanmax(np.abs(table[3]))
    factor, unit = (1.0, "K") if temperature else (1e6, "ppm") if largest >= 1e-7 else (1e9, "ppb")
    return Profiles(
        product, unit, scans, used, table[0], factor * table[1:6], factor * table[6], table[7], factor * np.array(bands)
    )


def _median(values: Numbers) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else np.nan


def read_places(results: Path) -> tuple[Numbers, Numbers]:
    """Longitude (-180 to 180) and latitude of the scans that have level 2, each once."""
    names = ("freq_mode", "scan_id", "longitude", "latitude")
    files = [read_columns(path, names)[1] for path in product_files(results).values()]
    if not files:
        return np.empty(0), np.empty(0)
    modes, scans, *places = (np.concatenate(column) for column in zip(*files, strict=True))
    _keys, first = np.unique(np.stack([modes, scans]), axis=1, return_index=True)
    both = np.stack(places, axis=1).astype(np.float64)[np.sort(first)]
    both = both[np.isfinite(both).all(axis=1)]
    return (both[:, 0] + 180) % 360 - 180, both[:, 1]


@dataclass
class Gap:
    """Scans whose job has finished and that have no profile for the same reason."""

    outcome: str
    reason: str
    scans: list[str] = field(default_factory=list)


def read_gaps(results: Path) -> list[Gap]:
    """The scans without a profile by reason, as the table of results.yml has them; the most frequent reason first."""
    found: dict[tuple[str, str], Gap] = {}
    path = results / SUMMARY
    if path.exists():
        with path.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                outcome = row["outcome"]
                if outcome in GAPS:
                    reason = template_of(row["reason"])
                    gap = found.setdefault((outcome, reason), Gap(GAPS[outcome], reason))
                    gap.scans.append(f"{row['freq_mode']}:{row['scan_id']}")
    return sorted(found.values(), key=lambda gap: -len(gap.scans))


@dataclass(frozen=True)
class Report:
    """Where the report is, and whether it had to be written."""

    path: Path
    changed: bool
    figures: int = 0


def write_report(
    api: JobApi,
    project: str,
    results: Path,
    picture: Mapping[str, Any],
    now: datetime,
    *,
    snapshot_dir: Path | None = None,
    check_mode: bool = False,
) -> Report:
    """Write ``report.html`` and its figures into ``results``, unless what is there tells the same already.

    ``picture`` is what status.take_picture found, or empty; in ``snapshot_dir`` are the snapshots of the hosts'
    releases. Raises QsmrError.
    """
    path = results / FILE
    table = JobTable.read(api.each_job(project))
    hosts = [dict(host) for host in picture.get("hosts", [])]
    releases = releases_of(hosts)
    if snapshot_dir and not check_mode:
        keep_manifests(releases, snapshot_dir, results)
    made_of = _digest(table, results), _hash(hosts, picture.get("attention", []))
    former = _made_of(path)
    # Without a picture of the fleet nothing is said against the one that is there.
    if former == made_of or (not picture and former[0] == made_of[0]):
        return Report(path, False)
    if check_mode:
        return Report(path, True)
    homes = {worker["name"]: host["host"] for host in hosts for worker in host["workers"]}
    failed = newest_failed(table.failed, ANALYSED)
    causes = read_failures(api, project, failed, homes) if failed else []
    figures, values = compose(api.root, project, results, table, hosts, homes, causes, now)
    snapshots = read_snapshots(results, releases)
    html = page.render(
        TEMPLATE,
        title=f"Project {project}",
        file=FILE,
        figures=figures,
        made_of="-".join(made_of),
        attention=list(picture.get("attention", [])),
        failing=bool(picture.get("exit_code")),
        analysed=len(failed),
        chance=chance,
        snapshots=[provenance_row(snapshot) for snapshot in snapshots],
        told=sorted({line for snapshot in snapshots for text in snapshot["told"] for line in text.splitlines()}),
        **values,
    )
    page.write(path, html, figures)
    return Report(path, True, len(figures))


def releases_of(hosts: Iterable[Mapping[str, Any]]) -> list[str]:
    """The releases that hosts have or run, as status.read_host tells them."""
    return sorted({release for host in hosts for release in (host["release"], *host["running"]) if release})


def read_snapshots(results: Path, releases: Iterable[str]) -> list[dict[str, Any]]:
    """What is known of the snapshots that made the documents here, and of those that only the hosts have."""
    found = []
    if (results / INDEX).exists():
        with opened(results, check_mode=True) as index:
            found = snapshots_of(index, results)
    known = {snapshot["snapshot_id"] for snapshot in found}
    return found + [describe(release, 0, results) for release in releases if release not in known]


def provenance_row(snapshot: Mapping[str, Any]) -> list[object]:
    """A snapshot in the table of the report."""
    if not snapshot["created"]:
        return [snapshot["snapshot_id"], snapshot["documents"], "its snapshot.json was not found", *["–"] * 4]
    return [
        *(snapshot["snapshot_id"], snapshot["documents"], commit_line(snapshot), settings_line(snapshot)),
        *(snapshot["code_directory"], snapshot["created"], snapshot["base_image"]),
    ]


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _digest(table: JobTable, results: Path) -> str:
    try:
        paths = [*product_files(results).values(), *results.glob(SUMMARY), *sorted(results.glob(f"{MANIFESTS}/*.json"))]
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    except OSError as error:
        raise QsmrError(f"{results} cannot be read: {error.strerror}; check qsmr_state_dir") from None
    # Another version of template or style makes another report.
    return _hash(table.digest(), files, TEMPLATE, page.environment().globals["style"])


def _made_of(path: Path) -> tuple[str, str]:
    """What the report that is there was made of: the data, and the picture of the fleet."""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            match = _MADE_OF.search(stream.read(4096))
    except OSError:
        match = None
    return (match[1], match[2]) if match else ("", "")


def state_line(table: JobTable) -> str:
    """Where the jobs are, in a few words."""
    total, ended, failed = len(table.states), len(table.states) - table.remaining, table.count("failed")
    if not total:
        return "It has no jobs yet"
    if failed == ended > 0:
        if total == 1:
            return "Its only job has failed"
        return f"All {failed:,} jobs have failed" if failed == total else f"All {failed:,} jobs that ended have failed"
    words = f"{100 * ended / total:.3g} % of the jobs have ended"
    return f"{words}, {failed:,} of them failed" if failed else words


def no_level2(table: JobTable, fetched: bool) -> str:
    """Why there is no level 2 to show, and what to do if there is something to do."""
    if not table.count("finished"):
        return "No job has finished, so there is no level 2."
    if fetched:
        return "No scan that finished has a profile on disk; the table tells why, and summary.csv for each scan."
    return "No level 2 is on disk yet: run results.yml, which also writes this report anew."


def compose(
    root: str,
    project: str,
    results: Path,
    table: JobTable,
    hosts: Sequence[Mapping[str, Any]],
    homes: Mapping[str, str],
    causes: Sequence[Cause],
    now: datetime,
) -> tuple[list[page.Figure], dict[str, Any]]:
    """The figures, and the values of the template."""
    rate = table.rate(now.timestamp())
    worker_rows = _by_worker(table, homes)
    host_rows, shares = _by_host(table, hosts, homes)
    profiles, (longitude, latitude) = read_profiles(results), read_places(results)
    figures = [
        *reportfigures.progress(table),
        *reportfigures.by_name("hosts", "host", host_rows),
        *reportfigures.by_name("workers", "worker", worker_rows),
        *reportfigures.processing_time(table),
        *reportfigures.world(longitude, latitude),
        *reportfigures.coverage(table),
        *(figure for number, one in enumerate(profiles, 1) for figure in reportfigures.profiles(str(number), one)),
    ]
    total, remaining = len(table.states), table.remaining
    left = duration(60 * remaining / rate.per_minute) if rate and remaining else None
    facts: list[tuple[str, object]] = [
        ("Jobs", total),
        *((state.title(), table.count(state)) for state in STATES),
        ("Jobs a minute", rate.per_minute if rate else None),
        ("Left", left if remaining else "none" if total else None),
        ("With level 2", len(latitude)),
    ]
    return figures, {
        "project": project,
        "root": root,
        "now": now.strftime("%Y-%m-%d %H:%M UTC"),
        "facts": facts,
        "state": state_line(table),
        "no_level2": no_level2(table, (results / SUMMARY).exists()),
        "hosts": [row.cells for row in host_rows],
        "bad_hosts": [share for share in shares if share.stands_out],
        "workers": [row.cells for row in worker_rows[:MOST_WORKERS]],
        "workers_total": len(worker_rows),
        "causes": list(causes[:MOST_CAUSES]),
        "causes_total": len(causes),
        "failed": table.count("failed"),
        "profiles": profiles,
        "gaps": [
            [
                gap.outcome,
                gap.reason,
                len(gap.scans),
                ", ".join(gap.scans[:MOST_NAMED]) + ", …" * (len(gap.scans) > MOST_NAMED),
            ]
            for gap in read_gaps(results)[:MOST_CAUSES]
        ],
    }


@dataclass(frozen=True)
class Row:
    """A host or a worker: jobs by state, and what the table shows."""

    name: str
    counts: Mapping[str, int]
    cells: list[object]

    @property
    def total(self) -> int:
        return sum(self.counts.values())


def _rows(
    table: JobTable, names: Sequence[str], of_worker: NDArray[np.int64]
) -> Iterator[tuple[str, dict[str, int], Any]]:
    """Name, counts by state (without available) and the median processing time; ``of_worker`` tells each one's name."""
    held = table.workers >= 0
    index = of_worker[table.workers[held]] if len(names) else np.empty(0, np.int64)
    states, seconds = table.states[held], table.seconds[held]
    counted = np.zeros((len(names), len(STATES)), np.int64)
    np.add.at(counted, (index, states), 1)
    order = np.argsort(index, kind="stable")
    parts = np.split(seconds[order], np.searchsorted(index[order], np.arange(1, len(names)))) if len(names) else []
    for name, counts, part in zip(names, counted, parts, strict=True):
        median = _median(part)
        by_state = {state: int(n) for state, n in zip(STATES[:3], counts, strict=False)}
        yield name, by_state, None if np.isnan(median) else median


def _by_worker(table: JobTable, homes: Mapping[str, str]) -> list[Row]:
    names = table.worker_names
    rows = []
    for name, counts, median in _rows(table, names, np.arange(len(names))):
        cells = [name, host_of(name, homes), *counts.values(), median]
        rows.append(Row(name, counts, cells))
    return sorted(rows, key=lambda row: (-row.total, row.name))


def _by_host(
    table: JobTable, hosts: Sequence[Mapping[str, Any]], homes: Mapping[str, str]
) -> tuple[list[Row], list[HostShare]]:
    home = [host_of(worker, homes) for worker in table.worker_names]
    known = {host["host"]: host for host in hosts}
    names = sorted({*home, *known})
    of_worker = np.array([names.index(name) for name in home], np.int64)
    found = list(_rows(table, names, of_worker))
    ended = Counter({name: counts["finished"] + counts["failed"] for name, counts, _row in found})
    shares = host_shares(
        {name: n for name, n in ended.items() if n}, {name: counts["failed"] for name, counts, _row in found}
    )
    by_name = {share.host: share for share in shares}
    rows = []
    for name, counts, median in found:
        share, host = by_name.get(name), known.get(name)
        says = "–"
        if host:
            healthy = f"{host['healthy']} of {len(host['workers'])} healthy"
            says = healthy if host["state"] == "answers" else str(host["state"])
        release = ", ".join(host["running"]) or str(host["release"] or "–") if host else "–"
        percent = 100 * share.share if share else None
        cells = [
            name,
            release,
            says,
            *counts.values(),
            percent,
            max(share.p, 1e-15) if share and share.failed else None,
            median,
        ]
        rows.append(Row(name, counts, cells))
    return rows, shares
