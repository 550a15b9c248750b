"""What failed jobs say, the most telling lines first."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from flask import Blueprint
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
PREFIX = re.compile(r"^.*? - (?:STDOUT|STDERR|EXECUTOR):")
SCHEME = re.compile(r"https?://")

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
        "Start": whole_seconds(start),
        "End": whole_seconds(end),
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
    """Groups of lines that the same jobs print, best score first; each with all of its lines, the best one first.

    A line scores ln(entropy of its trigrams) x jobs / number of lines in all, where a trigram's probability is the
    share of jobs that print it (contract v4, section 7): what every job says tells nothing. Of a group of many lines
    the last MAX_LINES are looked at, and the best MAX_GROUPS groups are given.
    """
    jobs_of: dict[str, dict[str, None]] = defaultdict(dict)
    text_of: dict[str, str] = {}
    for job, output in outputs.items():
        for line in output.split("\n"):
            if text := " ".join(PREFIX.sub("", line, count=1).split()):
                key = _comparable(text)
                jobs_of[key][job] = None
                text_of.setdefault(key, text)
    groups: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for key, said_by in jobs_of.items():
        groups[tuple(said_by)].append(key)
    looked_at = {members: keys[-MAX_LINES:] for members, keys in groups.items()}
    information = _information(looked_at, list(outputs))
    ranked = []
    for members, keys in looked_at.items():
        weight = len(members) / len(jobs_of)
        lines = [{"Line": text_of[key], "Score": _telling(key, information) * weight} for key in keys]
        lines.sort(key=_score, reverse=True)
        ranked.append({**lines[0], "CommonLines": lines, "Jobs": list(members)})
    return sorted(ranked, key=_score, reverse=True)[:MAX_GROUPS]


def _comparable(text: str) -> str:
    """The line without what differs from job to job: what comes after the last URL's question mark."""
    end = text.rfind("?")
    for scheme in reversed(list(SCHEME.finditer(text, 0, max(end, 0)))):
        if (start := scheme.end()) < end and text[start] != "?":
            return text[: text.index("?", start) + 1]
    return text


def _trigrams(text: str) -> Iterator[str]:
    return (text[start : start + 3] for start in range(len(text) - 2))


def _information(groups: dict[tuple[str, ...], list[str]], jobs: list[str]) -> dict[str, float]:
    """Trigram -> -p log2 p for the share p of the jobs that print it. Jobs are bits: a group's lines are read once."""
    bits = {job: 1 << number for number, job in enumerate(jobs)}
    printed_by: dict[str, int] = defaultdict(int)
    for members, keys in groups.items():
        these = sum(bits[job] for job in members)
        for trigram in {trigram for key in keys for trigram in _trigrams(key)}:
            printed_by[trigram] |= these
    shares = {trigram: these.bit_count() / len(jobs) for trigram, these in printed_by.items()}
    return {trigram: -share * math.log2(share) for trigram, share in shares.items()}


def _telling(text: str, information: dict[str, float]) -> float:
    """ln of the line's entropy in bits, 0 for a line that every job prints."""
    return math.log(sum(map(information.__getitem__, _trigrams(text))) or 1)


def _score(found: dict[str, Any]) -> float:
    score: float = found["Score"]
    return score
