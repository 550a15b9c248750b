"""A project's jobs by state, as the job service tells them, and how fast they end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from .jobapi import JobApi
from .verdict import ENOUGH

STATES = ("available", "claimed", "started", "finished", "failed")
DONE = ("finished", "failed")
# The rate is that of the shortest time, in minutes, in which enough jobs ended to tell one.
WINDOWS = (2, 15, 120, 1440)
# Times of the service are whole seconds: over less than this many of them nothing is known of a rate.
SHORTEST = 10.0


@dataclass
class Jobs:
    """A project's jobs by state, and who holds those at work. Every other state that a client made up is kept, too."""

    states: Counter[str] = field(default_factory=Counter)
    held: list[dict[str, Any]] = field(default_factory=list)

    @property
    def total(self) -> int:
        return self.states.total()

    @property
    def remaining(self) -> int:
        return self.total - sum(self.states[state] for state in DONE)

    def hold(self, job: Mapping[str, Any]) -> None:
        self.held.append(
            {
                "id": str(job.get("Id")),
                "worker": job.get("Worker"),
                "state": state_of(job),
                "since": job.get("Claimed"),
            }
        )


@dataclass(frozen=True)
class Rate:
    """``jobs`` came to an end, finished or failed, in ``seconds``."""

    jobs: int
    seconds: float

    @property
    def per_minute(self) -> float:
        return 60 * self.jobs / self.seconds

    @property
    def record(self) -> dict[str, float]:
        return {"jobs": self.jobs, "seconds": round(self.seconds), "per_minute": round(self.per_minute, 4)}


def canonical(status: object) -> str:
    """The service counts by whatever text a client put, and shows it in title case (REST contract v4, section 4)."""
    return str(status).strip().lower() if status is not None else "unknown"


def state_of(job: Mapping[str, Any]) -> str:
    """The state of a job of the job list. Giving a claim back leaves the status text, but the job is free again."""
    return "available" if job.get("IsClaimed") is False else canonical(job.get("Status"))


def read_jobs(api: JobApi, project: str, record: Mapping[str, Any] | None) -> Jobs:
    """Count the jobs by ``JobStates`` where they agree with the counter of claims, else by the job list.

    They disagree when claims were given back. ``record`` is the service's answer for the project; None if it had none
    to give, which one job with a null status is enough for.
    """
    found = (record or {}).get("JobStates")
    jobs = Jobs()
    if isinstance(found, Mapping):
        for status, number in found.items():
            jobs.states[canonical(status)] += number
        claims = (record or {}).get("NrJobsClaimed")
        if claims in (None, jobs.total - jobs.states["available"]):
            for state in ("claimed", "started"):
                if jobs.states[state]:
                    for job in api.each_job(project, status=state):
                        jobs.hold(job)
            return jobs
        jobs.states.clear()
    for job in api.each_job(project):
        state = state_of(job)
        jobs.states[state] += 1
        if state not in ("available", *DONE):
            jobs.hold(job)
    return jobs


def read_ended(api: JobApi, project: str, now: datetime) -> tuple[list[dict[str, Any]], datetime]:
    """The jobs that ended lately, each with its ``Ended`` time, and the time since when."""
    ended: list[dict[str, Any]] = []
    since = now
    for minutes in WINDOWS:
        since = now - timedelta(minutes=minutes)
        ended = [
            {**job, "Ended": time}
            for state in DONE
            for job in api.each_job(project, status=state, start=since.strftime("%Y-%m-%dT%H:%M:%S"))
            if (time := parse_time(job.get(state.title()))) and time >= since.replace(microsecond=0)
        ]
        if len(ended) >= ENOUGH:
            break
    return ended, since


def rate_of(ended: Iterable[Mapping[str, Any]], since: datetime, until: datetime) -> Rate | None:
    """How fast jobs ended: from ``since``, or the first claim among them if that is later, until ``until``."""
    ended = list(ended)
    if not ended:
        return None
    claims = [time for job in ended if (time := parse_time(job.get("Claimed")))]
    begin = max(since, min(claims, default=since))
    return Rate(len(ended), max((until - begin).total_seconds(), SHORTEST))


def parse_time(text: object) -> datetime | None:
    """A timestamp of the service: naive UTC in ISO 8601 (REST contract v4, section 1)."""
    try:
        return datetime.fromisoformat(str(text)).replace(tzinfo=UTC)
    except ValueError:
        return None
