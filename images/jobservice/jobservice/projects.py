"""Projects: settings, counters, priority."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, Response, abort, g, request
from sqlalchemy import Connection, Row, Select, bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from .auth import login_required
from .database import reading, writing
from .schema import jobs, projects, workers
from .web import API, clean_text, json_object, link, now_argument, parse_time, refuse, utcnow, whole_seconds

DEADLINES_END = datetime(2038, 1, 19, 3, 14, 7)
UNKNOWN_PROCESSING_TIME = 3600.0
# Made once, because making a statement takes longer than its execution.
PROJECT = select(projects).where(projects.c.project == bindparam("name"))
# Those who change a project come one after the other, and those who change jobs of it side by side, but for the moment
# of counting. Nobody else is there when it is deleted.
CHANGE = PROJECT.with_for_update(key_share=True)
SHARE = PROJECT.with_for_update(read=True, key_share=True)
DELETE = PROJECT.with_for_update()

blueprint = Blueprint("projects", __name__, url_prefix=API)


def find_project(connection: Connection, name: str, lock: Select[Any] = PROJECT) -> Row[Any] | None:
    """The project's row; every change below a project locks it first, with CHANGE, SHARE or DELETE.

    In SQLite the transaction has locked everything when it began.
    """
    return connection.execute(lock, {"name": name}).one_or_none()


def make_project(connection: Connection, name: str, /, **values: Any) -> Row[Any]:
    """The new project's row, locked; the existing one's if somebody else was faster."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    row = {"project": name, "name": name, "created_at": utcnow().replace(microsecond=0), "created_by": g.user.username}
    statement = insert(projects).values(row | values)
    statement = statement.on_conflict_do_update(index_elements=["project"], set_={"project": name} | values)
    return connection.execute(statement.returning(projects)).one()


def prio_score(project: Row[Any], now: datetime) -> float:
    """Weight of the project when work is handed out over all projects (contract v4, section 4)."""
    waiting = project.nr_added - project.nr_claimed
    if waiting <= 0:
        return 0.0
    if project.deadline is None:
        return 1.0
    ended = project.nr_finished + project.nr_failed
    work: float = waiting * ((ended and project.total_processing_time / ended) or UNKNOWN_PROCESSING_TIME)
    left: float = (project.deadline - now).total_seconds()
    return work / left if left > 0 else work


def _describe(project: Row[Any]) -> dict[str, Any]:
    return {
        "Id": project.project,
        "Name": project.name,
        "CreatedAt": whole_seconds(project.created_at),
        "CreatedBy": project.created_by,
        "Deadline": whole_seconds(project.deadline),
        "Environment": json.loads(project.environment),
        "LastJobAddedAt": whole_seconds(project.last_job_added_at),
        "LastJobClaimedAt": whole_seconds(project.last_job_claimed_at),
        "NrJobsAdded": project.nr_added,
        "NrJobsClaimed": project.nr_claimed,
        "NrJobsFinished": project.nr_finished,
        "NrJobsFailed": project.nr_failed,
        "TotalProcessingTime": project.total_processing_time,
        "PrioScore": None,
        "URLS": {
            "URL-Status": link(project.project),
            "URL-Processing-image": project.processing_image_url,
        },
    }


@blueprint.get("/projects")
def get_projects(version: str) -> dict[str, Any]:
    query = select(projects).order_by(projects.c.last_job_claimed_at.nulls_first(), projects.c.project)
    if request.args.get("only_active"):
        query = query.where(projects.c.nr_added > projects.c.nr_claimed)
    with reading() as connection:
        rows = connection.execute(query).all()
    now = utcnow()
    return {"Version": version, "Projects": [_describe(row) | {"PrioScore": prio_score(row, now)} for row in rows]}


@blueprint.get("/<project>")
def get_project(version: str, project: str) -> dict[str, Any]:
    now = now_argument()
    with reading() as connection:
        row = find_project(connection, project)
        if row is None:
            abort(404, f"There is no project {project}")
        states = _job_states(connection, row.id)
        eta = _eta(connection, row.id, states.get("Available", 0), now)
    answer = {"Version": version, "Project": project, "JobStates": states, "ETA": eta} | _describe(row)
    answer["URLS"] |= {
        "URL-DailyCount": link(project, "jobs", "count", period="daily"),
        "URL-Jobs": link(project, "jobs"),
        "URL-Workers": link(project, "workers"),
    }
    return answer


def _job_states(connection: Connection, project_id: int) -> dict[str, int]:
    # Grouped by the claim as well, because then the index has the groups in order.
    query = (
        select(jobs.c.status, func.count())
        .where(jobs.c.project_id == project_id)
        .group_by(jobs.c.project_id, jobs.c.claimed, jobs.c.status)
    )
    states: dict[str, int] = {}
    for status, number in connection.execute(query):
        states[status.title()] = states.get(status.title(), 0) + number
    return states


def _eta(connection: Connection, project_id: int, available: int, now: datetime) -> str | None:
    """Time until all jobs are handed out, at the rate of the last whole clock hour."""
    if not available:
        return "0:00:00"
    end = now.replace(minute=0, second=0, microsecond=0)
    claimed = connection.scalar(
        select(func.count()).where(
            jobs.c.project_id == project_id, jobs.c.claimed_at >= end - timedelta(hours=1), jobs.c.claimed_at < end
        )
    )
    return str(timedelta(seconds=3600 * available // claimed)) if claimed else None


@blueprint.put("/<project>")
@login_required
def put_project(version: str, project: str) -> Response | tuple[dict[str, Any], int]:
    values = _clean_settings(project, json_object())
    with writing() as connection:
        row = find_project(connection, project, CHANGE)
        if row is None:
            make_project(connection, project, **values)
            return {"Version": version, "ID": project}, 201
        if values:
            connection.execute(update(projects).where(projects.c.id == row.id).values(values))
    return Response(status=204)


def _clean_settings(project: str, body: dict[str, Any]) -> dict[str, Any]:
    """The columns for the fields that a client may set; answers 400 for others and for values out of bounds."""
    fields = ("name", "processing_image_url", "environment", "deadline")
    if unknown := sorted(body.keys() - set(fields)):
        refuse(f"These fields does not exist or are for internal use: {unknown}")
    values = dict(body)
    if "name" in values:
        values["name"] = clean_text(values["name"], "name", 128) or project
    if "processing_image_url" in values:
        values["processing_image_url"] = clean_text(values["processing_image_url"], "processing_image_url", 512)
    if "environment" in values:
        try:
            values["environment"] = json.dumps(values["environment"] or {}, allow_nan=False)
        except ValueError as error:
            refuse(f"'environment' cannot be stored: {error}")
    if values.get("deadline") is not None:
        values["deadline"] = parse_time(values["deadline"], "deadline")
        if values["deadline"] >= DEADLINES_END:
            refuse(f"'deadline' must be before {DEADLINES_END}")
    return values


@blueprint.delete("/<project>")
@login_required
def delete_project(version: str, project: str) -> dict[str, Any]:
    with writing() as connection:
        if row := find_project(connection, project, DELETE):
            for table in (jobs, workers):
                connection.execute(delete(table).where(table.c.project_id == row.id))
            connection.execute(delete(projects).where(projects.c.id == row.id))
    return {"Version": version, "Project": project}
