"""Where a project stands: its jobs at the job service, its workers on the hosts, its level 2 at the Odin API."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from . import failures
from .attention import attention
from .jobapi import JobApi, JobApiError, first_line
from .jobstates import DONE, STATES, Jobs, Rate, parse_time, rate_of, read_ended, read_jobs, state_of
from .libraries import libraries
from .names import homes_of
from .verdict import (
    EXAMPLES,
    Ending,
    Limits,
    Tally,
    bad_releases,
    clock,
    explain_stall,
    stalled,
    too_many_failed,
)  # fmt: skip
from .websession import web_session

with libraries():
    import requests

MOST_FAILURES = 5
# A job runs far longer than others if it takes so many times what 95 % of them took, of at least so many, and so long.
FAR_LONGER, OTHERS, LONG = 5, 5, 60.0
WELL = Limits()
NEVER = datetime.min.replace(tzinfo=UTC)


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
                if self.freq_mode and answer.status_code == 200 and found[listed] is None:
                    seen = "status 200 without a list of scans: check ODIN_API_ROOT"
                    return {**found, "reachable": False, "error": seen}
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
                "started": worker.get("started") or None,
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
    """Every worker that a host has, holds a job or ended one lately.

    ``host`` is also that of a worker which it had and has replaced, by the worker's name; None if it is no host's.
    """
    names = [host["host"] for host in hosts]
    home = {worker["name"]: host["host"] for host in hosts for worker in host["workers"]}
    holds = Counter(job["worker"] for job in jobs.held)
    did = Counter(job.get("Worker") for job in ended)

    def host_of(worker: str) -> str | None:
        return home.get(worker) or next(iter(homes_of(worker, names)), None)

    return [
        {"name": name, "host": host_of(name), "holds": holds[name], "ended": did[name]}
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


@dataclass(frozen=True)
class Usual:
    """How long the jobs take that ended: 95 % of them so many ``seconds`` at most; None if too few tell."""

    seconds: float | None = None

    @classmethod
    def read(cls, api: JobApi, project: str, jobs: Jobs, ended: Iterable[Mapping[str, Any]]) -> Usual:
        """From the jobs that ``ended`` lately; where these are few, from all that finished."""
        ended = list(ended)
        if len(ended) < OTHERS and jobs.states["finished"]:
            finished = api.each_job(project, status="finished")
            ended = [{**job, "Ended": time} for job in finished if (time := parse_time(job.get("Finished")))]
        times = ((parse_time(job.get("Claimed")), job["Ended"]) for job in ended)
        seconds = sorted((end - begin).total_seconds() for begin, end in times if begin)
        return cls(seconds[math.ceil(0.95 * len(seconds)) - 1]) if len(seconds) >= OTHERS else cls()

    def limit(self, least: float) -> timedelta:
        """A job that takes longer takes far longer than the others."""
        return timedelta(seconds=max(FAR_LONGER * (self.seconds or 0.0), least))

    def overdue(self, jobs: Jobs, now: datetime) -> dict[str, Any]:
        """The jobs at work that run far longer than the others; empty if none does, or nothing tells."""
        if self.seconds is None:
            return {}
        late = [job for job in jobs.held if (since := parse_time(job["since"])) and now - since > self.limit(LONG)]
        return {"jobs": late, "usual": round(self.seconds, 1)} if late else {}


def last_movement(
    record: Mapping[str, Any], jobs: Jobs, ended: Iterable[Mapping[str, Any]], hosts: Iterable[Mapping[str, Any]]
) -> datetime:
    """When a job was last added, claimed or ended, or a worker started; NEVER if nothing tells."""
    texts = [record.get("LastJobAddedAt"), record.get("LastJobClaimedAt"), *(job["since"] for job in jobs.held)]
    # One that is not well may be started again and again.
    texts += [worker["started"] for host in hosts for worker in host["workers"] if worker["condition"] == "healthy"]
    return max([*filter(None, map(parse_time, texts)), *(job["Ended"] for job in ended)], default=NEVER)


def judge(
    api: JobApi,
    project: str,
    jobs: Jobs,
    moved: datetime,
    limit: timedelta,
    fault: str,
    hosts: list[dict[str, Any]],
    now: datetime,
) -> Ending:
    """How a project with jobs stands: by the ``fault`` of what ended, or since when nothing ``moved``."""
    tally = Tally.of(jobs.states)
    if fault:
        return Ending("failures", tally, f"{fault}: {tally}. What they say stands under Failures.")
    if not jobs.remaining:
        return Ending("done", tally, f"All jobs have ended: {tally}.")
    if NEVER < moved < now - limit and jobs.states["available"]:
        # Jobs that were made available again moved, too; that is only asked for here, as they may be many.
        free = (parse_time(job.get("Added")) for job in api.each_job(project, status="available"))
        moved = max(moved, max(filter(None, free), default=NEVER))
    if NEVER < moved < now - limit:
        return explain_stall(stalled(tally, f"since {clock(moved)}", jobs.held), hosts)
    return Ending("going", tally, f"{tally}.")


def take_picture(
    api: JobApi,
    project: str,
    level2: Level2,
    hosts: list[dict[str, Any]],
    now: datetime,
    limits: Limits = WELL,
) -> dict[str, Any]:
    """Everything that the screen shows, as library/qsmr_status.py documents it. ``hosts`` are rows of read_host.

    Raises JobApiError if the job service does not answer. An unknown project is no error, and not asked about any
    further: the service makes a table for any name that is asked for (REST contract v4, section 1).
    """
    try:
        found = api.project(project)
    except JobApiError as error:
        if error.status is None or error.status < 500:
            raise
        found = {}
    jobs = read_jobs(api, project, found) if found is not None else Jobs()
    ended, since = read_ended(api, project, now) if jobs.total > jobs.remaining else ([], now)
    record, exists = found or {}, found is not None
    homes = {worker["name"]: host["host"] for host in hosts for worker in host["workers"]}
    failed = newest_failed(api.each_job(project, status="failed")) if jobs.states["failed"] else []
    bad = read_bad_releases(api, project, failed, hosts)
    usual = Usual.read(api, project, jobs, ended) if jobs.held else Usual()
    if not exists:
        ending = Ending("no project", Tally(0, 0, 0, 0), f"The job service has no project {project} yet: run jobs.yml.")
    elif not jobs.total:
        ending = Ending("no jobs", Tally(0, 0, 0, 0), f"Project {project} has no jobs: run jobs.yml to add some.")
    else:
        fault = too_many_failed(Tally.of(jobs.states), limits.max_failed_share) or next(iter(bad), "")
        moved, limit = last_movement(record, jobs, ended, hosts), usual.limit(limits.stall_timeout)
        ending = judge(api, project, jobs, moved, limit, fault, hosts, now)
    rate = rate_of(ended, since, now if jobs.remaining else max((job["Ended"] for job in ended), default=now))
    picture: dict[str, Any] = {
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "project": project,
        "exists": exists,
        "service": api.root,
        **ending.record,
        "states": {state: jobs.states[state] for state in dict.fromkeys([*STATES, *sorted(jobs.states)])},
        "total": jobs.total,
        "remaining": jobs.remaining,
        "counters": {name: record.get(f"NrJobs{name.title()}") for name in ("added", "claimed", "finished", "failed")},
        "deadline": record.get("Deadline"),
        "rate": rate and rate.record,
        "eta_seconds": eta(jobs, rate),
        "eta_service": record.get("ETA"),
        "workers": read_workers(jobs, ended, hosts),
        "orphans": orphans(jobs, hosts),
        "overdue": usual.overdue(jobs, now),
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
        "bad_releases": bad,
        "level2": level2.read(),
        "urls": urls_of(f"{api.root}/v4/{project}", level2),
    }
    picture["attention"] = list(attention(picture))
    return picture


def urls_of(project: str, level2: Level2) -> dict[str, str]:
    """Where to look, from the URL of the project."""
    return {
        "status": project,
        "jobs": f"{project}/jobs",
        "failures": f"{project}/failures",
        "level_2": f"{level2.url}/<scanid>",
    }


def read_bad_releases(
    api: JobApi, project: str, failed: Iterable[Mapping[str, Any]], hosts: Iterable[Mapping[str, Any]]
) -> list[str]:
    """The releases that fail more than what ran before, a sentence each.

    All jobs that ended are only asked for if some of those that ``failed`` lately did so in a release of now.
    """
    releases = {w["name"]: w["release"] for host in hosts for w in host["workers"] if w["release"]}
    if not any(job.get("Worker") in releases for job in failed):
        return []
    return bad_releases(
        (
            {"Worker": job.get("Worker"), "failed": state == "failed"}
            for state in DONE
            for job in api.each_job(project, status=state)
            if state_of(job) == state
        ),
        releases,
    )


def eta(jobs: Jobs, rate: Rate | None) -> int | None:
    """Seconds until every job has ended, at this rate; None if nothing tells."""
    if not jobs.remaining:
        return 0
    return round(60 * jobs.remaining / rate.per_minute) if rate else None
