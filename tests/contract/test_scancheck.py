"""Scans that level 1 does not have are found before they become jobs, with few questions."""

from __future__ import annotations

from itertools import count

import pytest
from contract import odin_service
from contract.reprocess_lab import FIRST, STEP, Lab
from qsmr.errors import QsmrError
from qsmr.ledger import Scan
from qsmr.odinapi import OdinApi
from qsmr.scancheck import MissingScans, check_scans

odin = odin_service.odin
NUMBERS = count()
DAY = 480 * STEP  # ticks, a little more than a day


class Counting(OdinApi):
    """It counts what is asked."""

    asked = 0

    def _ask(self, *words, **options):
        self.asked += 1
        return super()._ask(*words, **options)


def complaint(odin, *scans):
    with pytest.raises(MissingScans) as fault:
        check_scans(OdinApi(odin.root), [Scan(*scan) for scan in scans])
    return str(fault.value)


def test_scans_that_level_1_lists_are_fine(odin):
    api = Counting(odin.root)
    check_scans(api, [Scan(1, FIRST + STEP * number) for number in range(-300, 300)])
    assert api.asked <= 5


def test_a_frequency_mode_that_level_1_does_not_have_is_named(odin):
    assert "2 of 3 new scans are not in level 1" in complaint(odin, (1, FIRST), (77, FIRST), (77, FIRST + STEP))
    assert ": 77:7123991206, 77:7123994091. Nothing was sent: correct" in complaint(
        odin, (77, FIRST), (77, FIRST + STEP)
    )


@pytest.mark.parametrize("scan", [7, 2**40, 2**63 - 1, FIRST + 4000 * DAY])
def test_a_scan_of_no_day_of_the_mission_is_named(odin, scan):
    assert f"1 of 2 new scans are not in level 1, so that their jobs would fail: 1:{scan}." in complaint(
        odin, (1, FIRST), (1, scan)
    )


def test_a_scan_that_no_list_has_and_level_1_knows_is_fine(odin):
    check_scans(OdinApi(odin.root), [Scan(1, FIRST + 1)])


def test_a_list_of_many_days_takes_few_questions(odin):
    api, told = Counting(odin.root), []
    scans = [Scan(1, FIRST + DAY * day + STEP * number) for day in range(-400, 400) for number in (0, 1)]
    check_scans(api, scans, lambda done, total: told.append((done, total)))
    assert api.asked <= 25
    assert told[-1] == (20, 20)
    with pytest.raises(MissingScans, match="At least 128 of 1600 new scans are not in level 1"):
        check_scans(OdinApi(odin.root), [Scan(77, scan) for _mode, scan in scans])


def test_a_service_that_is_none_is_no_verdict():
    with pytest.raises(QsmrError) as fault:
        check_scans(OdinApi("http://127.0.0.1:9/rest_api", tries=1), [Scan(1, FIRST)])
    assert not isinstance(fault.value, MissingScans)


def test_what_level_1_does_not_have_becomes_no_job(tmp_path, job_service, odin):
    lab = Lab(tmp_path, job_service, odin, 2)
    lab.project = f"check{next(NUMBERS)}"
    wrong = lab.play("jobs.yml", qsmr_freq_mode="77")
    assert wrong.returncode == 2
    assert "2 of 2 new scans are not in level 1" in " ".join((wrong.stdout + wrong.stderr).split())
    assert lab.api.project(lab.project) is None
    lab.config.write_text(lab.config.read_text().replace(odin.root, "http://127.0.0.1:9/rest_api"))
    told = lab.play("jobs.yml", qsmr_freq_mode="77")
    assert "Nobody knows whether level 1 has the new scans: GET http://127.0.0.1:9" in " ".join(
        (told.stdout + told.stderr).split()
    )
    assert (told.returncode, len(lab.api.jobs(lab.project))) == (0, 2)
