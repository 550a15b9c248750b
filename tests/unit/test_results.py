"""Level 2 on disk: new documents only, each checked, each whole."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import pytest
from qsmr.errors import QsmrError
from qsmr.results import FinishedJob, document_path, fetch, profile_table, snapshot_of

FINISHED = "2026-11-24T06:30:00"


class Shelf:
    """An Odin API whose answers the test chooses; it counts what is asked."""

    def __init__(self, documents):
        self.documents = documents
        self.asked = []

    def level2(self, project, freq_mode, scan_id):
        self.asked.append((project, freq_mode, scan_id))
        return self.documents.get(scan_id)


def document(scan_id, snapshot="261124-0123456789", freq_mode=1):
    return {
        "L2": [{"Product": "O3"}],
        "L2i": {"ScanID": scan_id, "FreqMode": freq_mode},
        "L2c": [f"Snapshot: {snapshot}"],
    }


def jobs(*scan_ids, finished=FINISHED):
    return [FinishedJob.from_listing({"Id": f"1:{scan_id}", "Finished": finished}) for scan_id in scan_ids]


def test_listing_entries_that_are_no_scans_are_left_out():
    assert FinishedJob.from_listing({"Id": "somethingelse", "Finished": None}) is None
    assert FinishedJob.from_listing({"Id": "13:3197688958", "Finished": FINISHED}) == FinishedJob(
        13, 3197688958, datetime(2026, 11, 24, 6, 30, tzinfo=UTC)
    )


def test_second_run_asks_for_nothing(tmp_path):
    shelf = Shelf({7: document(7), 8: document(8)})
    first = fetch(shelf, "demo", jobs(7, 8), tmp_path)
    again = fetch(shelf, "demo", jobs(7, 8), tmp_path)
    assert len(first.new) == 2
    assert (again.new, again.there) == ([], 2)
    assert len(shelf.asked) == 2
    assert again.snapshots == {"261124-0123456789": 2}
    assert json.loads(document_path(tmp_path, jobs(7)[0]).read_text())["L2i"]["ScanID"] == 7


def test_scan_processed_again_is_fetched_again(tmp_path):
    shelf = Shelf({7: document(7)})
    fetch(shelf, "demo", jobs(7), tmp_path)
    shelf.documents[7] = document(7, snapshot="261125-abcdefabcd")
    later = fetch(shelf, "demo", jobs(7, finished="2026-11-25T08:00:00"), tmp_path)
    assert later.snapshots == {"261125-abcdefabcd": 1}


def test_missing_and_failed_scans_are_told_apart(tmp_path):
    failed = {"L2": [], "L2i": {}, "L2c": ["too few spectra"]}
    outcome = fetch(Shelf({8: failed}), "demo", jobs(7, 8), tmp_path)
    assert [job.scan_id for job in outcome.missing] == [7]
    assert outcome.failed_scans == [8]
    assert not document_path(tmp_path, jobs(7)[0]).exists()


@pytest.mark.parametrize("wrong", [document(8), document(7, freq_mode=2)])
def test_document_of_another_scan_is_named_and_stops_no_other(tmp_path, wrong):
    outcome = fetch(Shelf({7: wrong, 9: document(9)}), "demo", jobs(7, 9), tmp_path)
    assert len(outcome.wrong) == 1
    assert "level 2 of scan 7 holds" in outcome.wrong[0]
    assert [job.scan_id for job in outcome.new] == [9]
    assert not document_path(tmp_path, jobs(7)[0]).exists()


def test_check_mode_writes_nothing(tmp_path):
    shelf = Shelf({7: document(7)})
    outcome = fetch(shelf, "demo", jobs(7), tmp_path, check_mode=True)
    assert [job.scan_id for job in outcome.new] == [7]
    assert (shelf.asked, list(tmp_path.iterdir())) == ([], [])


def test_snapshot_comes_from_the_comments_in_either_form():
    assert snapshot_of({"L2c": "Status: fine\nSnapshot: 261124-0123456789"}) == "261124-0123456789"
    assert snapshot_of({"L2c": ["Status: fine"]}) == "unknown"
    assert snapshot_of({}) == "unknown"


def test_profile_has_the_units_it_names():
    product = {"Product": "O3 / 501 GHz", "Altitude": [2e4], "VMR": [5e-6], "Apriori": [4e-6], "MeasResponse": [0.9]}
    assert profile_table({"L2": [{"Product": "ClO"}, product]}) == [
        {"altitude_km": 20.0, "vmr_ppm": pytest.approx(5.0), "apriori_ppm": pytest.approx(4.0), "response": 0.9}
    ]
    assert profile_table({"L2": []}) == []


def test_profile_of_a_document_that_lacks_something_is_empty():
    assert profile_table({"L2": [{"Product": "O3", "Altitude": [2e4], "VMR": [5e-6], "MeasResponse": None}]}) == []


def test_time_in_a_form_of_another_age_is_no_traceback():
    assert FinishedJob.from_listing({"Id": "1:7", "Finished": "Tue, 24 Nov 2026 06:30:00 GMT"}).scan_id == 7


def test_damaged_document_is_fetched_again(tmp_path):
    shelf = Shelf({7: document(7)})
    fetch(shelf, "demo", jobs(7), tmp_path)
    path = document_path(tmp_path, jobs(7)[0])
    finished = path.stat().st_mtime
    path.write_text('{"L2": [')
    os.utime(path, (finished, finished))
    assert len(fetch(shelf, "demo", jobs(7), tmp_path).new) == 1


def test_directory_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "results").write_text("in the way")
    with pytest.raises(QsmrError, match="check qsmr_state_dir"):
        fetch(Shelf({7: document(7)}), "demo", jobs(7), tmp_path / "results")
