"""What of a project somebody should look at: a line for each fault in a picture of qsmr.status."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from . import failures
from .verdict import EXAMPLES
from .words import several

# So many jobs have failed and none has finished: worth a look before enough have ended to judge.
FIRST_FAILURES = 3
# The state of a host on which a run that is no check would have started another release.
TO_BE_STARTED = "to be started"


def attention(picture: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong, where, what to do: the worst first."""
    if picture["exit_code"]:
        yield picture["message"]
    yield from _of_jobs(picture)
    yield from _of_hosts(picture)
    yield from _of_claims(picture)
    states, counters = picture["states"], picture["counters"]
    drifted = [
        f"{name} {counters[name]} instead of {states[name]}"
        for name in ("finished", "failed")
        if counters[name] not in (None, states[name])
    ]
    if drifted:
        yield f"The service's counters have drifted ({', '.join(drifted)}); the numbers here are its jobs' own states"
    if picture["level2"]["error"]:
        yield f"The Odin API does not answer ({picture['level2']['error']}): workers can neither read nor deliver"


def _of_jobs(picture: Mapping[str, Any]) -> Iterator[str]:
    """Failures, and jobs that run too long."""
    yield from (f"{bad}; see Failures" for bad in picture["bad_releases"] if bad not in picture["message"])
    failed = picture["states"]["failed"]
    if failed >= FIRST_FAILURES and not picture["states"]["finished"] and picture["ending"] != "failures":
        yield f"All {failed} jobs that have ended so far have failed; see Failures"
    for share in picture["failed_by_host"]:
        if share["bad"]:
            yield (
                f"{share['host']} fails more than the others: {share['failed']} of the {share['ended']} jobs"
                f" that ended there lately (Fisher's exact test: {failures.chance(share['p'])}); look at what they say"
            )
    if picture["overdue"]:
        jobs = picture["overdue"]["jobs"]
        runs = f"{several(len(jobs), 'job')} {'runs' if len(jobs) == 1 else 'run'}"
        which = ", ".join(f"{job['id']} by {job['worker']} since {job['since']} UTC" for job in jobs[:EXAMPLES])
        more = ", ..." if len(jobs) > EXAMPLES else ""
        yield (
            f"{runs} far longer than the project's others, of which 95 % took {picture['overdue']['usual']:g} s"
            f" at most: {which}{more}; if the code hangs, restart these workers; qsmr_job_timeout ends such jobs"
        )


def _of_hosts(picture: Mapping[str, Any]) -> Iterator[str]:
    """Hosts that are down or run something else than they should."""
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
            if worker["condition"] != "healthy" and host["state"] != TO_BE_STARTED:
                says = f" ({worker['says']})" if worker["says"] else ""
                yield f"{host['host']}: worker {worker['container']} is {worker['condition']}{says}"
    releases: dict[str, list[str]] = {}
    for host in hosts:
        for release in host["running"]:
            releases.setdefault(release, []).append(host["host"])
    if len(releases) > 1:
        which = "; ".join(f"{release} on {', '.join(names)}" for release, names in sorted(releases.items()))
        yield f"The fleet is mixed: {which}. Run workers.yml to bring all to one snapshot"


def _of_claims(picture: Mapping[str, Any]) -> Iterator[str]:
    """Jobs that nobody works on."""
    hosts = picture["hosts"]
    if picture["orphans"]:
        holders = Counter(job["worker"] or "nobody" for job in picture["orphans"])
        which = ", ".join(f"{name} ({number})" for name, number in holders.most_common(EXAMPLES))
        number = len(picture["orphans"])
        claimed = f"{several(number, 'job')} {'is' if number == 1 else 'are'} claimed"
        yield f"{claimed} by workers that no host here has: {which}; free them with retry.yml and qsmr_dead_workers"
    at_work = any(host["healthy"] or host["state"] in ("not asked", TO_BE_STARTED) for host in hosts)
    if picture["remaining"] and hosts and not at_work:
        number = picture["remaining"]
        yield f"{several(number, 'job')} {'remains' if number == 1 else 'remain'} and no worker is healthy"
