"""Put the level 2 of two projects side by side, scan by scan: what did the change of the code do to the science?

All differences are the project's value less the other's, on the scans that both have. What is compared, and how, is in
qsmr.comparedfields, qsmr.productcomparison and qsmr.statistics.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import QsmrError
from .level2set import Key, product_files
from .productcomparison import ProductComparison, compare_product
from .productfindings import DIFFERS, SMALL, UNKNOWN
from .provenance import snapshots_of
from .resultindex import FILE, ResultIndex, opened
from .statistics import failures_differ

IMAGES = ("git commit", "image", "base image")


@dataclass(frozen=True)
class Side:
    """One of the two projects: its scans as the index has them, and what made them."""

    project: str
    directory: Path
    scans: dict[Key, Mapping[str, Any]]
    snapshots: list[dict[str, Any]]

    @classmethod
    def read(cls, project: str, directory: Path) -> Side:
        """Raises QsmrError if there are no results."""
        if not (directory / FILE).exists():
            raise QsmrError(f"{directory} has no results of {project}: run results.yml -e qsmr_project={project}")
        with opened(directory, check_mode=True) as index:
            return cls(project, directory, dict(_outcomes(index)), snapshots_of(index, directory))

    def count(self, outcome: str) -> int:
        return sum(scan["outcome"] == outcome for scan in self.scans.values())


def _outcomes(index: ResultIndex) -> Iterator[tuple[Key, Mapping[str, Any]]]:
    for row in index.rows():
        outcome = "job_failed" if row["state"] == "failed" else row["outcome"] or "wanted"
        reason = "" if outcome in ("retrieved", "job_failed") else row["reason"]
        yield (row["freq_mode"], row["scan_id"]), {"outcome": outcome, "reason": reason}


@dataclass
class Comparison:
    """A project against another one."""

    side: Side
    other: Side
    coverage: dict[str, int]
    new_failures: list[tuple[Key, str, str]]
    """Scans that the other project has a profile of: outcome and reason here."""
    gone_failures: list[tuple[Key, str, str]]
    """Scans that this project only has a profile of: outcome and reason there."""
    settings: list[tuple[str, str, str]]
    """What differs in settings and images: name, there, here."""
    commits: list[str]
    """The commits between the two, as git tells them where the code is at hand."""
    notes: list[str]
    products: list[ProductComparison]
    verdict: str = ""


def compare(side: Side, other: Side) -> Comparison:
    """Compare two projects. Raises QsmrError if they have no scan with a profile in common."""
    if side.project == other.project:
        raise QsmrError(f"{side.project} is to be compared with itself: set qsmr_compare_with to another project")
    common = side.scans.keys() & other.scans.keys()
    here, there = ({key for key, scan in one.scans.items() if scan["outcome"] == "retrieved"} for one in (side, other))
    if not here & there:
        raise QsmrError(
            f"{side.project} and {other.project} have no scan with a profile in common"
            f" ({len(here)} and {len(there)} scans have one): do they have the same scan ids and frequency mode?"
        )
    coverage = {
        "scans of both": len(common),
        f"only {side.project}": len(side.scans.keys() - common),
        f"only {other.project}": len(other.scans.keys() - common),
        "profiles in both": len(here & there),
        "failures new": len((there - here) & common),
        "failures gone": len((here - there) & common),
    }
    result = Comparison(
        side,
        other,
        coverage,
        new_failures=[_failure(side, key) for key in sorted((there - here) & common)],
        gone_failures=[_failure(other, key) for key in sorted((here - there) & common)],
        settings=settings_difference(side.snapshots, other.snapshots),
        commits=commits_between(other.snapshots, side.snapshots),
        notes=[*_notes(side), *_notes(other)],
        products=[compare_product(side, other, *pair) for pair in product_pairs(side, other)],
    )
    result.verdict = verdict(result)
    return result


def _failure(side: Side, key: Key) -> tuple[Key, str, str]:
    return key, side.scans[key]["outcome"], side.scans[key]["reason"]


def _notes(side: Side) -> Iterator[str]:
    if len(side.snapshots) > 1:
        which = ", ".join(f"{made['documents']} by {made['snapshot_id']}" for made in side.snapshots)
        yield f"Several snapshots took part in {side.project}: {which}"
    unknown = [made["snapshot_id"] for made in side.snapshots if made["created"] is None]
    if unknown:
        yield f"What made {side.project} is not all known: no snapshot.json of {', '.join(unknown)} was found"
    if any(made["git_dirty"] for made in side.snapshots):
        yield f"The code of {side.project} had changes that are not in its git commit"


def product_pairs(side: Side, other: Side) -> list[tuple[str, str]]:
    """The products to compare: of the same name, else the first left of the same species."""
    here, there = list(product_files(side.directory)), list(product_files(other.directory))
    pairs = [(name, name) for name in here if name in there]
    left = [name for name in there if name not in here]
    for name in here:
        match = next((found for found in left if found.split(" ")[0] == name.split(" ")[0]), None)
        if name not in there and match:
            left.remove(match)
            pairs.append((name, match))
    return pairs


# --- provenance


def settings_difference(
    snapshots: Iterable[Mapping[str, Any]], others: Iterable[Mapping[str, Any]]
) -> list[tuple[str, str, str]]:
    """Settings and images that differ: name, value there (``others``), value here (``snapshots``)."""
    here, there = _settings(snapshots), _settings(others)
    names = dict.fromkeys([*here, *there])
    found = [(name, there.get(name, "–"), here.get(name, "–")) for name in names]
    return [row for row in found if row[1] != row[2]]


def _settings(snapshots: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """What a project was made with, by name; where snapshots differ, all values."""
    values: dict[str, dict[str, None]] = {}

    def say(name: str, value: object) -> None:
        values.setdefault(name, {})[str(value)] = None

    for made in snapshots:
        for name, value in (made["settings"] or {}).items():
            say(name, value or "(default)")
        for line in {line for text in made["told"] for line in text.splitlines()}:
            for name, told in told_settings(line):
                say(name, told)
        if made["created"]:
            for name, key in zip(IMAGES, ("git_commit", "image_digest", "base_image_digest"), strict=True):
                say(name, made[key] or "none")
    return {name: ", ".join(sorted(several)) for name, several in sorted(values.items())}


def told_settings(line: str) -> Iterator[tuple[str, object]]:
    """The settings in a comment such as ``Config: q_std {"level_spacing": 2000}``, as the example code writes it."""
    match = re.fullmatch(r"(\w+): (\S+)\s*(\{.*\})?", line)
    if match:
        yield match[1], match[2]
        try:
            values = json.loads(match[3] or "{}")
        except ValueError:
            return
        yield from values.items()


def commits_between(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[str]:
    """The commits that ``new`` has and ``old`` has not, newest first; empty where git does not know them here."""
    before, after = ([made for made in snapshots if made["git_commit"]] for snapshots in (old, new))
    if not before or not after or before[-1]["git_commit"] == after[-1]["git_commit"]:
        return []
    span = f"{before[-1]['git_commit']}..{after[-1]['git_commit']}"
    command = ["git", "-C", str(after[-1]["code_directory"]), "log", "--format=%h %as %s", "--max-count=50", span, "--"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines()


# --- what it means


def verdict(result: Comparison) -> str:
    """The answer in a sentence or two: first what counts, then how the mean profiles stand."""
    here, there = result.side.project, result.other.project
    scans = f"{result.coverage['profiles in both']} common scans"
    found = [finding for product in result.products for finding in product.findings]
    new, gone = len(result.new_failures), len(result.gone_failures)
    answers = {finding.answer for finding in found}
    # The small differences are on the page where there are others.
    telling = DIFFERS if DIFFERS in answers else SMALL
    told = [finding.text for finding in found if finding.answer == telling]
    if failures_differ(new, gone):
        told.insert(0, _failures_text(result, new, gone))
    words = "; ".join(dict.fromkeys([*told, *(product.findings[0].text for product in result.products)]))
    if failures_differ(new, gone) or DIFFERS in answers:
        answer = f"{here} differs from {there} on {scans}: {words}"
    elif SMALL in answers:
        answer = f"{here} differs from {there} on {scans}, by less than what matters: {words}"
    elif all(product.identical for product in result.products):
        answer = f"{here} and {there} give the same profiles on all {scans}"
    elif UNKNOWN in answers:
        answer = f"Cannot tell whether {here} differs from {there} on {scans}: {words}"
    else:
        answer = f"{here} does not differ from {there} on {scans}: {words}"
    if new or gone:
        answer += f". Failures: {new} new, {gone} gone"
    # The retrieval's own words, or the same as they were set.
    doubled = [("Config", "QSMR_CONFIG"), ("InvMode", "QSMR_INVEMODE")]
    names = {name for name, _old, _new in result.settings}
    hidden = {*IMAGES, *(told_name for told_name, name in doubled if name in names)}
    causes = [f"{name} {old} → {new}" for name, old, new in result.settings if name not in hidden]
    if causes:
        answer += f". What was set otherwise: {', '.join(causes)}"
    elif result.commits:
        answer += f". Between them: {len(result.commits)} commits of the code"
    return answer + "."


def _failures_text(result: Comparison, new: int, gone: int) -> str:
    side = result.side.project if new > gone else result.other.project
    most = max(new, gone)
    return f"{most} scans of {result.coverage['scans of both']} have no profile in {side} alone"
