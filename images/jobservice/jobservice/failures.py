"""What failed jobs say, the most telling lines first."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from typing import Any

from flask import Blueprint, request
from sqlalchemy import select

from .database import reading
from .jobs import in_period
from .projects import find_project
from .schema import jobs
from .web import API, time_argument, whole_seconds

MAX_ANALYSED = 1000
# Of a job that prints more the middle is left out: why it failed is told before that, or at the end.
FIRST, LAST = 4096, 12288
# Jobs that print much of their own have groups of hundreds of lines that tell nothing: the last ones are looked at,
# which are nearest to the end, and the best groups shown.
MAX_LINES = 50
MAX_GROUPS = 200
# "2016-01-01T10:00:00.123456 - STDOUT: ", as the worker writes before each line (worker contract, section 6).
PREFIX = re.compile(r"^\S+ - (?:STDOUT|STDERR|EXECUTOR):")
URL_QUERY = re.compile(r"(\w+://[^\s?]*)\?.*")

blueprint = Blueprint("failures", __name__, url_prefix=API)


@blueprint.get("/<project>/failures")
def get_failures(version: str, project: str) -> dict[str, Any]:
    start, end = time_argument("start"), time_argument("end")
    columns = jobs.c.id, jobs.c.processing_time, jobs.c.worker, jobs.c.failed_at, jobs.c.output
    with reading() as connection:
        row = find_project(connection, project)
        query = select(*columns).where(jobs.c.project_id == (row and row.id), jobs.c.status == "FAILED")
        query = in_period(query, jobs.c.failed_at, start, end).order_by(jobs.c.failed_at, jobs.c.nr)
        failed = connection.execute(query.limit(MAX_ANALYSED)).all()
    return {
        "Version": version,
        "Project": project,
        "Start": request.args.get("start"),
        "End": request.args.get("end"),
        "Lines": rank_lines({job.id: _ends_of(job.output or "") for job in failed}),
        "Jobs": {
            job.id: {
                "Id": job.id,
                "ProcessingTime": job.processing_time,
                "Worker": job.worker,
                "Failed": whole_seconds(job.failed_at),
            }
            for job in failed
        },
    }


def _ends_of(output: str) -> str:
    """The first and the last whole lines of an output."""
    if len(output) <= FIRST + LAST:
        return output
    return output[:FIRST].rpartition("\n")[0] + "\n" + output[-LAST:].partition("\n")[2]


def rank_lines(outputs: dict[str, str]) -> list[dict[str, Any]]:
    """Groups of lines that the same jobs print, best score first.

    A line scores ln(entropy of its trigrams) x jobs / lines in its group (contract v4, section 7): what many jobs
    say is telling, what is said beside much else is not, and a line of dashes never is. Of a group of many lines the
    last MAX_LINES are scored, and the best MAX_GROUPS groups are given.
    """
    jobs_of: dict[str, dict[str, None]] = defaultdict(dict)
    for job, output in outputs.items():
        for line in output.splitlines():
            if text := _comparable(line):
                jobs_of[text][job] = None
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for line, said_by in jobs_of.items():
        groups[tuple(said_by)].append(line)
    ranked = []
    for members, lines in groups.items():
        weight = len(members) / len(lines)
        scored = sorted(((_telling(line) * weight, line) for line in lines[-MAX_LINES:]), key=lambda s: -s[0])
        (score, line), *others = scored
        common = [{"Line": other, "Score": other_score} for other_score, other in others]
        ranked.append({"Score": score, "Line": line, "CommonLines": common, "Jobs": list(members)})
    return sorted(ranked, key=lambda group: -group["Score"])[:MAX_GROUPS]


def _comparable(line: str) -> str:
    """The line without what differs from job to job."""
    text = " ".join(PREFIX.sub("", line, 1).split())
    return URL_QUERY.sub(r"\1", text) if "://" in text else text


def _telling(line: str) -> float:
    """ln of the line's trigram entropy in bits, 0 for a line that has hardly any."""
    trigrams = Counter(zip(line, line[1:], line[2:], strict=False))
    if not (total := trigrams.total()):
        return 0.0
    # Most trigrams come once and add nothing to the sum.
    entropy = math.log2(total) - sum(n * math.log2(n) for n in trigrams.values() if n > 1) / total
    return math.log(max(entropy, 1.0))
