"""Two projects side by side: the verdict names what differs, and nothing that does not."""

from __future__ import annotations

import csv
import json
import re
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import xarray
from browser import browser_page, fits, problems
from level2_documents import MANIFEST, Project, made_up, retrieved
from qsmr import compare as comparing
from qsmr.compare import Side, compare
from qsmr.comparepage import write_all
from qsmr.errors import QsmrError
from qsmr.grids import common_grid, on_grid

sys.path.append(str(Path(__file__).parents[2] / "images/odin"))
from odin import scans  # noqa: E402

SCANS = range(1, 41)


def side(directory, name, documents, config="q_std", snapshot="261124-0000000001", **manifest):
    project = Project(directory / name)
    found = project.snapshots / "qsmr_snapshot_demo_261124/snapshot.json"
    found.parent.mkdir(parents=True)
    told = {**MANIFEST, "snapshot_id": snapshot, "settings": {"QSMR_CONFIG": config, "QSMR_INVEMODE": ""}, **manifest}
    found.write_text(json.dumps(told))
    project.finish(*documents)
    project.update()
    return Side.read(name, project.directory)


def compared(directory, here, there):
    return compare(side(directory, "new", here), side(directory, "old", there))


@pytest.fixture(scope="module")
def loose(tmp_path_factory):
    """The example code with a weaker a priori against its standard configuration, on the same scans."""
    directory = tmp_path_factory.mktemp("compare")
    ids = [*scans.listed(1, date(2015, 1, 11), date(2015, 1, 12))[::20], 7123991000]
    sides = []
    for name, config, snapshot in (
        ("loose", "q_loose", "261124-0000000002"),
        ("standard", "q_std", "261124-0000000001"),
    ):
        documents = retrieved(ids[1:] if name == "loose" else ids, config, snapshot=snapshot)
        sides.append(side(directory, name, documents, config, snapshot))
    return compare(*sides), directory


def test_verdict_names_the_true_difference_of_two_configurations(loose):
    result, _directory = loose
    verdict = result.verdict
    assert verdict.startswith("loose differs from standard on 23 common scans: ")
    for words in (r"total error is 1\d\d% larger", r"noise error is \d\d\d% larger", "mean O3"):
        assert re.search(words, verdict), words
    assert verdict.endswith(
        "What was set otherwise: QSMR_CONFIG q_std → q_loose, apriori_error 0.4 → 1.0, correlation_length 5000 → 3000."
    )


def test_numbers_agree_with_theory(loose):
    """A weaker a priori: more noise, more from the measurement, and a total error that is the larger for it."""
    data = loose[0].products[0].data
    assert (data.vmr_error_noise_mean > 1.5 * data.vmr_error_noise_mean_other).mean() > 0.9
    assert float(data.measurement_response_difference_mean.mean()) > 0
    difference = data.vmr.values - data.vmr_other.values
    for found, expected in (
        (data.vmr_difference_mean, difference.mean(0)),
        (data.vmr_difference_spread, difference.std(0, ddof=1)),
        (data.vmr_difference_percentile.sel(percentile=50), np.median(difference, 0)),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-12)


def test_files_hold_what_the_page_tells(loose):
    result, directory = loose
    target = directory / "out"
    assert write_all(result, target)
    page = (target / "compare.html").read_text()
    assert result.verdict.replace("'", "&#39;") in page
    assert page.count("<figure") == page.count('role="img"') == 5
    assert len(list((target / "compare_figures").glob("*.svg"))) == 5
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")
    with xarray.open_dataset(next(target.glob("compare_*.nc"))) as data:
        assert data.sizes["scan"] == 23
        assert json.loads(data.provenance)[0]["snapshot_id"] == "261124-0000000002"
    with (target / "scans.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 25
    assert {row["outcome"] for row in rows} == {"retrieved", "no_result", ""}
    assert not write_all(result, target)
    for width, scheme in ((390, "light"), (1200, "dark")):
        with browser_page(width, scheme) as browser:
            browser.goto((target / "compare.html").as_uri())
            assert fits(browser)
            assert problems(browser) == []
            heights = browser.eval_on_selector_all("figure svg", "found => found.map(e => e.clientHeight)")
            assert min(heights) > 150


def test_same_profiles_are_said_to_be_the_same(tmp_path):
    documents = [made_up(scan) for scan in SCANS]
    result = compared(tmp_path, documents, documents)
    assert result.verdict == "new and old give the same profiles on all 40 common scans."
    assert write_all(result, tmp_path / "out", check_mode=True)
    assert not (tmp_path / "out").exists()


def test_a_bias_is_found_where_it_is(tmp_path):
    here = [made_up(scan) for scan in SCANS]
    for document in here:
        vmr = document["L2"][0]["VMR"]
        vmr[10:14] = [1.05 * value for value in vmr[10:14]]
    result = compared(tmp_path, here, [made_up(scan) for scan in SCANS])
    assert "mean O3 differs within 36 to 42 km, most at 36 km: +5.0%" in result.verdict
    data = result.products[0].data
    assert (data.vmr_difference_q.values[10:14] <= 0.001).all()
    assert (data.vmr_difference_q.values[14:] == 1).all()
    assert (data.vmr_difference_low[10:14] > 0).all()


def other_draw(here, there):
    """Profiles with noise of their own for the scans of others."""
    for mine, its in zip(here, there, strict=True):
        its_id = its["L2i"]["ScanID"]
        for part in (mine["L2i"], mine["L2"][0]):
            part["ScanID"] = its_id
        mine["L2"][0] |= {name: its["L2"][0][name] for name in ("MJD", "Lat1D", "Lon1D")}
        mine["URLS"] = its["URLS"]
    return here


def test_noise_of_another_draw_is_no_difference(tmp_path):
    there = [made_up(scan) for scan in SCANS]
    here = other_draw([made_up(scan + 1000) for scan in SCANS], there)
    verdict = compared(tmp_path, here, there).verdict
    assert verdict.startswith("Cannot tell whether new differs from old on 40 common scans: whether mean O3 differs")
    assert re.search(r"about [\d,]+ scans would tell", verdict)


def test_a_sure_but_tiny_difference_is_told_with_that_it_does_not_matter(tmp_path):
    there = [made_up(scan) for scan in SCANS]
    result = compared(tmp_path, [made_up(scan, factor=1.001) for scan in SCANS], there)
    assert result.verdict.startswith("new differs from old on 40 common scans, by less than what matters: mean O3")
    assert "+0.1%" in result.verdict


def test_no_difference_is_said_where_the_data_show_it(tmp_path):
    there = [made_up(scan) for scan in range(1, 201)]
    here = [made_up(scan) for scan in range(1, 201)]
    rng = np.random.default_rng(5)
    for document in here:
        product = document["L2"][0]
        product["VMR"] = [value * (1 + 0.01 * rng.standard_normal()) for value in product["VMR"]]
    verdict = compared(tmp_path, here, there).verdict
    assert verdict.startswith("new does not differ from old on 200 common scans: mean O3 does not differ by as much as")


def profile(name, change):
    def apply(document):
        product = document["L2"][0]
        product[name] = change(np.array(product[name], float)).tolist()

    return apply


def info(name, value):
    return lambda document: document["L2i"].update({name: value})


CHANGES = {
    "temperature differs by +5 K": profile("Temperature", lambda values: values + 5),
    "pressure is 5.0% larger": profile("Pressure", lambda values: values * 1.05),
    "a priori is 29% larger": profile("Apriori", lambda values: values * 1.29),
    "total error is 50% larger": profile("ErrorTotal", lambda values: values * 1.5),
    "noise error is 50% smaller": profile("ErrorNoise", lambda values: values * 0.5),
    "measurement response is 11% smaller": profile("MeasResponse", lambda values: values - 0.1),
    "latitude of the levels differs by +1": profile("Latitude", lambda values: values + 1),
    "longitude of the levels differs by +1": profile("Longitude", lambda values: values + 1),
    "averaging kernel's diagonal is 50% smaller": profile("AVK", lambda values: values * 0.5),
    "quality is 50% smaller (median 0.5 instead of 1)": lambda document: document["L2"][0].update(Quality=0.5),
    "latitude differs by +1": lambda document: document["L2"][0].update(Lat1D=document["L2"][0]["Lat1D"] + 1),
    "longitude differs by +1": lambda document: document["L2"][0].update(Lon1D=document["L2"][0]["Lon1D"] + 1),
    "residual is 50% larger": info("Residual", 1.5),
    "number of spectra is 33% smaller": info("STW", [1, 2]),
    "LO frequency differs by +1e+06": info("LOFreq", 4.97e11 + 1e6),
    "frequency offset differs by +5e+04": info("FreqOffset", 5e4),
    "cost is ": lambda document: document.update(L2c=[line.replace("1.234", "2.5") for line in document["L2c"]]),
}


@pytest.mark.parametrize("words", CHANGES)
def test_a_change_of_any_field_is_named(tmp_path, words):
    here, there = ([made_up(scan) for scan in range(1, 13)] for _side in range(2))
    for document in [*here, *there]:
        document["L2"][0]["Quality"] = 1.0
    for document in here:
        CHANGES[words](document)
    verdict = compared(tmp_path, here, there).verdict
    assert verdict.startswith("new differs from old on 12 common scans: ")
    assert words in verdict


def test_what_is_not_measured_is_told_apart(tmp_path):
    here, there = ([made_up(scan) for scan in SCANS] for _side in range(2))
    for document in [*here, *there]:
        document["L2"][0]["MeasResponse"][20:] = [0.02] * 5
    for document in here:
        for name in ("VMR", "Apriori"):
            values = document["L2"][0][name]
            values[20:] = [1.29 * value for value in values[20:]]
    result = compared(tmp_path, here, there)
    assert "mean O3 differs" not in result.verdict
    assert "a priori is 29% larger within 56 to 64 km" in result.verdict
    texts = [finding.text for finding in result.products[0].findings]
    assert "O3 differs where it is not measured (response below 0.7), within 56 to 64 km" in texts


def test_many_new_failures_are_a_difference(tmp_path):
    there = [made_up(scan) for scan in SCANS]
    failed = [{"L2": [], "L2i": {"ScanID": scan, "FreqMode": 1}, "L2c": ["Error: too noisy"]} for scan in SCANS[25:]]
    verdict = compared(tmp_path, [*(made_up(scan) for scan in SCANS[:25]), *failed], there).verdict
    assert verdict.startswith("new differs from old on 25 common scans: 15 scans of 40 have no profile in new alone")


def test_failures_are_told_apart(tmp_path):
    def empty(scan):
        return {"L2": [], "L2i": {"ScanID": scan, "FreqMode": 1}, "L2c": ["Error: too few spectra"]}

    here = [*(made_up(scan) for scan in SCANS), empty(50), empty(51), made_up(52), made_up(60)]
    there = [*(made_up(scan) for scan in SCANS), made_up(50), empty(51), empty(52), made_up(61)]
    result = compared(tmp_path, here, there)
    assert result.new_failures == [((1, 50), "no_result", "too few spectra")]
    assert result.gone_failures == [((1, 52), "no_result", "too few spectra")]
    assert "Failures: 1 new, 1 gone" in result.verdict
    assert (result.coverage["only new"], result.coverage["only old"]) == (1, 1)


def test_coarser_levels_decide_and_the_finer_profile_is_put_on_them(tmp_path):
    here = [made_up(scan) for scan in SCANS]
    for document in here:
        product = document["L2"][0]
        for name, column in product.items():
            if isinstance(column, list):
                product[name] = [row[::2] for row in column[::2]] if name == "AVK" else column[::2]
    result = compared(tmp_path, here, [made_up(scan) for scan in SCANS])
    assert result.products[0].data.altitude.values.tolist() == list(range(16000, 65000, 4000))
    assert result.verdict.startswith("new and old give the same profiles")


def test_levels_of_each_scans_own_meet_on_a_regular_grid():
    rng = np.random.default_rng(1)
    altitude = 16e3 + 2e3 * np.arange(25) + rng.uniform(0, 500, (40, 25))
    grid = common_grid(altitude, altitude)
    assert grid[0] >= altitude.min()
    assert set(np.diff(grid)) == {2000.0}
    np.testing.assert_allclose(on_grid(2 * altitude, altitude, grid)[:, 1:-2], 2 * grid[None, 1:-2].repeat(40, 0))


def test_profiles_are_nan_where_they_do_not_reach():
    altitude = np.array([[20e3, 10e3, np.nan], [30e3, 20e3, 10e3]])
    values = np.array([[2.0, 1.0, np.nan], [3.0, 2.0, 1.0]])
    expected = [[1.0, 1.5, 2.0, np.nan], [1.0, 1.5, 2.0, 2.5]]
    np.testing.assert_array_equal(on_grid(values, altitude, np.array([10e3, 15e3, 20e3, 25e3])), expected)


def test_levels_that_are_no_round_numbers_are_all_compared(tmp_path):
    here, there = ([made_up(scan) for scan in SCANS] for _side in range(2))
    for document in [*here, *there]:
        product = document["L2"][0]
        product["Altitude"] = [altitude + 0.3 for altitude in product["Altitude"]]
    for document in here:
        document["L2"][0]["VMR"][0] *= 10
    result = compared(tmp_path, here, there)
    assert "most at 16 km: +900.0%" in result.verdict


def test_gaps_are_not_bridged():
    altitude = np.array([[10.0, 12.0, 14.0, 16.0]]) * 1e3
    values = np.array([[1.0, np.nan, 3.0, 4.0]])
    found = on_grid(values, altitude, np.array([10.0, 11.0, 12.0, 13.0, 14.0, 15.0]) * 1e3)
    np.testing.assert_array_equal(found, [[1.0, np.nan, np.nan, np.nan, 3.0, 3.5]])


def test_products_of_other_names_are_paired_by_species(tmp_path):
    here = [made_up(scan, products=("ClO / 501 GHz", "O3 / 501 GHz / 45 to 70 km")) for scan in SCANS]
    there = [made_up(scan, products=("O3 / 501 GHz / 20 to 50 km", "N2O / 502 GHz")) for scan in SCANS]
    pairs = [(product.product, product.other_product) for product in compared(tmp_path, here, there).products]
    assert pairs == [("O3 / 501 GHz / 45 to 70 km", "O3 / 501 GHz / 20 to 50 km")]


def test_products_that_do_not_overlap_are_said_so(tmp_path):
    here, there = [made_up(scan) for scan in SCANS], [made_up(scan) for scan in SCANS]
    for document in here:
        product = document["L2"][0]
        product["Altitude"] = [altitude + 60e3 for altitude in product["Altitude"]]
    result = compared(tmp_path, here, there)
    assert "O3 has no scan or no altitude in common" in result.verdict
    assert write_all(result, tmp_path / "out")


def test_mixed_unknown_and_dirty_snapshots_are_noted(tmp_path):
    here = [made_up(scan, snapshot="261124-0000000001" if scan % 2 else "261125-abcdefabcd") for scan in SCANS]
    dirty = {"code": {"directory": "/home/ana", "git_commit": "c0ffee", "git_dirty": True}}
    result = compare(side(tmp_path, "new", here, **dirty), side(tmp_path, "old", [made_up(scan) for scan in SCANS]))
    assert result.notes == [
        "Several snapshots took part in new: 20 by 261124-0000000001, 20 by 261125-abcdefabcd",
        "What made new is not all known: no snapshot.json of 261125-abcdefabcd was found",
        "The code of new had changes that are not in its git commit",
        "What made old is not all known: no snapshot.json of 261124-0123456789 was found",
    ]


def test_commits_between_come_from_the_code_where_it_is(tmp_path):
    import subprocess

    def git(*words):
        identity = ("-c", "user.name=ana", "-c", "user.email=ana@example.com", "-c", "commit.gpgsign=false")
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    commits = []
    for subject in ("first", "second", "third"):
        git("commit", "-q", "--allow-empty", "-m", subject)
        commits.append({"git_commit": git("rev-parse", "HEAD"), "code_directory": str(tmp_path)})
    found = comparing.commits_between([commits[0]], [commits[2]])
    assert [line.split(" ", 2)[2] for line in found] == ["third", "second"]
    assert comparing.commits_between([commits[0]], [{**commits[2], "code_directory": "/nosuch"}]) == []
    assert comparing.commits_between([commits[0]], [commits[0]]) == []


@pytest.mark.parametrize(
    ("here", "there", "words"),
    [
        ("old", [1], "compared with itself"),
        ("new", [99], "no scan with a profile in common"),
        ("new", [], "have no scan"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path, here, there, words):
    other = side(tmp_path, "old", [made_up(scan) for scan in there])
    mine = other if here == "old" else side(tmp_path, "new", [made_up(1)])
    with pytest.raises(QsmrError, match=words):
        compare(mine, other)
    with pytest.raises(QsmrError, match="has no results of nosuch"):
        Side.read("nosuch", tmp_path / "nosuch")


@pytest.mark.parametrize(("count", "words"), [(1, "only 1 scan in common"), (5, "only 5 scans in common")])
def test_few_scans_are_too_few_to_tell(tmp_path, count, words):
    here, there = ([made_up(scan, factor=factor) for scan in range(1, count + 1)] for factor in (2, 1))
    result = compared(tmp_path, here, there)
    assert result.verdict.startswith("Cannot tell whether new differs from old")
    assert f"{words}, too few to tell (O3 is +100.0% on average there)" in result.verdict
    assert write_all(result, tmp_path / "out")
    assert "nan" not in (tmp_path / "out/compare.html").read_text()
