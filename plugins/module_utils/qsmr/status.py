"""Where a project stands: its jobs at the job service, its workers on the hosts, its level 2 at the Odin API."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from . import failures
from .jobapi import JobApi, JobApiError, first_line
from .libraries import libraries
from .websession import web_session

with libraries():
    import requests

STATES = ("available", "claimed", "started", "finished", "failed")
DONE = ("finished", "failed")
# The rate is that of the shortest time, in minutes, in which enough jobs ended to tell one.
WINDOWS = (2, 15, 120, 1440)
ENOUGH = 20
MOST_FAILURES = 5
EXAMPLES = 3


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
    return Rate(len(ended), max((until - begin).total_seconds(), 1.0))


def parse_time(text: object) -> datetime | None:
    """A timestamp of the service: naive UTC in ISO 8601 (REST contract v4, section 1)."""
    try:
        return datetime.fromisoformat(str(text)).replace(tzinfo=UTC)
    except ValueError:
        return None


def newest_failed(jobs: Iterable[dict[str, Any]], number: int = failures.SAMPLE) -> list[dict[str, Any]]:
    """Those of ``jobs`` that failed last, by time; one whose claim was given back is free again and no failure."""

    def time(job: Mapping[str, Any]) -> str:
        return job.get("Failed") or ""

    return sorted(heapq.nlargest(number, (job for job in jobs if state_of(job) == "failed"), key=time), key=time)


def read_failures(
    api: JobApi, project: str, failed: Iterable[Mapping[str, Any]], homes: Mapping[str, str]
) -> list[failures.Cause]:
    """Why these jobs failed, by their output; ``homes`` has the host of each worker."""
    hosts = {str(job["Id"]): failures.host_of(job.get("Worker"), homes) for job in failed}
    return failures.cluster((job, hosts[job], output) for job, output in failures.read_outputs(api, project, hosts))


def show_cause(cause: failures.Cause, root: str, project: str) -> dict[str, Any]:
    """A cause as the picture has it."""
    return {
        "line": cause.example,
        "template": cause.template,
        "count": cause.count,
        "jobs": cause.jobs[:EXAMPLES],
        "hosts": dict(cause.hosts.most_common()),
        "output": f"{root}/v4/{project}/jobs/{cause.jobs[0]}/output",
    }


def shares_of(ended: Iterable[Mapping[str, Any]], homes: Mapping[str, str]) -> list[failures.HostShare]:
    """How many of these jobs, which ended, failed on each host."""
    all_ended: Counter[str] = Counter()
    all_failed: Counter[str] = Counter()
    for job in ended:
        host = failures.host_of(job.get("Worker"), homes)
        all_ended[host] += 1
        all_failed[host] += state_of(job) == "failed"
    return failures.host_shares(all_ended, all_failed)


@dataclass(frozen=True)
class Level2:
    """Where the Odin API keeps a project's level 2. ``version`` is v4 or v5; ``freq_mode`` may be empty if unknown."""

    root: str
    version: str
    project: str
    freq_mode: str

    @property
    def url(self) -> str:
        folder = "level2" if self.version == "v4" else "level2/development"
        return f"{self.root}/{self.version}/{folder}/{self.project}/{self.freq_mode or '<freqmode>'}"

    def read(self, timeout: float = 10.0) -> dict[str, Any]:
        """How many ``scans`` have level 2 and how many could not be retrieved (``failed``): the scan lists' ``Count``.

        ``error`` is why the Odin API gives no answer. Numbers are None if it has no such list, as its newest era, or
        none yet for this project. ``timeout`` is in seconds.
        """
        found: dict[str, Any] = {"reachable": True, "scans": None, "failed": None, "error": None}
        with web_session(self.root) as session:
            for listed in ("scans", "failed"):
                try:
                    answer = session.get(f"{self.url}/{listed}/", params={"limit": 1}, timeout=timeout)
                except requests.RequestException as error:
                    return {**found, "reachable": False, "error": type(error).__name__}
                if answer.status_code >= 500:
                    return {**found, "reachable": False, "error": f"status {answer.status_code}"}
                found[listed] = _count(answer) if self.freq_mode else None
        return found


def _count(answer: requests.Response) -> int | None:
    """``Count`` of a scan list: v4 has it below ``Info``, v5 at the top (Odin API contract, section 4)."""
    try:
        body = answer.json()
        return int(body.get("Info", body)["Count"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read_host(host: str, probe: Mapping[str, Any] | None) -> dict[str, Any]:
    """A host's row, from what qsmr_worker_info registered there; empty if the host was not asked.

    A probe that failed is known by what it lacks: that it failed is what the task ignores.
    """
    found = probe or {"skipped": True}
    row: dict[str, Any] = {
        "host": host,
        "state": "answers",
        "error": None,
        "release": found.get("release") or None,
        "running": sorted({worker["release"] for worker in found.get("containers", []) if worker.get("release")}),
        "image": next((worker["image"] for worker in found.get("containers", [])), None),
        "workers": [
            {
                "name": worker["worker"],
                "container": worker["name"],
                "condition": condition(worker),
                "release": worker.get("release") or None,
                # A healthy worker tells the time of its last contact, which would make every picture another one.
                "says": condition(worker) != "healthy" and first_line(worker.get("health_output") or "") or None,
            }
            for worker in found.get("containers", [])
        ],
    }
    row["healthy"] = sum(worker["condition"] == "healthy" for worker in row["workers"])
    if found.get("skipped"):
        row["state"] = "not asked"
    elif "containers" not in found:
        row["state"] = "unreachable" if found.get("unreachable") else "fails"
        reason = str(found.get("msg") or found.get("module_stderr") or "no reason given")
        row["error"] = first_line(reason.removeprefix("Task failed: "))
    return row


def condition(container: Mapping[str, Any]) -> str:
    """A worker's health where Docker knows it, else the state of its container."""
    state, health = str(container["state"]), str(container.get("health") or "none")
    return health if state == "running" and health != "none" else state


def read_workers(
    jobs: Jobs, ended: Iterable[Mapping[str, Any]], hosts: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Every worker that a host has, holds a job or ended one lately; ``host`` is None if no host here has it."""
    home = {worker["name"]: host["host"] for host in hosts for worker in host["workers"]}
    holds = Counter(job["worker"] for job in jobs.held)
    did = Counter(job.get("Worker") for job in ended)
    return [
        {"name": name, "host": home.get(name), "holds": holds[name], "ended": did[name]}
        for name in sorted({*home, *holds, *did} - {None})
    ]


def orphans(jobs: Jobs, hosts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The jobs that are claimed by nobody, or by no worker that the hosts have.

    While a host gives no answer nobody knows which workers it has, so only claims by nobody are sure.
    """
    gone = ("created", "exited", "dead")
    alive = {worker["name"] for host in hosts for worker in host["workers"] if worker["condition"] not in gone}
    sure = bool(hosts) and all(host["state"] == "answers" for host in hosts)
    return [job for job in jobs.held if not job["worker"] or (sure and job["worker"] not in alive)]


def take_picture(
    api: JobApi, project: str, level2: Level2, hosts: list[dict[str, Any]], now: datetime
) -> dict[str, Any]:
    """Everything that the screen shows, as library/qsmr_status.py documents it. ``hosts`` are rows of read_host.

    Raises JobApiError if the job service does not answer. An unknown project is no error, and not asked about any
    further: the service makes a table for any name that is asked for (REST contract v4, section 1).
    """
    try:
        record = api.project(project)
    except JobApiError as error:
        if error.status is None or error.status < 500:
            raise
        record = {}
    jobs = read_jobs(api, project, record) if record is not None else Jobs()
    ended, since = read_ended(api, project, now) if jobs.total > jobs.remaining else ([], now)
    until = now if jobs.remaining else max((job["Ended"] for job in ended), default=now)
    rate = rate_of(ended, since, until)
    record, exists = record or {}, record is not None
    homes = {worker["name"]: host["host"] for host in hosts for worker in host["workers"]}
    failed = newest_failed(api.each_job(project, status="failed")) if jobs.states["failed"] else []
    picture: dict[str, Any] = {
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "project": project,
        "exists": exists,
        "service": api.root,
        "states": {state: jobs.states[state] for state in dict.fromkeys([*STATES, *sorted(jobs.states)])},
        "total": jobs.total,
        "remaining": jobs.remaining,
        "counters": {name: record.get(f"NrJobs{name.title()}") for name in ("added", "claimed", "finished", "failed")},
        "deadline": record.get("Deadline"),
        "rate": {"jobs": rate.jobs, "seconds": round(rate.seconds), "per_minute": round(rate.per_minute, 4)}
        if rate
        else None,
        "eta_seconds": eta(jobs, rate),
        "eta_service": record.get("ETA"),
        "workers": read_workers(jobs, ended, hosts),
        "orphans": orphans(jobs, hosts),
        "hosts": hosts,
        "failures": [
            show_cause(cause, api.root, project) for cause in read_failures(api, project, failed, homes)[:MOST_FAILURES]
        ],
        "failures_read": len(failed),
        "failed_by_host": [
            {"host": share.host, "ended": share.ended, "failed": share.failed, "p": share.p, "bad": share.stands_out}
            for share in shares_of(ended, homes)
            if share.failed
        ],
        "level2": level2.read(),
        "urls": {
            "status": f"{api.root}/v4/{project}",
            "jobs": f"{api.root}/v4/{project}/jobs",
            "failures": f"{api.root}/v4/{project}/failures",
            "level_2": f"{level2.url}/<scanid>",
        },
    }
    picture["attention"] = list(attention(picture))
    return picture


def eta(jobs: Jobs, rate: Rate | None) -> int | None:
    """Seconds until every job has ended, at this rate; None if nothing tells."""
    if not jobs.remaining:
        return 0
    return round(60 * jobs.remaining / rate.per_minute) if rate else None


def attention(picture: Mapping[str, Any]) -> Iterator[str]:
    """What somebody should look at, a line each: what is wrong, where, what to do."""
    hosts = picture["hosts"]
    for host in hosts:
        if host["error"]:
            verb = "is unreachable" if host["state"] == "unreachable" else "cannot tell its workers"
            yield f"{host['host']} {verb}: {host['error']}"
        elif host["state"] == "answers" and not host["release"]:
            yield f"{host['host']} has no release of {picture['project']}: run workers.yml"
        elif host["state"] == "answers" and not host["workers"]:
            yield f"{host['host']} runs no worker: run workers.yml"
        elif host["running"] not in ([], [host["release"]]):
            running = " and ".join(host["running"])
            yield f"{host['host']} should run {host['release']} and runs {running}: run workers.yml"
        for worker in host["workers"]:
            if worker["condition"] != "healthy":
                says = f" ({worker['says']})" if worker["says"] else ""
                yield f"{host['host']}: worker {worker['container']} is {worker['condition']}{says}"

    releases: dict[str, list[str]] = {}
    for host in hosts:
        for release in host["running"]:
            releases.setdefault(release, []).append(host["host"])
    if len(releases) > 1:
        which = "; ".join(f"{release} on {', '.join(names)}" for release, names in sorted(releases.items()))
        yield f"The fleet is mixed: {which}. Run workers.yml to bring all to one snapshot"

    if picture["orphans"]:
        holders = Counter(job["worker"] or "nobody" for job in picture["orphans"])
        which = ", ".join(f"{name} ({number})" for name, number in holders.most_common(EXAMPLES))
        yield f"{len(picture['orphans'])} jobs are claimed by workers that no host here has: {which}"
    if picture["remaining"] and hosts and not any(host["healthy"] or host["state"] == "not asked" for host in hosts):
        yield f"{picture['remaining']} jobs remain and no worker is healthy"

    states, counters = picture["states"], picture["counters"]
    drifted = [
        f"{name} {counters[name]} instead of {states[name]}"
        for name in DONE
        if counters[name] not in (None, states[name])
    ]
    if drifted:
        yield f"The service's counters have drifted ({', '.join(drifted)}); the numbers here are its jobs' own states"
    for share in picture["failed_by_host"]:
        if share["bad"]:
            yield (
                f"{share['host']} fails more than the others: {share['failed']} of the {share['ended']} jobs"
                f" that ended there lately (Fisher's exact test: {failures.chance(share['p'])}); look at what they say"
            )
    if picture["level2"]["error"]:
        yield f"The Odin API does not answer ({picture['level2']['error']}): workers can neither read nor deliver"
