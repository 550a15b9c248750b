"""What happened in a project by hour, day, month or year."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, request
from sqlalchemy import String, cast, distinct, func, select

from .database import reading
from .jobs import in_period
from .projects import find_project
from .schema import jobs
from .web import API, link, refuse, time_argument, whole_seconds

# How many characters of an ISO time name the period, what completes them to its begin, a step from there that always
# ends in the next period.
PERIODS = {
    "hourly": (13, ":00:00", timedelta(hours=1)),
    "daily": (10, " 00:00:00", timedelta(days=1)),
    "monthly": (7, "-01 00:00:00", timedelta(days=31)),
    "yearly": (4, "-01-01 00:00:00", timedelta(days=366)),
}
COUNTED = {"JobsClaimed": "claimed", "JobsFailed": "failed", "JobsFinished": "finished"}

blueprint = Blueprint("counts", __name__, url_prefix=API)


@blueprint.get("/<project>/jobs/count")
def get_count(version: str, project: str) -> dict[str, Any]:
    period = (request.args.get("period") or "daily").lower()
    if period not in PERIODS:
        refuse(f"'period' must be one of {', '.join(PERIODS)}")
    start, end = time_argument("start"), time_argument("end")
    return {
        "Version": version,
        "Project": project,
        "PeriodType": period.title(),
        "Start": whole_seconds(start),
        "End": whole_seconds(end),
        "Counts": [
            {"Period": f"{name}:00" if period == "hourly" else name}
            | dict.fromkeys(COUNTED, 0)
            | counts
            | {"URLS": _links(project, period, name, counts)}
            for name, counts in sorted(_count(project, PERIODS[period][0], start, end).items())
        ],
    }


def _count(project: str, length: int, start: datetime | None, end: datetime | None) -> dict[str, dict[str, int]]:
    """Period -> what was counted in it."""
    counts: dict[str, dict[str, int]] = {}
    with reading() as connection:
        row = find_project(connection, project)
        for key, status in COUNTED.items():
            time = jobs.c[f"{status}_at"]
            period = func.substr(cast(time, String), 1, length)
            query = select(period, func.count()).where(jobs.c.project_id == (row and row.id)).group_by(period)
            if status == "claimed":
                query = query.add_columns(func.count(distinct(jobs.c.worker)))
            for name, *numbers in connection.execute(in_period(query, time, start, end)):
                counts.setdefault(name, {}).update(zip((key, "ActiveWorkers"), numbers, strict=False))
    return counts


def _links(project: str, period: str, name: str, counts: dict[str, int]) -> dict[str, str]:
    """Links to what was counted, none for what was not."""
    length, rest, longest = PERIODS[period]
    start = datetime.fromisoformat(name + rest)
    end = datetime.fromisoformat(str(start + longest)[:length] + rest)
    span = {"start": start.isoformat(), "end": end.isoformat()}
    links = {
        f"URL-{key}": link(project, "jobs", status=status.upper(), **span)
        for key, status in COUNTED.items()
        if counts.get(key)
    }
    if "ActiveWorkers" in counts:
        links["URL-ActiveWorkers"] = link(project, "workers", **span)
    if period == "daily":
        links["URL-Zoom"] = link(project, "jobs", "count", period="HOURLY", **span)
    return links
