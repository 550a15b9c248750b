"""Where scans come from: listings of the Odin stand-in, and what goes wrong with them."""

from datetime import date

import pytest
import requests
from contract import odin_service
from job_service_double import Fault, JobServiceDouble
from qsmr import odinapi
from qsmr.errors import QsmrError
from qsmr.odinapi import OdinApi
from qsmr.scanids import read_scans
from qsmr.scansource import ScanSource

odin = odin_service.odin


def scans(source, root, path):
    source.write(path, OdinApi(root))
    return [(mode, scan) for mode, scan, _ in read_scans(path, source.freq_modes)]


def listed(odin, mode, first, end):
    url = f"{odin.root}/v5/level1/{mode}/scans/"
    answer = requests.get(url, params={"start_time": first, "end_time": end}, timeout=60).json()
    return [(mode, entry["ScanID"]) for entry in answer["Data"]]


def test_a_period_has_both_of_its_days_and_all_of_its_modes(odin, tmp_path):
    source = ScanSource("period", [1, 13], first_day="2015-01-10", last_day="2015-01-12")
    expected = listed(odin, 1, "2015-01-10", "2015-01-13") + listed(odin, 13, "2015-01-10", "2015-01-13")
    assert expected
    assert scans(source, odin.root, tmp_path / "state/scans.txt") == expected


def test_the_verification_data_set(odin, tmp_path):
    found = scans(ScanSource("verification", [1]), odin.root, tmp_path / "scans.txt")
    assert found
    assert all(mode == 1 for mode, _ in found)


def test_production_goes_as_far_as_there_are_weather_data(odin, tmp_path):
    end = OdinApi(odin.root).last_weather_day()
    first = end.replace(day=1) if end.day > 3 else date(end.year, end.month - 1, 20)
    source = ScanSource("production", [1], first_day=str(first))
    assert scans(source, odin.root, tmp_path / "scans.txt") == listed(odin, 1, first, end)


@pytest.fixture
def weather_until(monkeypatch):
    """The day of the newest weather data, with level 1 going on after it: the stand-in's end on the same day."""
    day = date(2015, 1, 12)
    monkeypatch.setattr(OdinApi, "last_weather_day", lambda self: day)
    return day


@pytest.mark.parametrize(("last_day", "end"), [("2015-01-10", 11), ("2015-01-11", 12), ("2015-01-30", 12)])
def test_production_ends_with_the_last_day_or_the_weather_data_whichever_is_earlier(
    odin, tmp_path, weather_until, last_day, end
):
    source = ScanSource("production", [1], first_day="2015-01-09", last_day=last_day)
    assert scans(source, odin.root, tmp_path / "scans.txt") == listed(odin, 1, "2015-01-09", f"2015-01-{end}")


def test_production_without_a_day_that_has_weather_data_is_refused(odin, tmp_path, weather_until):
    source = ScanSource("production", [1], first_day="2015-01-12", last_day="2015-01-15")
    with pytest.raises(QsmrError, match="first_day 2015-01-12 is after 2015-01-11, the last day with weather data"):
        source.write(tmp_path / "scans.txt", OdinApi(odin.root))
    assert not list(tmp_path.iterdir())


def test_a_list_may_mix_modes(tmp_path):
    source = ScanSource("list", [1, 2], scans=["1:7", "2:8"])
    assert scans(source, "http://127.0.0.1:9", tmp_path / "scans.txt") == [(1, 7), (2, 8)]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (ScanSource("period", [1]), "set qsmr_first_day and qsmr_last_day"),
        (ScanSource("period", [1], first_day="2015-02-30", last_day="2015-03-01"), 'qsmr_first_day is "2015-02-30"'),
        (ScanSource("period", [1], first_day="2015-02-02", last_day="2015-02-01"), "is after"),
        (ScanSource("verification", [3]), "Frequency mode 3 has no verification data set"),
        (ScanSource("list", [1]), "There are no scans"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_no_list(tmp_path, source, says):
    with pytest.raises(QsmrError, match=says):
        source.write(tmp_path / "scans.txt", OdinApi("http://127.0.0.1:9/rest_api"))
    assert not list(tmp_path.iterdir())


PAGE = '{"Data": [{"ScanID": 7}, {"ScanID": 8}], "Type": "Log", "Count": 2}'


@pytest.fixture
def troubled(monkeypatch):
    """A server (the double's, whose faults are answers here) that answers as told, one answer for each request."""
    monkeypatch.setattr(odinapi.time, "sleep", lambda seconds: None)
    with JobServiceDouble() as server:

        def say(*faults):
            left = list(faults)
            server.fault = lambda method, path: left.pop(0) if len(left) > 1 else left[0]
            return server.root

        yield say


@pytest.mark.parametrize(
    "first",
    [
        Fault("say", 200, PAGE[:30]),
        Fault("say", 200, PAGE.replace("2}", "3}")),
        Fault("say", 500, "no"),
        Fault("drop"),
        Fault("say", 200, "<html>"),
        Fault("say", 200, PAGE.replace('{"ScanID": 8}', "null")),
    ],
)
def test_a_listing_that_is_not_whole_is_read_again(troubled, first):
    root = troubled(first, Fault("say", 200, PAGE))
    assert [entry["ScanID"] for entry in OdinApi(root).listing("/v5/level1/1/scans/", "Data")] == [7, 8]


def test_a_listing_that_stays_short_ends_in_an_error_and_no_list(troubled, tmp_path):
    root = troubled(Fault("say", 200, PAGE.replace("2}", "3}")))
    source = ScanSource("period", [1], first_day="2015-01-10", last_day="2015-01-10")
    with pytest.raises(QsmrError, match="2 entries of 3"):
        source.write(tmp_path / "scans.txt", OdinApi(root))
    assert not list(tmp_path.iterdir())


def test_an_unknown_frequency_mode_is_not_asked_for_again(troubled):
    with pytest.raises(QsmrError, match="status 404"):
        OdinApi(troubled(Fault("say", 404, "{}"))).listing("/v5/level1/99/scans/", "Data")
