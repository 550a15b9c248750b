"""From a level 2 document back to what made it: snapshot, git commit, settings, base image, worker and times.

The retrieval writes the snapshot's id into the comments of each document; the snapshot's own snapshot.json, which is
kept beside the documents, tells the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .audit import reign
from .errors import QsmrError
from .files import write_atomically
from .jobstates import parse_time
from .level2doc import UNKNOWN
from .level2set import Key
from .madeby import MadeBy
from .resultindex import ResultIndex, utc
from .snapshot import MANIFEST

MANIFESTS = "snapshots"


def keep_manifests(ids: Iterable[str], snapshot_dir: Path, results: Path) -> bool:
    """Have snapshot.json of these snapshots beside the results, where they are to be found; whether one came in.

    The snapshots themselves are large and may be removed one day.
    """
    wanted = {number for number in ids if not manifest_path(results, number).exists()}
    came = False
    for path in snapshot_dir.glob(f"qsmr_snapshot_*/{MANIFEST}") if wanted else ():
        manifest = _read(path)
        if manifest and manifest.get("snapshot_id") in wanted:
            target = manifest_path(results, manifest["snapshot_id"])
            target.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(target, json.dumps(manifest, indent=1) + "\n")
            came = True
    return came


def manifest_path(results: Path, snapshot_id: str) -> Path:
    # The id comes from a document: it must not lead elsewhere.
    return results / MANIFESTS / f"{snapshot_id.replace('/', '_')}.json"


def snapshots_of(index: ResultIndex, results: Path) -> list[dict[str, Any]]:
    """What is known of each snapshot that made documents, in the order in which they came.

    What its snapshot.json tells is None where that was not found; ``settings`` are those of the snapshot,
    ``told`` what the documents themselves say about their settings.
    """
    told = index.settings()
    return [
        describe(number, documents, results, told.get(number, [])) for number, documents in index.snapshots().items()
    ]


def describe(snapshot_id: str, documents: int, results: Path, told: Iterable[str] = ()) -> dict[str, Any]:
    """What is known of a snapshot that made so many documents, see ``snapshots_of``."""
    manifest = _read(manifest_path(results, snapshot_id)) or {}
    code, image, base = (manifest.get(part) or {} for part in ("code", "image", "base_image"))
    return {
        "snapshot_id": snapshot_id,
        "documents": documents,
        "created": manifest.get("created"),
        "git_commit": code.get("git_commit"),
        "git_dirty": code.get("git_dirty"),
        "code_directory": code.get("directory"),
        "image": image.get("name"),
        "image_digest": image.get("id"),
        "base_image": base.get("name"),
        "base_image_digest": base.get("id"),
        "settings": manifest.get("settings"),
        "told": sorted(told),
    }


def commit_line(snapshot: Mapping[str, Any]) -> str:
    """A snapshot's git commit, and whether there was more in its code."""
    dirty = {True: ", with changes that are not committed", False: "", None: ""}[snapshot["git_dirty"]]
    return (snapshot["git_commit"] or "none: the code is in no git repository") + dirty


def attributes(index: ResultIndex, results: Path, project: str, odin_project: str) -> dict[str, str]:
    """The global attributes of a NetCDF file that tell where it comes from."""
    snapshots = snapshots_of(index, results)

    def listed(key: str) -> str:
        return " ".join(str(snapshot[key] or "unknown") for snapshot in snapshots)

    return {
        "source": "QSMR retrieval of Odin/SMR spectra",
        "project": project,
        "odin_project": odin_project,
        "snapshot_ids": listed("snapshot_id"),
        "git_commits": listed("git_commit"),
        "image_digests": listed("image_digest"),
        "base_images": listed("base_image"),
        "settings": "; ".join(settings_line(snapshot) for snapshot in snapshots),
        "provenance": json.dumps(snapshots),
    }


def settings_line(snapshot: Mapping[str, Any]) -> str:
    """A snapshot's settings on a line; the code's own defaults where they are empty."""
    settings = snapshot["settings"]
    if settings is None:
        return "unknown"
    return ", ".join(f"{name}={value or '(default)'}" for name, value in sorted(settings.items())) or "none"


def made_by(index: ResultIndex, current: str, events: Iterable[Mapping[str, Any]]) -> MadeBy:
    """By which snapshots the documents on disk are; ``events`` are those of the project's audit."""
    by = index.snapshots()
    unknown = by.pop(UNKNOWN, 0)
    since = parse_time((reign(events, current)[0] or "").removesuffix("Z"))
    outdated = sum(number for snapshot, number in by.items() if snapshot != current)
    outdated += index.ended_before(int(since.timestamp()), UNKNOWN) if since else 0
    return MadeBy(current, by, unknown, outdated if current else 0)


def scan_key(text: str, index: ResultIndex) -> Key:
    """The scan that ``<scan id>`` or ``<frequency mode>:<scan id>`` names. Raises QsmrError if it names none."""
    mode, _colon, scan = text.strip().rpartition(":")
    if not scan.isdecimal() or (mode and not mode.isdecimal()):
        raise QsmrError(
            f"Scan {text!r} is no scan id: give a number, as in -e scan=7123991206 (or -e scan=1:7123991206)"
        )
    modes = [int(mode)] if mode else index.modes_of(int(scan))
    if len(modes) > 1:
        raise QsmrError(f"Scan {scan} was processed in several modes: say which, as in -e scan={modes[0]}:{scan}")
    if not modes or not index.scan((modes[0], int(scan))):
        raise QsmrError(f"Scan {text} has no ended job here: run results.yml, or look with status.yml if it is done")
    return modes[0], int(scan)


def of_scan(
    index: ResultIndex, results: Path, key: Key, document: Path, audit: Iterable[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Where the level 2 of a scan comes from; ``snapshot`` is None if there is no document.

    ``audit`` are the events of the project's audit, which tell when and by whom the snapshot came to the hosts.
    """
    row = index.scan(key) or {}
    kept = row["kept"] is not None and row["kept"] == row["ended"] and row["state"] == "finished"
    snapshots = snapshots_of(index, results)
    return {
        "freq_mode": key[0],
        "scan_id": key[1],
        "outcome": "job_failed" if row["state"] == "failed" else row["outcome"],
        "reason": row["reason"],
        "products": json.loads(row["products"]) if kept else [],
        "document": str(document) if kept else None,
        "worker": row["worker"],
        "claimed": utc(row["claimed"]),
        "ended": utc(row["ended"]),
        "processing_time": row["processing_time"],
        "told": (row["settings"] or "").splitlines() if kept else [],
        "snapshot": next((found for found in snapshots if kept and found["snapshot_id"] == row["snapshot"]), None),
        "rolled_out": [
            {"time": event["time"], "by": event.get("by")}
            for event in audit
            if kept and event.get("event") == "begin" and event.get("to") == row["snapshot"]
        ],
        "others": [found["snapshot_id"] for found in snapshots if found["snapshot_id"] != row["snapshot"]],
    }


def answer(found: Mapping[str, Any], project: str) -> str:
    """What ``of_scan`` found, as text for the screen."""
    lines = [f"Scan {found['scan_id']}, frequency mode {found['freq_mode']}, project {project}"]

    def say(what: str, value: object) -> None:
        if value not in (None, "", []):
            lines.append(f"  {what:<12} {value}")

    say("outcome", found["outcome"].replace("_", " ") + (f": {found['reason']}" if found["reason"] else ""))
    say("products", "; ".join(found["products"]))
    say("document", found["document"])
    seconds = found["processing_time"]
    say("worker", found["worker"])
    say(
        "job",
        f"{found['claimed'] or '?'} to {found['ended']}" + (f", {seconds:.1f} s of processing" if seconds else ""),
    )
    snapshot = found["snapshot"]
    if snapshot:
        say("snapshot", snapshot["snapshot_id"] + (f", made {snapshot['created']}" if snapshot["created"] else ""))
        if snapshot["created"]:
            say("git commit", commit_line(snapshot))
            say("code", snapshot["code_directory"])
            say("settings", settings_line(snapshot))
            say("image", f"{snapshot['image']} {snapshot['image_digest']}")
            say("base image", f"{snapshot['base_image']} {snapshot['base_image_digest']}")
        elif snapshot["snapshot_id"] == "unknown":
            say("", "the document has no line with its snapshot")
        else:
            say("", "its snapshot.json is in no snapshot directory here (qsmr_snapshot_dir)")
    for rollout in found["rolled_out"]:
        say("rolled out", f"{rollout['time']} by {rollout['by']}")
    for line in found["told"]:
        say("retrieval", line)
    if snapshot and found["others"]:
        say("note", f"other scans of this project were made by {', '.join(found['others'])}")
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
