"""Level 2 as the Odin API answers it: made up in numbers, or by the example code's own retrieval; and fake services."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from qsmr.odinapi import Level2
from qsmr.resultindex import opened
from qsmr.results import Outcome, bring_up_to_date

REPOSITORY = Path(__file__).parents[1]
PRODUCT = "O3 / 501 GHz / 20 to 50 km"
Document = dict[str, Any]
SNAPSHOT = "261124-0123456789"
MANIFEST = {
    "snapshot_id": SNAPSHOT,
    "created": "2026-11-24T06:00:00Z",
    "code": {"directory": "/home/ana/qsmr", "git_commit": "c0ffee", "git_dirty": False},
    "image": {"name": "qsmr_snapshot_demo:1", "id": "sha256:1234"},
    "base_image": {"name": "qsmr-fleet/worker", "id": "sha256:5678"},
    "settings": {"QSMR_CONFIG": "q_std", "QSMR_INVEMODE": ""},
}


def made_up(
    scan_id: int,
    *,
    freq_mode: int = 1,
    project: str = "demo",
    snapshot: str = SNAPSHOT,
    levels: int = 25,
    products: tuple[str, ...] = (PRODUCT,),
    factor: float = 1.0,
) -> Document:
    """A document with profiles that depend on the scan; those of ``factor`` are so many times larger."""
    rng = np.random.default_rng(scan_id)
    altitude = 16e3 + 2e3 * np.arange(levels)
    apriori = 8e-6 * np.exp(-(((altitude - 34e3) / 12e3) ** 2))
    vmr = apriori * (1 + 0.1 * rng.standard_normal(levels)) * factor
    place = {
        "Lat1D": float(rng.uniform(-80, 80)),
        "Lon1D": float(rng.uniform(0, 360)),
        "MJD": 57113 + scan_id % 10**6 * 1e-3,
    }
    common = {"FreqMode": freq_mode, "ScanID": scan_id, "InvMode": "stnd"}
    columns = {
        "Altitude": altitude,
        "Pressure": 1e5 * np.exp(-altitude / 7e3),
        "Temperature": np.full(levels, 240.0),
        "VMR": vmr,
        "Apriori": apriori,
        "ErrorTotal": 0.1 * apriori,
        "ErrorNoise": 0.05 * apriori,
        "MeasResponse": np.full(levels, 0.9),
        "Latitude": np.full(levels, place["Lat1D"]),
        "Longitude": np.full(levels, place["Lon1D"]),
        "AVK": 0.9 * np.eye(levels),
    }
    product = {**common, **place, "Quality": None, **{name: column.tolist() for name, column in columns.items()}}
    return {
        "L2": [{**product, "Product": name} for name in products],
        "L2i": {
            **common,
            "Residual": 1.0,
            "LOFreq": 4.97e11,
            "FreqOffset": 0.0,
            "STW": [1, 2, 3],
            "FitSpectrum": [[1.0]],
        },
        "L2c": [f"Snapshot: {snapshot}", 'Config: q_std {"level_spacing": 2000}', "Status: converged, cost 1.234"],
        "URLS": {"URL-level2": f"http://odin.example.com/rest_api/v4/level2/{project}/{freq_mode}/{scan_id}/"},
    }


def retrieved(scan_ids: list[int], config: str, mode: str = "stnd", snapshot: str = "none") -> Iterator[Document]:
    """What the example code makes of the stand-in's scans, frequency mode 1, with a configuration."""
    sys.path[:0] = [str(REPOSITORY / "images/odin"), str(REPOSITORY / "examples/qsmr-demo/code")]
    import odin
    from qsmr_demo.retrieval import NoResult, retrieve

    client = odin.create_app(odin.Settings(secret="0" * 16, database_url="sqlite://")).test_client()
    files = {
        path.stem: json.loads(path.read_text()) for path in (REPOSITORY / "examples/qsmr-demo/data").rglob("*.json")
    }
    for scan_id in scan_ids:
        urls = client.get(f"/rest_api/v4/l1_log/1/{scan_id}/").json["Info"]["URLS"]
        inputs = [client.get(urls[f"URL-{name}"]).json for name in ("spectra", "ptz", "apriori-O3")]
        comments = [f"Snapshot: {snapshot}", f"Config: {config} {json.dumps(files[config])}"]
        try:
            product, info, told = retrieve(*inputs, files["spectroscopy"], files[config], files[mode], mode)
            yield {"L2": [product], "L2i": info, "L2c": comments + told}
        except NoResult as reason:
            yield {"L2": [], "L2i": {"ScanID": scan_id, "FreqMode": 1}, "L2c": [*comments, f"Error: {reason}"]}


class Jobs:
    """A job service that knows one project's jobs that ended; it counts how many it told of."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.told = 0

    def end(self, scan_id: int, time: str = "2026-11-24T06:30:00", state: str = "FINISHED", freq_mode: int = 1) -> None:
        self.jobs[f"{freq_mode}:{scan_id}"] = {
            "Id": f"{freq_mode}:{scan_id}",
            "Status": state,
            "Worker": "UWorker_host1_a",
            "Claimed": "2026-11-24T06:00:00",
            "ProcessingTime": 2.5,
            state.title(): time,
        }

    def project(self, name: str) -> dict[str, Any] | None:
        states = [job["Status"].title() for job in self.jobs.values()]
        return {"JobStates": {state: states.count(state) for state in set(states)}}

    def each_job(self, name: str, status: str, start: str | None = None) -> Iterator[dict[str, Any]]:
        for job in self.jobs.values():
            if job["Status"].lower() == status and job[status.title()] >= (start or ""):
                self.told += 1
                yield job


class Shelf:
    """An Odin API whose answers the test chooses; it counts what is asked."""

    def __init__(self, documents: dict[int, Any]) -> None:
        self.documents = documents
        self.asked: list[tuple[str, int, int]] = []

    def level2(self, project: str, freq_mode: int, scan_id: int) -> Level2 | None:
        self.asked.append((project, freq_mode, scan_id))
        found = self.documents.get(scan_id)
        if isinstance(found, Exception):
            raise found
        return found and Level2(found, json.dumps(found))


class Project:
    """A project whose services the test has in hand, and its results directory."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.snapshots = directory / "results", directory / "snapshots"
        self.jobs, self.shelf = Jobs(), Shelf({})

    def finish(self, *documents: dict, time: str = "2026-11-24T06:30:00") -> None:
        for document in documents:
            info = document["L2i"]
            self.shelf.documents[info["ScanID"]] = document
            self.jobs.end(info["ScanID"], time, freq_mode=info["FreqMode"])

    def update(self, check_mode: bool = False) -> Outcome:
        self.jobs.told, self.shelf.asked = 0, []
        with opened(self.directory, check_mode=check_mode) as index:
            return bring_up_to_date(
                *(self.jobs, self.shelf, "demo", "demo", index, self.directory, self.snapshots), check_mode=check_mode
            )

    def summary(self) -> dict[int, dict[str, str]]:
        with (self.directory / "summary.csv").open() as stream:
            return {int(row["scan_id"]): row for row in csv.DictReader(stream)}

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.directory.rglob("*") if path.is_file() and "index" not in path.name)
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in found}
