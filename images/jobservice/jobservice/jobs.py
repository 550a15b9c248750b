"""Jobs: adding, handing out, claiming, reporting, listing."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from flask import Blueprint, Response, abort, request
from sqlalchemy import Column, Connection, Row, Select, bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from werkzeug.exceptions import BadRequest, Conflict

from .auth import login_required
from .database import reading, writing
from .projects import CHANGE, SHARE, find_project, make_project, prio_score
from .schema import jobs, projects, workers
from .web import (
    API,
    clean_text,
    json_body,
    json_object,
    link,
    now_argument,
    path_segment,
    refuse,
    time_argument,
    utcnow,
    whole_seconds,
)

LIMITS = {"id": 64, "type": 64, "source_url": 512, "target_url": 512, "view_result_url": 512}
REQUIRED = {"id", "source_url"}
MAX_OUTPUT = 65535
FETCH_FROM = 500
# SQLite takes 32766 values in one statement, PostgreSQL 65535.
LOOKUP = 5000
LISTED = (
    jobs.c.id, jobs.c.type, jobs.c.status, jobs.c.claimed, jobs.c.worker,
    jobs.c.added_at, jobs.c.claimed_at, jobs.c.finished_at, jobs.c.failed_at, jobs.c.processing_time,
    jobs.c.source_url, jobs.c.view_result_url,
)  # fmt: skip
# The status texts that also note their time, and where.
TIMES = {"AVAILABLE": "added_at", "CLAIMED": "claimed_at", "FINISHED": "finished_at", "FAILED": "failed_at"}
STATUSES = (*TIMES, "STARTED")
OUTCOMES = ("FINISHED", "FAILED")
# Made once, because making a statement takes longer than its execution.
UNCLAIMED = (
    select(jobs.c.nr)
    .where(jobs.c.project_id == bindparam("project_id"), jobs.c.claimed.is_(False))
    .limit(FETCH_FROM)
    .subquery()
)
ANY_UNCLAIMED = select(UNCLAIMED.c.nr).order_by(func.random()).limit(1).scalar_subquery()
FETCHED = select(jobs.c.id, jobs.c.source_url, jobs.c.target_url).where(jobs.c.nr == ANY_UNCLAIMED)
JOB = (
    select(*(column for column in jobs.c if column is not jobs.c.output))
    .join(projects)
    .where(projects.c.project == bindparam("project"), jobs.c.id == bindparam("job"))
)
JOB_LOCKED = JOB.with_for_update(of=jobs, key_share=True)
UPDATE = update(jobs).where(jobs.c.nr == bindparam("job"))
CLAIM = UPDATE.where(jobs.c.claimed.is_(False))
COUNTERS = ("nr_added", "nr_claimed", "nr_finished", "nr_failed", "total_processing_time")
COUNT = (
    update(projects)
    .where(projects.c.id == bindparam("counted"))
    .values({name: projects.c[name] + bindparam(f"more_{name}") for name in COUNTERS})
)
ACTIVE = {
    dialect: statement.on_conflict_do_update(
        index_elements=["project_id", "name"],
        set_={
            "last_active_at": statement.excluded.last_active_at,
            "nr_claims": workers.c.nr_claims + statement.excluded.nr_claims,
        },
    )
    for dialect, statement in {"sqlite": sqlite.insert(workers), "postgresql": postgresql.insert(workers)}.items()
}

blueprint = Blueprint("jobs", __name__, url_prefix=API)


@blueprint.post("/<project>/jobs")
@login_required
def post_jobs(version: str, project: str) -> Response:
    body = json_body()
    now = time_argument("now")
    if isinstance(body, dict):
        _add_jobs(project, [_clean_job(body)], now, is_list=False)
    elif isinstance(body, list):
        _add_jobs(project, _clean_jobs(body), now, is_list=True)
    else:
        refuse("Invalid input")
    return Response(status=201)


def _clean_jobs(bodies: list[Any]) -> list[dict[str, Any]]:
    cleaned, faults = [], []
    for index, body in enumerate(bodies):
        try:
            cleaned.append(_clean_job(body))
        except BadRequest as fault:
            faults.append(f"Job#{index}: {fault.description}")
    if faults:
        refuse("\n".join(faults))
    return cleaned


def _clean_job(body: Any) -> dict[str, Any]:
    """The posted columns of one job; answers 400 if it is no job."""
    if not isinstance(body, dict):
        refuse("Expected an object with the fields of a job")
    if missing := REQUIRED - body.keys():
        refuse(f"Missing required fields: {', '.join(sorted(missing))}")
    if unknown := body.keys() - LIMITS.keys():
        refuse(f"These fields do not exist or are for internal use: {', '.join(sorted(unknown))}")
    if not isinstance(body["id"], str):
        refuse("Expected string in field 'id'")
    return {field: clean_text(value, field, LIMITS[field]) for field, value in body.items()}


def _add_jobs(project: str, posted: list[dict[str, Any]], now: datetime | None, *, is_list: bool) -> None:
    """Store what is new, all or nothing; answers 409 if a stored job differs in a posted field."""
    if not posted:
        return
    added_at = now or utcnow().replace(microsecond=0)
    with writing() as connection:
        row = find_project(connection, project, CHANGE) or make_project(connection, project)
        known = _stored_jobs(connection, row.id, [job["id"] for job in posted]) if row.nr_added else {}
        blank = dict.fromkeys(LIMITS) | {"project_id": row.id, "added_at": added_at}
        new, conflicts = [], []
        for index, job in enumerate(posted):
            stored = known.get(job["id"])
            if stored is None:
                known[job["id"]] = blank | job
                new.append(known[job["id"]])
            elif not (job.items() <= stored.items() and now in (None, stored["added_at"])):
                conflicts.append(f"Job#{index}: " * is_list + f"A job with id {job['id']} already exists.")
        if conflicts:
            raise Conflict("\n".join(conflicts))
        if new:
            connection.execute(insert(jobs), new)
            _update_counters(connection, row.id, nr_added=len(new), last_job_added_at=added_at)


def _stored_jobs(connection: Connection, project_id: int, ids: list[str]) -> dict[str, dict[str, Any]]:
    query = select(jobs.c.added_at, *(jobs.c[field] for field in LIMITS)).where(jobs.c.project_id == project_id)
    stored = {}
    remaining = iter(ids)
    while chunk := list(islice(remaining, LOOKUP)):
        for row in connection.execute(query.where(jobs.c.id.in_(chunk))).mappings():
            stored[row["id"]] = dict(row)
    return stored


def _update_counters(connection: Connection, project_id: int, **changes: Any) -> None:
    """Add to the counters, set the times. Comes last: until the transaction's end nobody else can count."""
    more = {f"more_{name}": changes.pop(name, 0) for name in COUNTERS}
    connection.execute(COUNT, {"counted": project_id} | more | changes)


@blueprint.get("/projects/jobs/fetch")
@login_required
def fetch_any(version: str) -> dict[str, Any]:
    now = utcnow()
    with reading() as connection:
        rows = connection.execute(select(projects).where(projects.c.nr_added > projects.c.nr_claimed)).all()
        if not rows:
            abort(404, "No unclaimed jobs available")
        [chosen] = random.choices(rows, [prio_score(row, now) for row in rows])  # noqa: S311
        return _fetch(connection, version, chosen)


@blueprint.get("/<project>/jobs/fetch")
@login_required
def fetch(version: str, project: str) -> dict[str, Any]:
    with reading() as connection:
        return _fetch(connection, version, find_project(connection, project))


def _fetch(connection: Connection, version: str, project: Row[Any] | None) -> dict[str, Any]:
    if project is None:
        abort(404, "No unclaimed jobs available")
    job = connection.execute(FETCHED, {"project_id": project.id}).one_or_none()
    if job is None:
        abort(404, "No unclaimed jobs available")
    return {
        "Version": version,
        "Project": project.project,
        "Job": {
            "JobID": job.id,
            "Environment": json.loads(project.environment),
            "URLS": {
                "URL-image": project.processing_image_url,
                "URL-source": job.source_url,
                "URL-target": job.target_url,
                "URL-claim": link(project.project, "jobs", job.id, "claim"),
                "URL-status": link(project.project, "jobs", job.id, "status"),
                "URL-output": link(project.project, "jobs", job.id, "output"),
            },
        },
    }


def _find_job(connection: Connection, project: str, job_id: str, *, lock: bool = False) -> Row[Any]:
    """The job's row without its output; answers 404."""
    if lock and connection.dialect.name != "sqlite":
        find_project(connection, project, SHARE)
    job = connection.execute(JOB_LOCKED if lock else JOB, {"project": project, "job": job_id}).one_or_none()
    if job is None:
        abort(404, f"There is no job {job_id} in project {project}")
    return job


def _update_job(connection: Connection, job: Row[Any], **values: Any) -> None:
    connection.execute(UPDATE, {"job": job.nr} | values)


def _count_outcome(connection: Connection, job: Row[Any], outcome: str | None, **changes: Any) -> None:
    """Let the project's counters follow one job from its former outcome to this one."""
    _update_counters(
        connection,
        job.project_id,
        nr_finished=(outcome == "FINISHED") - (job.outcome == "FINISHED"),
        nr_failed=(outcome == "FAILED") - (job.outcome == "FAILED"),
        **changes,
    )


def _note_activity(connection: Connection, project_id: int, worker: str | None, now: datetime, claims: int = 0) -> None:
    if worker is None:
        return
    row = {"project_id": project_id, "name": worker, "last_active_at": now, "nr_claims": claims}
    connection.execute(ACTIVE[connection.dialect.name], row)


@blueprint.get("/<project>/jobs/<job_id>/claim")
def get_claim(version: str, project: str, job_id: str) -> dict[str, Any]:
    with reading() as connection:
        job = _find_job(connection, project, job_id)
    return {
        "Version": version,
        "Project": project,
        "ID": job_id,
        "Claimed": job.claimed,
        "ClaimedByWorker": job.worker,
        "ClaimedAtTime": whole_seconds(job.claimed_at),
    }


@blueprint.put("/<project>/jobs/<job_id>/claim")
@login_required
def put_claim(version: str, project: str, job_id: str) -> dict[str, Any]:
    worker = clean_text(json_object().get("Worker"), "Worker", 64)
    if not worker:
        refuse("Missing field: Worker")
    time = now_argument()
    now = utcnow().replace(microsecond=0)
    with writing() as connection:
        job = _find_job(connection, project, job_id, lock=True)
        claimed_at = time.replace(microsecond=0)
        claim = {"claimed": True, "status": "CLAIMED", "worker": worker, "claimed_at": claimed_at, "outcome": None}
        if not connection.execute(CLAIM, {"job": job.nr} | claim).rowcount:
            raise Conflict("The job is already claimed")
        _note_activity(connection, job.project_id, worker, now, claims=1)
        _count_outcome(connection, job, None, nr_claimed=1, last_job_claimed_at=now)
    return {
        "Version": version,
        "Project": project,
        "ID": job_id,
        "Call": "PUT",
        "Time": time.isoformat(),
        "ClaimedBy": worker,
    }


@blueprint.delete("/<project>/jobs/<job_id>/claim")
@login_required
def delete_claim(version: str, project: str, job_id: str) -> dict[str, Any]:
    with writing() as connection:
        job = _find_job(connection, project, job_id, lock=True)
        if job.claimed:
            _update_job(connection, job, claimed=False, worker=None, claimed_at=None, outcome=None)
            _count_outcome(connection, job, None, nr_claimed=-1)
    return {"Version": version, "Project": project, "ID": job_id, "Call": "DELETE"}


@blueprint.get("/<project>/jobs/<job_id>/status")
def get_status(version: str, project: str, job_id: str) -> dict[str, Any]:
    with reading() as connection:
        job = _find_job(connection, project, job_id)
    return {"Version": version, "Project": project, "ID": job_id, "Status": job.status}


@blueprint.put("/<project>/jobs/<job_id>/status")
@login_required
def put_status(version: str, project: str, job_id: str) -> dict[str, Any]:
    body = json_object()
    status = clean_text(body.get("Status"), "Status", 64)
    if status is None:
        refuse("Missing field: Status")
    seconds = _clean_seconds(body.get("ProcessingTime"))
    time, now = now_argument().replace(microsecond=0), utcnow().replace(microsecond=0)
    outcome = status if status in OUTCOMES else None
    with writing() as connection:
        job = _find_job(connection, project, job_id, lock=True)
        times = {TIMES[status]: time} if status in TIMES else {}
        _update_job(connection, job, status=status, processing_time=seconds, outcome=outcome, **times)
        _note_activity(connection, job.project_id, job.worker, now)
        # A report sent again replaces the former one.
        former = job.processing_time if job.outcome else 0
        if outcome or job.outcome:
            _count_outcome(connection, job, outcome, total_processing_time=seconds - former if outcome else 0)
    return {"Version": version, "Project": project, "ID": job_id, "Call": "PUT", "Status": status}


def _clean_seconds(value: Any) -> float:
    if value is None:
        return 0.0
    try:
        seconds = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        refuse("'ProcessingTime' must be a number of seconds, at least 0")
    return seconds


@blueprint.get("/<project>/jobs/<job_id>/output")
def get_output(version: str, project: str, job_id: str) -> dict[str, Any]:
    with reading() as connection:
        job = _find_job(connection, project, job_id)
        output = connection.scalar(select(jobs.c.output).where(jobs.c.nr == job.nr))
    return {"Version": version, "Project": project, "ID": job_id, "Output": output}


@blueprint.put("/<project>/jobs/<job_id>/output")
@login_required
def put_output(version: str, project: str, job_id: str) -> dict[str, Any]:
    body = json_object()
    if "Output" not in body:
        refuse("Missing field: Output")
    output = body["Output"]
    if isinstance(output, str):
        # PostgreSQL keeps no NUL, and a job that prints one should not lose the rest.
        output = output.replace("\0", "\N{REPLACEMENT CHARACTER}")
    output = clean_text(output, "Output")
    if output is not None and len(output.encode()) > MAX_OUTPUT:
        abort(413, f"Field 'Output' is longer than {MAX_OUTPUT} bytes")
    with writing() as connection:
        job = _find_job(connection, project, job_id, lock=True)
        _update_job(connection, job, output=output)
        _note_activity(connection, job.project_id, job.worker, utcnow().replace(microsecond=0))
    return {"Version": version, "Project": project, "ID": job_id, "Call": "PUT"}


@blueprint.get("/<project>/jobs")
def get_jobs(version: str, project: str) -> Response:
    query, echo = _listing()
    head = json.dumps({"Version": version, "Project": project} | echo)
    transaction = reading()
    jobs_url = link(project, "jobs")

    def answer() -> Iterator[str]:
        # As a stream, so that a million jobs need no memory.
        yield head[:-1] + ', "Jobs": ['
        separator = "\n"
        with transaction as connection:
            if row := find_project(connection, project):
                found = connection.execution_options(yield_per=1000).execute(query.where(jobs.c.project_id == row.id))
                for part in found.partitions():
                    yield separator + json.dumps([_describe(jobs_url, row) for row in part])[1:-1]
                    separator = ",\n"
        yield "]}\n"

    return Response(answer(), mimetype="application/json")


def _listing() -> tuple[Select[Any], dict[str, str | None]]:
    """The query for jobs that the URL's query asks for, and what that was; answers 400 if it asks for nonsense."""
    query = select(*LISTED)
    status = request.args.get("status", "").upper()
    if status and status not in STATUSES:
        refuse(f"'status' must be one of {', '.join(STATUSES).lower()}")
    start, end = time_argument("start"), time_argument("end")
    if start or end:
        if status not in ("CLAIMED", "FINISHED", "FAILED"):
            refuse("'start' and 'end' need 'status' claimed, finished or failed")
        query = in_period(query, jobs.c[TIMES[status]], start, end).order_by(jobs.c[TIMES[status]], jobs.c.nr)
    elif status:
        # Both values of the flag, so that the index on flag and status serves.
        query = query.where(jobs.c.claimed.in_([False, True]), jobs.c.status == status)
    if "limit" in request.args:
        limit = request.args["limit"]
        if not (limit.isascii() and limit.isdigit() and len(limit) < 10):
            refuse("'limit' must be a whole number, at least 0")
        query = query.limit(int(limit))
    for name in ("type", "worker"):
        if value := request.args.get(name):
            query = query.where(jobs.c[name] == value)
    echo = {
        "Status": status if "status" in request.args else None,
        "Start": whole_seconds(start),
        "End": whole_seconds(end),
        "Worker": request.args.get("worker"),
    }
    return query, echo


def in_period(query: Select[Any], time: Column[Any], start: datetime | None, end: datetime | None) -> Select[Any]:
    """The rows with a time from start (included) to end (excluded)."""
    query = query.where(time.is_not(None))
    if start:
        query = query.where(time >= start)
    return query.where(time < end) if end else query


def _describe(jobs_url: str, row: Row[Any]) -> dict[str, Any]:
    """Entry of the list for a row of LISTED."""
    # Unpacked, because a million rows take notice of how they are read.
    job_id, kind, status, claimed, worker, added, claimed_at, finished, failed, seconds, source, result = row
    return {
        "Id": job_id,
        "Type": kind,
        "Status": status,
        "IsClaimed": claimed,
        "Worker": worker,
        "Added": whole_seconds(added),
        "Claimed": whole_seconds(claimed_at),
        "Finished": whole_seconds(finished),
        "Failed": whole_seconds(failed),
        "ProcessingTime": seconds,
        "URLS": {
            "URL-Input": source,
            "URL-Output": f"{jobs_url}/{path_segment(job_id)}/output",
            "URL-Result": result,
        },
    }
