"""The jobs that a release's first workers end: whether they speak against it. Control node only."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .jobapi import JobApi, JobApiError

# Seconds between two looks at the canary's jobs.
POLL = 2.0


def canary_fault(
    api: JobApi,
    project: str,
    workers: Sequence[str],
    wanted: int,
    deadline: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Any = time.sleep,
) -> str:
    """Why the jobs of these workers speak against their release, or cannot be judged; empty if they do not.

    Waits until the workers have ended ``wanted`` jobs, ``deadline`` seconds at most. The share of them that failed is
    compared with that of all jobs that the project's other workers ended.
    """
    end = clock() + deadline
    finished = failed = 0
    while True:
        trouble = ""
        try:
            states = [str(job["Status"]).upper() for name in workers for job in api.each_job(project, worker=name)]
            finished, failed = states.count("FINISHED"), states.count("FAILED")
            if finished + failed >= wanted:
                return _verdict(finished, failed, _all_states(api, project))
        except JobApiError as error:
            trouble = f": {error}"
            if not error.temporary:
                return f"its jobs cannot be judged{trouble}"
        if clock() >= end:
            seen = f"only {finished + failed} of {wanted} jobs ended within {deadline:.0f} s"
            return f"{seen} (qsmr_canary_deadline){trouble}"
        sleep(POLL)


def _all_states(api: JobApi, project: str) -> Mapping[str, int]:
    """How many jobs of the project have each status."""
    try:
        record = api.project(project) or {}
    except JobApiError as error:
        if error.status != 500:
            raise
        # One job with a null status is enough for that (REST contract v4, section 4); the list tells all the same.
        return Counter(str(job["Status"]).upper() for job in api.each_job(project))
    return {str(state).upper(): int(number) for state, number in (record.get("JobStates") or {}).items()}


def _verdict(finished: int, failed: int, all_states: Mapping[str, int]) -> str:
    others_failed = max(all_states.get("FAILED", 0) - failed, 0)
    others = max(all_states.get("FINISHED", 0) - finished, 0) + others_failed
    before = others_failed / others if others else 0.0
    share = failed / (finished + failed)
    if share <= before:
        return ""
    return f"{failed} of its {finished + failed} jobs failed ({share:.0%}), and {before:.0%} of {others} before"
