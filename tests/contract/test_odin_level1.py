"""Odin API contract, section 5: level 1 and scan lists of the stand-in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import requests
from contract import odin_service
from contract.odin_service import OdinService

odin = odin_service.odin

SCAN = 7123991206


def get(url: str) -> Any:
    answer = requests.get(url, timeout=10)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_log_names_its_scan_and_leads_to_its_spectra(odin: OdinService) -> None:
    log = get(f"{odin.root}/v4/l1_log/1/{SCAN}/")["Info"]
    named = {
        "AltStart",
        "AltEnd",
        "LatStart",
        "LatEnd",
        "LonStart",
        "LonEnd",
        "MJDStart",
        "MJDEnd",
        "DateTime",
        "SunZD",
    }
    assert set(log) >= named | {"NumSpec", "FreqMode", "ScanID", "URLS"}
    assert (log["FreqMode"], log["ScanID"]) == (1, SCAN)
    assert log["DateTime"].startswith("2015-04-01 00:03:")
    # The place of the contract's example of this scan.
    assert (log["LatStart"], log["LonStart"]) == pytest.approx((-4.48723, 95.4083))
    assert log["URLS"]["URL-spectra"] == f"{odin.root}/v4/scan/AC2/1/{SCAN}/"
    spectra = get(log["URLS"]["URL-spectra"])
    assert len(spectra["Spectrum"]) == log["NumSpec"]
    assert {"AltStart": spectra["Altitude"][0], "AltEnd": spectra["Altitude"][-1]} == pytest.approx(
        {name: log[name] for name in ("AltStart", "AltEnd")}, abs=0.01
    )


def test_the_v5_log_is_the_same(odin: OdinService) -> None:
    log = get(f"{odin.root}/v5/level1/1/{SCAN}/Log/")
    assert log == {"Data": get(f"{odin.root}/v4/l1_log/1/{SCAN}/")["Info"], "Type": "Log", "Count": None}


@pytest.mark.parametrize(
    "path",
    [
        f"v4/l1_log/999/{SCAN}/",
        "v4/l1_log/1/1/",
        "v4/l1_log/1/99999999999999999999999/",
        f"v4/scan/AC1/1/{SCAN}/",
        "v5/level1/999/scans/?start_time=2015-01-11&end_time=2015-01-12",
        "v5/freqmode_info/yesterday/1/",
    ],
)
def test_what_is_not_there_is_404(odin: OdinService, path: str) -> None:
    assert requests.get(f"{odin.root}/{path}", timeout=10).status_code == 404


def test_a_path_without_its_slash_redirects_for_good(odin: OdinService) -> None:
    answer = requests.get(f"{odin.root}/v4/l1_log/1/{SCAN}", allow_redirects=False, timeout=10)
    assert answer.status_code == 308
    assert answer.headers["Location"].endswith(f"/v4/l1_log/1/{SCAN}/")


def test_scans_are_the_same_after_a_restart(odin: OdinService) -> None:
    url = f"{odin.root}/v4/scan/AC1/13/3197688958/"
    before = requests.get(url, timeout=10).content
    odin.restart()
    assert requests.get(url, timeout=10).content == before
    assert requests.get(f"{odin.root}/v4/scan/AC1/13/3197688959/", timeout=10).content != before


def test_spectra_look_like_a_limb_scan(odin: OdinService) -> None:
    scan = get(f"{odin.root}/v4/scan/AC2/1/{SCAN}/")
    spectra, altitude = np.array(scan["Spectrum"]), np.array(scan["Altitude"])
    assert spectra.shape == (altitude.size, len(scan["Frequency"]["IFreqGrid"]))
    sky = scan["Frequency"]["LOFreq"][0] + np.array(scan["Frequency"]["IFreqGrid"])
    middle = np.abs(sky - scan["RestFreq"]).argmin()
    at_30_km = spectra[np.abs(altitude - 30e3).argmin()]
    assert spectra.max() < 320  # K: nothing is warmer than the ground
    assert 180 < at_30_km[middle] < 280  # the line is opaque there,
    assert at_30_km[0] < 20  # the wings see space
    assert spectra[altitude.argmax(), middle] < at_30_km[middle] / 4
    noise = scan["Tsys"][0] / np.sqrt(scan["FreqRes"] * scan["IntTime"][0])
    wing = spectra[altitude > 55e3][:, :10]
    assert np.std(wing - wing.mean(axis=1, keepdims=True)) == pytest.approx(noise, rel=0.3)


def test_a_day_has_the_scans_of_that_day(odin: OdinService) -> None:
    answer = get(f"{odin.root}/v5/level1/1/scans/?start_time=2015-01-12&end_time=2015-01-13&apriori=all")
    assert answer["Type"] == "Log"
    assert answer["Count"] == len(answer["Data"]) > 400
    assert {log["DateTime"][:10] for log in answer["Data"]} <= {"2015-01-12", "2015-01-13"}
    assert 7014791071 in {log["ScanID"] for log in answer["Data"]}
    log = answer["Data"][17]
    assert log == get(log["URLS"]["URL-log"])["Info"]
    assert answer == get(f"{odin.root}/v5/freqmode_info/2015-01-12/1/?apriori=all")
    track = [log["LatStart"] for log in answer["Data"]]
    assert (min(track), max(track)) == pytest.approx((-82, 82), abs=1)


def test_a_list_ends_before_its_end_time(odin: OdinService) -> None:
    def ids(start: str, end: str) -> list[int]:
        answer = get(f"{odin.root}/v5/level1/13/scans/?start_time={start}&end_time={end}")
        return [log["ScanID"] for log in answer["Data"]]

    assert ids("2015-01-11", "2015-01-11") == []
    assert ids("2015-01-11", "2015-01-12") + ids("2015-01-12", "2015-01-13") == ids("2015-01-11", "2015-01-13")
    assert ids("1999-01-01", "2001-08-04") == []


@pytest.mark.parametrize(
    "query", ["", "start_time=2015-01-11", "start_time=2015-01-12&end_time=2015-01-11", "start_time=x&end_time=y"]
)
def test_a_list_needs_a_right_period(odin: OdinService, query: str) -> None:
    assert requests.get(f"{odin.root}/v5/level1/1/scans/?{query}", timeout=10).status_code == 400


def test_a_period_counts_the_scans_of_each_day_and_mode(odin: OdinService) -> None:
    answer = get(f"{odin.root}/v5/period_info/2015/01/11/?length=2")
    assert (answer["PeriodStart"], answer["PeriodEnd"], answer["Type"]) == ("2015-01-11", "2015-01-12", "freqmode_info")
    assert answer["Count"] == len(answer["Data"])
    entry = next(e for e in answer["Data"] if (e["Date"], e["FreqMode"]) == ("2015-01-12", 1))
    assert entry["Backend"] == "AC2"
    assert get(entry["URL"])["Count"] == entry["NumScan"]
    assert get(f"{odin.root}/v5/period_info/2015/01/11/")["PeriodEnd"] == "2015-02-21"


def test_the_verification_set_lists_scans(odin: OdinService) -> None:
    entries = get(f"{odin.root}/v4/vds/AC2/1/allscans")["VDS"]
    assert {(entry["Info"]["FreqMode"], entry["Info"]["Backend"]) for entry in entries} == {(1, "AC2")}
    log = get(entries[0]["URLS"]["URL-log"])["Info"]
    assert log["ScanID"] == entries[0]["Info"]["ScanID"]
    assert log["DateTime"].startswith(entries[0]["Info"]["Date"])
    assert get(f"{odin.root}/v4/vds/AC1/1/allscans") == {"VDS": []}


def test_the_newest_weather_ends_the_mission(odin: OdinService) -> None:
    day = get(f"{odin.root}/v5/config_data/latest_ecmf_file/")["Date"]
    assert get(f"{odin.root}/v5/level1/1/scans/?start_time={day}&end_time=2030-01-01")["Count"] == 0


@pytest.mark.parametrize("freqmode", [1, 2, 8, 13, 14, 17, 19, 21, 22, 23, 24, 25, 29, 102, 113, 119, 121])
def test_every_frequency_mode_has_spectra(odin: OdinService, freqmode: int) -> None:
    log = get(f"{odin.root}/v4/l1_log/{freqmode}/{SCAN}/")["Info"]
    assert get(log["URLS"]["URL-spectra"])["FreqMode"] == freqmode
