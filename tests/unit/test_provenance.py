"""From a scan's level 2 back to what made it."""

from __future__ import annotations

import json

import pytest
from level2_documents import MANIFEST, SNAPSHOT, Project, made_up
from qsmr.errors import QsmrError
from qsmr.provenance import answer, of_scan, scan_key
from qsmr.resultindex import opened
from qsmr.results import document_path

AUDIT = [
    {"time": "2026-11-24T05:50:00Z", "run": "1", "event": "begin", "to": SNAPSHOT, "by": "ana@control"},
    {"time": "2026-11-24T05:51:00Z", "run": "1", "event": "host", "host": "host1", "to": SNAPSHOT},
    {"time": "2026-11-25T05:50:00Z", "run": "2", "event": "begin", "to": "261125-abcdefabcd", "by": "bo@control"},
]


@pytest.fixture
def project(tmp_path):
    """Two scans of two snapshots, of which one is known, a failed job, a scan without result, one of two modes."""
    project = Project(tmp_path)
    found = project.snapshots / "qsmr_snapshot_demo_261124/snapshot.json"
    found.parent.mkdir(parents=True)
    found.write_text(json.dumps(MANIFEST))
    project.finish(made_up(7), made_up(8, snapshot="261125-abcdefabcd"), made_up(11), made_up(11, freq_mode=2))
    project.finish({"L2": [], "L2i": {"ScanID": 10, "FreqMode": 1}, "L2c": ["Error: too few spectra"]})
    project.jobs.end(9, state="FAILED")
    ask = project.shelf.level2

    def of_each_mode(name, mode, scan):
        project.shelf.documents[11] = made_up(11, freq_mode=mode)
        return ask(name, mode, scan)

    project.shelf.level2 = of_each_mode
    project.update()
    return project


def asked(project, scan):
    with opened(project.directory, check_mode=True) as index:
        key = scan_key(scan, index)
        found = of_scan(index, project.directory, key, document_path(project.directory, key), AUDIT)
    return found, answer(found, "demo")


def test_a_scan_leads_to_commit_settings_images_worker_and_times(project):
    found, text = asked(project, "7")
    assert found["snapshot"]["git_commit"] == "c0ffee"
    assert (found["worker"], found["claimed"]) == ("UWorker_host1_a", "2026-11-24T06:00:00Z")
    for words in (
        *(SNAPSHOT, "c0ffee", "QSMR_CONFIG=q_std, QSMR_INVEMODE=(default)", "sha256:1234", "sha256:5678"),
        "2026-11-24T05:50:00Z by ana@control",
        *("/home/ana/qsmr", "UWorker_host1_a", "2026-11-24T06:00:00Z to 2026-11-24T06:30:00Z, 2.5 s"),
        *('Config: q_std {"level_spacing": 2000}', "other scans of this project were made by 261125-abcdefabcd"),
    ):
        assert words in text


def test_a_snapshot_that_is_not_here_is_told(project):
    _found, text = asked(project, "8")
    assert "261125-abcdefabcd" in text
    assert "its snapshot.json is in no snapshot directory here" in text
    assert "git commit" not in text


def test_scans_without_a_profile_tell_why(project):
    assert asked(project, "10")[0]["reason"] == "too few spectra"
    failed, text = asked(project, "9")
    assert (failed["snapshot"], failed["document"]) == (None, None)
    assert "job failed" in text


@pytest.mark.parametrize(
    ("scan", "words"),
    [("", "no scan id"), ("x", "no scan id"), ("12", "no ended job"), ("11", "several modes"), ("3:7", "no ended job")],
)
def test_what_is_no_scan_here_is_said(project, scan, words):
    with pytest.raises(QsmrError, match=words):
        asked(project, scan)


def test_the_mode_tells_scans_of_two_modes_apart(project):
    assert [asked(project, f"{mode}:11")[0]["freq_mode"] for mode in (1, 2)] == [1, 2]
