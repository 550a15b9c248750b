"""The workers of a project, with when they were last heard of."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flask import Blueprint
from sqlalchemy import select

from .database import reading
from .jobs import in_period
from .projects import find_project
from .schema import jobs, workers
from .web import API, link, now_argument, time_argument, whole_seconds

ACTIVE = timedelta(hours=1)

blueprint = Blueprint("workers", __name__, url_prefix=API)


@blueprint.get("/<project>/workers")
def get_workers(version: str, project: str) -> dict[str, Any]:
    """Those that ever claimed a job, or with a period those that hold a claim made in it."""
    now, start, end = now_argument(), time_argument("start"), time_argument("end")
    with reading() as connection:
        row = find_project(connection, project)
        query = select(workers).where(workers.c.project_id == (row and row.id)).order_by(workers.c.name)
        if start or end:
            claimed = select(jobs.c.worker).where(jobs.c.project_id == (row and row.id))
            query = query.where(workers.c.name.in_(in_period(claimed, jobs.c.claimed_at, start, end)))
        found = connection.execute(query).all()
    return {
        "Version": version,
        "Project": project,
        "Start": whole_seconds(start),
        "End": whole_seconds(end),
        "Workers": [
            {
                "Name": worker.name,
                "State": "Active" if now - worker.last_active_at < ACTIVE else "Inactive",
                "LastActive": whole_seconds(worker.last_active_at),
                "NrJobsClaimed": worker.nr_claims,
                "URLS": {"URL-Jobs": link(project, "jobs", worker=worker.name)},
            }
            for worker in found
        ],
    }
