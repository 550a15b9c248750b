"""Why jobs fail: failed jobs grouped by the template of what they say, and hosts where more fail than elsewhere."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .jobapi import JobApi, JobApiError
from .names import LONGEST_WORKER_NAME, homes_of, part_of

SAMPLE = 500
"""So many failed jobs have their output read, the newest: up to 64 KB each."""
CONNECTIONS = 8
EXAMPLES = 3
# Two hosts in a hundred healthy fleets are called bad.
SIGNIFICANT = 0.02
# Templates that are alike in this part of their words are one cause.
ALIKE = 0.6
LONGEST = 300
# Of a longer line no more is looked at: whatever a job prints must not hold up the analysis.
_LOOKED_AT = 2000

# "2016-01-01T10:00:00.123456 - STDOUT: ", as the worker writes before each line (worker contract, section 6).
_PREFIX = re.compile(r"\S+ - (STDOUT|STDERR|EXECUTOR): ?")
# What the worker itself adds to every output explains no failure, but is better than nothing.
BOILERPLATE = re.compile(r"Starting execution|Job process exited with code -?\d+")
# Words of errors. They are looked for as plain text first, which is ten times as fast.
_WORDS = (
    "error", "exception", "fail", "fatal", "panic", "killed", "abort", "cannot", "can't", "could not", "unable",
    "denied", "refused", "timed out", "timeout", "no such", "not found", "invalid", "missing", "segmentation fault",
    "out of memory",
)  # fmt: skip
_ERROR = re.compile(rf"\b\w*(?:{'|'.join(_WORDS)})(?:ed|ing|ure|ures)?\b", re.IGNORECASE)
_HEADER = re.compile(r"Traceback \(most recent call last\)|During handling of the above exception")
_QUERY = re.compile(r"(\w+://[^\s?]*\?)\S+")
_MASKS = [
    (re.compile(pattern), name)
    for pattern, name in (
        (r"\w+://[^\s'\"<>]+", "<url>"),
        (r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?", "<time>"),
        (r"\b\d\d:\d\d:\d\d(?:\.\d+)?", "<time>"),
        (r"(?<![\w/.])(?:~|\.{1,2})?/[\w.@%+~-]+(?:/[\w.@%+~-]*)*", "<path>"),
        (r"\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b", "<id>"),
        (r"\b0x[0-9a-fA-F]+\b|\b(?=[a-fA-F]*\d)(?=\d*[a-fA-F])[0-9a-fA-F]{8,}\b", "<id>"),
        (r"\b\d{1,3}(?:\.\d{1,3}){3}\b", "<address>"),
        (r"(?<![A-Za-z_<])[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?", "<n>"),
    )
]


@dataclass
class Cause:
    """Failed jobs that say alike: ``example`` is the first one's line, ``template`` what the lines have in common."""

    template: str
    example: str
    jobs: list[str] = field(default_factory=list)
    hosts: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        return len(self.jobs)


@dataclass(frozen=True)
class HostShare:
    """Jobs that ended and that failed on a host; ``p``: how likely so many would by chance, were it like the others."""

    host: str
    ended: int
    failed: int
    p: float
    stands_out: bool

    @property
    def share(self) -> float:
        return self.failed / self.ended if self.ended else 0.0


def chance(p: float) -> str:
    """A probability as text; how small it is beyond 1e-15 is a matter of rounding."""
    return f"p = {p:.1g}" if p >= 1e-15 else "p < 1e-15"


def telling_line(output: str | None) -> str:
    """The line that says why: the last that looks like an error, else the last of stderr, else the last at all.

    Read from the end, so that long output costs little. A query of an URL is left out: a target's token is a permission
    to write.
    """
    last = last_stderr = boilerplate = ""
    for stream, line in _lines_from_the_end(output or ""):
        if BOILERPLATE.fullmatch(line):
            boilerplate = boilerplate or line
            continue
        lower = line.lower()
        if any(word in lower for word in _WORDS) and _ERROR.search(line) and not _HEADER.search(line):
            return _shown(line)
        last = last or line
        if stream == "STDERR":
            last_stderr = last_stderr or line
    return _shown(last_stderr or last or boilerplate or "(no output)")


def _lines_from_the_end(output: str) -> Iterator[tuple[str, str]]:
    end = len(output)
    while end > 0:
        begin = output.rfind("\n", 0, end)
        line = output[begin + 1 : end]
        end = begin
        prefix = _PREFIX.match(line, 0, 100)
        text = (line[prefix.end() :] if prefix else line)[:_LOOKED_AT].strip()
        if text:
            yield prefix[1] if prefix else "", text


def _shown(line: str) -> str:
    return _QUERY.sub(r"\1...", line)[:LONGEST]


def template_of(line: str) -> str:
    """The line without what differs from job to job: times, paths, URLs, ids and numbers."""
    if BOILERPLATE.fullmatch(line):
        return line  # An exit code is all that it says.
    for pattern, name in _MASKS:
        line = pattern.sub(name, line)
    return " ".join(line.split())


def cluster(failures: Iterable[tuple[str, str, str | None]]) -> list[Cause]:
    """The causes of ``(job id, host, output)``, the most frequent first."""
    exact: dict[str, Cause] = {}
    for job, host, output in failures:
        line = telling_line(output)
        cause = exact.setdefault(template := template_of(line), Cause(template, line))
        cause.jobs.append(job)
        cause.hosts[host] += 1
    merged: dict[tuple[int, str], list[Cause]] = defaultdict(list)
    for cause in sorted(exact.values(), key=lambda cause: -cause.count):
        words = cause.template.split()
        alike = merged[len(words), words[0] if words else ""]
        for other in alike:
            if common := _common(other.template.split(), words):
                other.template = common
                other.jobs += cause.jobs
                other.hosts += cause.hosts
                break
        else:
            alike.append(cause)
    return sorted((cause for group in merged.values() for cause in group), key=lambda cause: -cause.count)


def _common(one: Sequence[str], other: Sequence[str]) -> str:
    """Both templates as one, a star for each word that differs; empty if they differ in too many."""
    same = [a if a == b else "<*>" for a, b in zip(one, other, strict=True)]
    return " ".join(same) if len(one) > 3 and sum(word != "<*>" for word in same) >= ALIKE * len(one) else ""


def read_outputs(api: JobApi, project: str, jobs: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """The output of each job, over some connections at once; a job that is gone meanwhile has none."""

    def read(job: str) -> tuple[str, str | None]:
        try:
            return job, api.output(project, job)
        except JobApiError as error:
            if error.status != 404:
                raise
            return job, None

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        yield from pool.map(read, jobs)


def host_shares(ended: Mapping[str, int], failed: Mapping[str, int]) -> list[HostShare]:
    """Each host's share of failed jobs, the highest first, and which stand out.

    Each host is held against all others with Fisher's exact test (one-sided); one stands out if p is below 0.02 divided
    by the number of hosts (Bonferroni's correction).
    """
    all_ended, all_failed = sum(ended.values()), sum(failed.get(host, 0) for host in ended)
    found = []
    for host, number in ended.items():
        bad = failed.get(host, 0)
        p = fisher_exact(bad, number - bad, all_failed - bad, all_ended - number - (all_failed - bad)) if bad else 1.0
        found.append(HostShare(host, number, bad, p, p < SIGNIFICANT / len(ended)))
    return sorted(found, key=lambda share: (-share.share, share.host))


def fisher_exact(bad: int, good: int, others_bad: int, others_good: int) -> float:
    """Fisher's exact test, one-sided (Fisher 1922): how likely it is that by chance so many of all bad are here.

    The same as ``scipy.stats.fisher_exact([[bad, good], [others_bad, others_good]], "greater")``, which takes a second
    or more to import: too much for a screen.
    """

    def ways(whole: int, part: int) -> float:
        return math.lgamma(whole + 1) - math.lgamma(part + 1) - math.lgamma(whole - part + 1)

    here, all_bad, all_good = bad + good, bad + others_bad, good + others_good
    every = ways(all_bad + all_good, here)
    least, most = max(bad, here - all_good), min(here, all_bad)
    chances = (math.exp(ways(all_bad, n) + ways(all_good, here - n) - every) for n in range(least, most + 1))
    return min(math.fsum(chances), 1.0)


def host_of(worker: str | None, homes: Mapping[str, str]) -> str:
    """The host of a worker: as the hosts say (``homes``, by the worker's name), else as the worker's name does."""
    if not worker:
        return "unknown"
    if worker in homes:
        return homes[worker]
    if len(worker) == LONGEST_WORKER_NAME:  # one that does not have all of the host's name
        found = homes_of(worker, set(homes.values()))
        if len(found) == 1:
            return found[0]
    return part_of(worker) or worker.removeprefix("UWorker_")
