"""Keep level 2 of a project's finished jobs on disk: documents, NetCDF, and a table; what is new is fetched only."""

from __future__ import annotations

import contextlib
import csv
import filecmp
import heapq
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, repeat
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from . import level2set
from .errors import QsmrError
from .files import replacing
from .jobapi import JobApi, JobApiError
from .jobstates import canonical, parse_time
from .level2doc import Facts, WrongDocument, check, values_of
from .level2set import Key, ProductFile
from .odinapi import OdinAnswerError, OdinApi
from .provenance import attributes, keep_manifests
from .resultindex import Job, ResultIndex, utc

CONNECTIONS = 8
SUMMARY = "summary.csv"
JOB_ID = re.compile(r"([0-9]{1,9}):([0-9]{1,18})")
STATES = ("finished", "failed")
EXAMPLES = 20
# The first so many answers are all wrong: so will be the rest.
HOPELESS = 20
_COMMIT_AFTER = 200
# The service sets the time before it stores the job: a listing can lack one that ended a little before the last it has.
_MARGIN = 600  # s
_COLUMNS = (
    *("freq_mode", "scan_id", "outcome", "reason", "time", "latitude", "longitude", "products", "levels", "residual"),
    *("cost", "snapshot_id", "configuration", "worker", "ended", "processing_time", "document"),
)
_MJD_OF_1970 = 40587
Item = TypeVar("Item")
Done = TypeVar("Done")


class _NoDocument(Exception):
    """The Odin API has nothing of a scan. An exception of its own, so that no fault of ours passes for it."""


@dataclass
class Outcome:
    """What a run found and did."""

    new: int = 0
    changed: bool = False
    missing: list[str] = field(default_factory=list)
    """Some of the finished jobs without level 2, as ``<frequency mode>:<scan id>``."""
    wrong: list[str] = field(default_factory=list)
    """Why documents were not kept, one line for each of some."""
    aside: list[str] = field(default_factory=list)
    """Where files were put that had the name of one of ours."""
    outcomes: dict[str, int] = field(default_factory=dict)
    """How many scans had which outcome, as in the summary."""
    snapshots: dict[str, int] = field(default_factory=dict)


def document_path(directory: Path, key: Key) -> Path:
    """Where a scan's document lies: the scans of about a week (10 million ticks) share a directory."""
    return directory / str(key[0]) / (str(key[1])[:-7] or "0") / f"{key[1]}.json"


def bring_up_to_date(
    jobs: JobApi,
    odin: OdinApi,
    project: str,
    odin_project: str,
    index: ResultIndex,
    directory: Path,
    snapshot_dir: Path,
    *,
    check_mode: bool = False,
) -> Outcome:
    """Bring a results directory up to date with the services, and what is made of it with its documents.

    Raises QsmrError if a service gives no usable answer; what was fetched until then is kept.
    """
    list_jobs(jobs, project, index)
    lost = [key for key, size in index.kept() if _size(document_path(directory, key)) != size]
    index.lose(lost)
    outcome = Outcome()
    if check_mode:
        outcome.new = sum(1 for _job in index.wanted())
        outcome.changed = bool(outcome.new)
    else:
        fetch(odin, odin_project, index, directory, outcome)
        made = [keep_manifests(index.snapshots(), snapshot_dir, directory)]
        made += [write_products(index, directory, project, odin_project, outcome), write_summary(index, directory)]
        outcome.changed = bool(outcome.new) or any(made)
    outcome.outcomes = index.outcomes()
    outcome.snapshots = index.snapshots()
    return outcome


def list_jobs(api: JobApi, project: str, index: ResultIndex) -> None:
    """Ask which jobs ended: since the last time if that makes the numbers agree with the service's, else all of them.

    Raises QsmrError if there is no such project.
    """
    try:
        record = api.project(project)
    except JobApiError as error:
        if error.status != 500:
            raise
        record = {}  # one job with a null status is enough for that (REST contract v4, section 4)
    if record is None:
        raise QsmrError(f"The job service has no project {project}: check qsmr_project, or add jobs with jobs.yml")
    wanted = dict.fromkeys(STATES, 0)
    for status, number in (record.get("JobStates") or {}).items():
        if canonical(status) in wanted:
            wanted[canonical(status)] += number
    since = {state: index.newest(state) for state in STATES}
    if since["finished"]:
        news = (
            job
            for state in STATES
            for job in _ended(api, project, state, utc(max(0, since[state] - _MARGIN)).rstrip("Z") or None)
        )
        index.list_jobs(news, all_of_them=False)
    known = index.states()
    if not record or any(known[state] != wanted[state] for state in STATES):
        index.list_jobs((job for state in STATES for job in _ended(api, project, state)), all_of_them=True)


def _ended(api: JobApi, project: str, state: str, since: str | None = None) -> Iterator[Job]:
    """The scans' jobs in a state, finished or failed."""
    for entry in api.each_job(project, status=state, start=since):
        match = JOB_ID.fullmatch(str(entry.get("Id")))
        # With a start the service lists jobs that were in the state then, whatever they are now (contract, section 7).
        if match and canonical(entry.get("Status")) == state:
            ended, claimed = (parse_time(entry.get(name)) for name in (state.title(), "Claimed"))
            seconds = entry.get("ProcessingTime")
            yield Job(
                *(int(match[1]), int(match[2]), state, int(ended.timestamp()) if ended else 0),
                *(str(entry.get("Worker") or ""), int(claimed.timestamp()) if claimed else None),
                float(seconds) if isinstance(seconds, int | float) else None,
            )


def fetch(odin: OdinApi, project: str, index: ResultIndex, directory: Path, outcome: Outcome) -> None:
    """Fetch the documents that the index wants, over several connections; each is checked, and appears whole."""

    def bring(job: Job) -> tuple[Facts, int, bool]:
        return _kept(job, project, directory) or _fetch_one(odin, job, project, directory)

    bad = 0
    for number, (job, future) in enumerate(_in_parallel(bring, index.wanted(), CONNECTIONS), 1):
        try:
            facts, size, fetched = future.result()
        except _NoDocument:
            index.fail(job, "missing", "the Odin API has no level 2 of it")
            _example(outcome.missing, f"{job.freq_mode}:{job.scan_id}")
        except (WrongDocument, OdinAnswerError) as error:
            bad += 1
            index.fail(job, "wrong", str(error))
            _example(outcome.wrong, str(error))
            if isinstance(error, OdinAnswerError) and bad == number == HOPELESS:
                raise
        else:
            index.keep(job, facts, size)
            outcome.new += 1
        if number % _COMMIT_AFTER == 0:
            index.commit()
    index.commit()


def _in_parallel(
    work: Callable[[Item], Done], items: Iterable[Item], connections: int
) -> Iterator[tuple[Item, Future[Done]]]:
    """Each item with what became of it, in order; only a few more than there are connections are at work."""
    with ThreadPoolExecutor(connections) as pool:
        waiting: deque[tuple[Item, Future[Done]]] = deque()
        try:
            for item in items:
                waiting.append((item, pool.submit(work, item)))
                if len(waiting) > 4 * connections:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for _item, future in waiting:
                future.cancel()


def _kept(job: Job, project: str, directory: Path) -> tuple[Facts, int, bool] | None:
    """The job's document if a whole one of its time is there, which an earlier run left."""
    path = document_path(directory, job.key)
    try:
        found = path.stat()
        if found.st_mtime == job.ended:
            return check(json.loads(path.read_bytes()), project, job.key), found.st_size, False
    except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError, WrongDocument):
        pass
    return None


def _fetch_one(odin: OdinApi, job: Job, project: str, directory: Path) -> tuple[Facts, int, bool]:
    found = odin.level2(project, *job.key)
    if found is None:
        raise _NoDocument
    facts = check(found.document, project, job.key)
    path = document_path(directory, job.key)
    text = found.text.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_bytes(text)
        os.utime(part, (job.ended, job.ended))
    return facts, len(text), True


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _example(examples: list[str], line: str) -> None:
    if len(examples) < EXAMPLES:
        examples.append(line)


def write_products(index: ResultIndex, directory: Path, project: str, odin_project: str, outcome: Outcome) -> bool:
    """Bring the NetCDF files up to date with the documents; says whether there was anything to do.

    Each document is read once, whatever the number of its products.
    """
    texts = attributes(index, directory, project, odin_project)
    files: dict[str, ProductFile] = {}
    paths: set[Path] = set()
    for product in index.products():
        path = directory / f"level2_{level2set.slug(product)}.nc"
        number = 1
        while path in paths:  # products whose names differ in signs only
            number += 1
            path = directory / f"level2_{level2set.slug(product)}_{number}.nc"
        paths.add(path)
        files[product] = ProductFile(path, product, index.scans_of(product), texts)
    gone = [path for path in level2set.files_of_ours(directory) if path not in paths]
    for path in gone:
        path.unlink()
    files = {product: file for product, file in files.items() if file.changed}
    outcome.aside += [str(_put_aside(file.path)) for file in files.values() if file.is_in_the_way]
    with contextlib.ExitStack() as stack:
        for file in files.values():
            stack.enter_context(file.open())
        each = [zip(file.todo, repeat(product)) for product, file in files.items()]
        for key, todo in groupby(heapq.merge(*each, key=_by_scan), itemgetter(0)):
            document = json.loads(document_path(directory, key).read_bytes())
            row = index.scan(key) or {}
            for _key, product in todo:
                values = values_of(document, product)
                files[product].add({**values, "worker": row["worker"], "processing_time": row["processing_time"]})
    return bool(files or gone)


def _put_aside(path: Path) -> Path:
    """Give a file that may be the user's another name."""
    names = (path.with_name(f"{path.name}.aside{number}") for number in ("", *range(2, 1000)))
    aside = next(name for name in names if not name.exists())
    return path.replace(aside)


def _by_scan(todo: tuple[Key, str]) -> tuple[int, int]:
    (freq_mode, scan_id), _product = todo
    return scan_id, freq_mode


def write_summary(index: ResultIndex, directory: Path) -> bool:
    """Write the table of all scans, and say whether it is another one."""
    path = directory / SUMMARY
    new = path.with_name(f".{SUMMARY}.new")
    with new.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(_summary_row(row, directory) for row in index.rows())
    try:
        if path.exists() and filecmp.cmp(path, new, shallow=False):
            return False
        with replacing(path) as part:
            new.replace(part)
    finally:
        new.unlink(missing_ok=True)
    return True


def _summary_row(row: Mapping[str, Any], directory: Path) -> tuple[Any, ...]:
    key = (row["freq_mode"], row["scan_id"])
    ended = (utc(row["ended"]), row["processing_time"])
    if row["kept"] != row["ended"] or row["state"] != "finished":
        outcome = "job_failed" if row["state"] == "failed" else row["outcome"]
        reason = "" if outcome == "job_failed" else row["reason"]
        return (*key, outcome, reason, *[None] * 9, row["worker"], *ended, None)
    path = document_path(directory, key).relative_to(directory)
    return (
        *(*key, row["outcome"], row["reason"]),
        utc((row["time"] - _MJD_OF_1970) * 86400) if row["time"] is not None else None,
        *(row["latitude"], row["longitude"], "; ".join(json.loads(row["products"])), row["levels"], row["residual"]),
        *(row["cost"], row["snapshot"], row["configuration"], row["worker"], *ended, path),
    )


def profile_table(directory: Path, index: ResultIndex, species: str = "O3") -> list[dict[str, float]]:
    """The first scan's profile of a species as rows of altitude (km), VMR and a priori (ppm), measurement response.

    Empty without a product of that species.
    """
    product = next((name for name in index.products() if name.split(" ")[0] == species), None)
    scan = next(iter(index.scans_of(product)), None) if product else None
    if product is None or scan is None:
        return []
    values = values_of(json.loads(document_path(directory, scan.key).read_bytes()), product)
    columns = (values[name] for name in ("altitude", "vmr", "vmr_apriori", "measurement_response"))
    return [
        {"altitude_km": float(z) / 1e3, "vmr_ppm": float(x) * 1e6, "apriori_ppm": float(a) * 1e6, "response": float(m)}
        for z, x, a, m in zip(*columns, strict=False)
    ]
