"""What must be true of a fleet when all faults are gone and everything was run once more."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fault_lab import audit_flaws


@dataclass
class Facts:
    """What was found; jobs are named as the service names them, ``<frequency mode>:<scan id>``."""

    wanted: Sequence[str]
    """The scans of all lists."""
    jobs: Sequence[Mapping[str, Any]]
    record: Mapping[str, Any]
    """All jobs and the project's record, as the service shows them."""
    ledger: Mapping[str, str]
    level2: set[str]
    """The jobs that level 2 is stored for."""
    release: str
    current: Mapping[str, str]
    running: Mapping[str, Sequence[str]]
    """The release wanted; the one each host is on; release and condition of each of its workers."""
    workers: set[str]
    """The names of all workers that run."""
    audit: Sequence[Mapping[str, Any]]
    screens: Mapping[str, str] = field(default_factory=dict)
    leaks: Sequence[str] = ()
    debris: Sequence[str] = ()
    """Where a secret was found, and what was left behind."""


def violations(facts: Facts) -> list[str]:
    """A line for each kind of thing that is not as it must be."""
    return [f"{what}: {_some(found)}" for what, found in _looks(facts) if found]


def _looks(facts: Facts) -> Iterator[tuple[str, list[str]]]:
    times = Counter(str(job["Id"]) for job in facts.jobs)
    wanted = set(facts.wanted)
    yield "never added", sorted(wanted - times.keys())
    yield "added, but in no list", sorted(times.keys() - wanted)
    yield "added more than once", [job for job, count in times.items() if count > 1]
    yield "counted wrongly", _counters(facts.record, len(wanted))
    yield "not processed", [f"{job['Id']} is {job['Status']}" for job in facts.jobs if _status(job) != "FINISHED"]
    yield "held by nobody", [f"{job['Id']} by {job['Worker']}" for job in facts.jobs if _is_lost(job, facts.workers)]
    yield "without level 2", sorted(wanted - facts.level2)
    yield "the ledger differs", _differences(facts.ledger, times)
    yield "on another release", [f"{host} on {id_}" for host, id_ in facts.current.items() if id_ != facts.release]
    well = [f"{facts.release} running healthy"]
    yield "workers", [f"{host} has {list(found)}" for host, found in facts.running.items() if list(found) != well]
    yield "the audit is wrong", audit_flaws(facts.audit, lambda host: facts.current.get(host, ""))
    yield "traceback", [name for name, screen in facts.screens.items() if "Traceback (most recent call" in screen]
    yield "secret", list(facts.leaks)
    yield "left behind", list(facts.debris)


def _counters(record: Mapping[str, Any], wanted: int) -> list[str]:
    right = {"NrJobsAdded": wanted, "NrJobsFinished": wanted, "NrJobsFailed": 0}
    return [f"{name} is {record.get(name)}, not {count}" for name, count in right.items() if record.get(name) != count]


def _status(job: Mapping[str, Any]) -> str:
    return str(job["Status"]).upper()


def _is_lost(job: Mapping[str, Any], workers: set[str]) -> bool:
    return _status(job) in ("CLAIMED", "STARTED") and job["Worker"] not in workers


def _differences(ledger: Mapping[str, str], listed: Iterable[str]) -> list[str]:
    unlike = [f"{job} is {state}" for job, state in sorted(ledger.items()) if state != "added"]
    return unlike + [f"{job} is on one side only" for job in sorted(ledger.keys() ^ set(listed))]


def _some(found: Sequence[str], most: int = 5) -> str:
    more = f" and {len(found) - most} more" if len(found) > most else ""
    return ", ".join(found[:most]) + more


MAY_HOLD_SECRETS = ("demo.conf", "worker.env", "odin/secret_key", "jobservice/admin_password")


def leaks_in_files(directory: Path, secrets: Sequence[str]) -> list[str]:
    """The files that hold a secret without need, or where others than the user may read it."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return [
        str(path)
        for path in found
        if any(secret.encode() in path.read_bytes() for secret in secrets)
        and not ({path.name, f"{path.parent.name}/{path.name}"} & set(MAY_HOLD_SECRETS) and _is_closed(path))
    ]


def _is_closed(path: Path) -> bool:
    return any(place.stat().st_mode & 0o077 == 0 for place in (path, path.parent))


def leaks_on_host(run: Callable[[str], str], secrets: Sequence[str]) -> list[str]:
    """What holds a secret on a host beside worker.env: files, and its workers' logs; ``run`` runs a command there."""
    patterns = "".join(f" -e {shlex.quote(secret)}" for secret in secrets)
    found = run(f"grep -rlF {patterns} /opt/qsmr /root /home /tmp /var/tmp /var/log || true").splitlines()
    logs = run("for c in $(docker ps -q); do docker logs $c 2>&1; done")
    return [path for path in found if not path.endswith("/worker.env")] + [
        "a worker's log" for secret in secrets if secret in logs
    ]
