"""A project's report: every number that it tells, and that it is made anew only when there is something new."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from bench.report_bench import BEGAN, Service, write_level2
from qsmr.jobapi import JobApiError
from qsmr.report import JobTable, read_gaps, read_places, read_profiles, scan_time, write_report

NOW = datetime.fromtimestamp(BEGAN.timestamp() + 4 * 3600, UTC)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("results")
    write_level2(directory, 400)
    return directory


class Text(HTMLParser):
    """The words of a page and its headings."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.headings: list[str] = []
        self.hidden = self.heading = False
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, _attributes):
        self.hidden = self.hidden or tag in ("style", "svg")
        self.heading = tag in ("h1", "h2", "h3")
        if self.heading:
            self.headings.append("")

    def handle_endtag(self, tag):
        if tag in ("style", "svg"):
            self.hidden = False
        self.heading = False

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)
        if self.heading:
            self.headings[-1] += data


def write(directory: Path, service: object = None, picture: dict | None = None, **more) -> tuple[bool, str]:
    report = write_report(service or Service(400, 4), "demo", directory, picture or {}, NOW, **more)  # type: ignore[arg-type]
    return report.changed, report.path.read_text() if report.path.exists() else ""


@pytest.fixture(scope="module")
def html(results) -> str:
    changed, html = write(results)
    assert changed
    return html


def test_report_tells_what_the_jobs_are(html):
    table = JobTable.read(Service(400, 4).each_job("demo"))
    text = Text(html).text
    finished, failed = table.count("finished"), table.count("failed")
    assert finished + failed + table.count("running") + table.count("available") == 400
    assert f"Finished {finished}" in text
    assert f"Failed {failed}" in text
    assert "With level 2 360" in text
    assert "2026-11-24 10:00 UTC" in text


def test_report_has_its_parts_in_order_and_every_figure(html, results):
    headings = [heading for heading in Text(html).headings if ":" not in heading]
    assert headings == ["Project demo", "Progress", "Hosts and workers", "Failures", "Scans", "Profiles", "Provenance"]
    names = {path.stem for path in (results / "report_figures").iterdir()}
    assert names == {
        "progress",
        "rate",
        "processing_time",
        "hosts",
        "workers",
        "world",
        "coverage",
        "profiles_1",
        "bands_1",
    }
    assert html.count("<svg") == len(names)
    assert all(f'href="report_figures/{name}.svg"' in html for name in names)


def test_bad_host_and_causes_are_named_with_links_to_the_output(html):
    text = Text(html).text
    assert re.search(r"lab04 stands out: \d+ of the \d+ jobs that ended there failed", text)
    assert "lab01 stands out" not in text
    assert "jobs: MemoryError: cannot take <n> bytes" in text
    links = re.findall(r'href="(http://jobs.example.com/rest_api/v4/demo/jobs/1%3A\d+/output)"', html)
    assert len(links) == JobTable.read(Service(400, 4).each_job("demo")).count("failed")


def test_report_is_made_anew_only_when_something_is_new(results, html):
    picture = {"hosts": [], "attention": ["host9 is <unreachable>"]}
    assert write(results) == (False, html)
    assert write(results, picture=picture, check_mode=True) == (True, html)
    changed, other = write(results, picture=picture)
    assert changed
    assert "host9 is &lt;unreachable&gt;" in other
    assert write(results, picture=picture) == (False, other)
    assert write(results) == (False, other), "what results.yml does not know it leaves as status.yml said it"
    changed, grown = write(results, Service(401, 4))
    assert changed
    assert "host9" not in grown


def test_hosts_are_told_with_their_release_and_workers(tmp_path):
    hosts = [
        {"host": "lab01", "state": "answers", "release": "261124-0a1b2c3d4e", "running": ["261124-0a1b2c3d4e"],
         "healthy": 1, "error": None, "workers": [{"name": "w", "condition": "healthy"}]},
        {"host": "idle", "state": "unreachable", "release": None, "running": [], "healthy": 0, "error": "x",
         "workers": []},
    ]  # fmt: skip
    _changed, html = write(tmp_path, Service(40, 2), {"hosts": hosts})
    text = Text(html).text
    assert re.search(r"lab01 261124-0a1b2c3d4e 1 of 1 healthy \d+", text)
    assert "idle – unreachable 0 0 0 – – –" in text
    assert "No level 2 is on disk yet" in text


def test_report_of_a_project_without_jobs_says_so(tmp_path):
    _changed, html = write(tmp_path, Service(0))
    assert "It has no jobs yet" in html
    assert "No job has ended yet." in html
    assert "No worker has claimed a job yet." in html
    assert "<svg" not in html


@pytest.mark.parametrize("number", [1, 2, 3])
def test_report_of_very_few_jobs_is_no_error(tmp_path, number):
    changed, html = write(tmp_path, Service(number, 1))
    assert changed
    assert not re.search(r"\bnan\b", Text(html).text.lower())


def test_service_that_breaks_off_leaves_the_report_as_it_was(tmp_path):
    _changed, html = write(tmp_path, Service(30, 2))

    class Broken(Service):
        def output(self, _project, _job):
            raise JobApiError("gone", status=503)

    with pytest.raises(JobApiError):
        write(tmp_path, Broken(900, 2))
    assert (tmp_path / "report.html").read_text() == html


def job(number: int, status: str, **more) -> dict:
    return {"Id": f"1:{number}", "Status": status, "IsClaimed": True, "Worker": "UWorker_a_1", **more}


def test_odd_jobs_are_counted_and_break_nothing():
    table = JobTable.read(
        [
            job(1, "Finished", Finished="2026-11-24T10:00:00", ProcessingTime=2.5),
            job(2, "Failed", Failed=None, ProcessingTime=None),
            job(3, "Failed", IsClaimed=False, Worker=None),
            job(4, "Halfway"),
            {"Id": "not a scan", "Status": None, "IsClaimed": True},
        ]
    )
    assert [table.count(state) for state in ("finished", "failed", "running", "available")] == [1, 1, 2, 1]
    assert np.isnan(table.scans).tolist() == [False, False, False, False, True]
    assert [failure["Id"] for failure in table.failed] == ["1:2"]


def test_time_of_a_scan_is_that_of_its_id():
    """Scan 7123991206 is of 2015-04-01 00:01 (Odin API contract, section 4)."""
    assert scan_time(7123991206) == pytest.approx(datetime(2015, 4, 1, 0, 1, 27, tzinfo=UTC).timestamp(), abs=180)


def test_rate_is_that_of_the_last_minutes():
    table = JobTable.read(
        job(n, "Finished", Finished=f"2026-11-24T09:{n // 60:02}:{n % 60:02}") for n in range(0, 3600, 2)
    )
    rate = table.rate(datetime(2026, 11, 24, 10, 0, tzinfo=UTC).timestamp())
    assert rate
    assert rate.per_minute == pytest.approx(30, rel=0.05)
    assert JobTable.read([job(1, "Started")]).rate(0.0) is None


def test_a_single_job_has_a_rate_and_figures_that_bear_it(tmp_path):
    one = job(1, "Finished", Finished="2026-11-24T10:00:00", ProcessingTime=30.0)
    rate = JobTable.read([one]).rate(NOW.timestamp())
    assert rate and rate.per_minute == pytest.approx(2)
    service = Service(0)
    service.each_job = lambda _project: iter([one])  # type: ignore[method-assign, assignment]
    _changed, html = write(tmp_path, service)
    assert "each bar over 30 s" in html
    assert "Bars of jobs a minute over time, 2 on average." in html, "the chart says what the number above it says"
    assert "Jobs a minute 2" in Text(html).text
    jobs = html.partition('id="rate')[0]
    assert ">0.5<" not in jobs.replace(" ", ""), "there is no half job"


def few(**states: int) -> Service:
    """So many jobs in each state, a minute each."""
    jobs = [
        job(n, state.title(), **{state.title(): f"2026-11-24T09:{n:02}:00"}, ProcessingTime=60.0)
        for n, state in enumerate(state for state, number in states.items() for _n in range(number))
    ]
    service = Service(0)
    service.each_job = lambda _project: iter(jobs)  # type: ignore[method-assign, assignment]
    return service


@pytest.mark.parametrize(
    ("service", "fetched", "state", "advice"),
    [
        (few(failed=3), True, "All 3 jobs have failed", "No job has finished, so there is no level 2."),
        (few(failed=2, available=1), False, "All 2 jobs that ended have failed", "No job has finished, so there"),
        (few(finished=1, failed=1), False, "100 % of the jobs have ended, 1 of them failed", "run results.yml, which"),
        (few(finished=2), True, "100 % of the jobs have ended", "No scan that finished has a profile on disk"),
        (few(available=2), False, "0 % of the jobs have ended", "No job has finished, so there is no level 2."),
    ],
    ids=["all failed", "all that ended failed", "half failed", "no level 2", "nothing ended"],
)
def test_report_says_what_became_of_the_jobs_and_advises_what_is_left_to_do(tmp_path, service, fetched, state, advice):
    """Also where results.yml, which writes it, has run."""
    if fetched:
        (tmp_path / "summary.csv").write_text("freq_mode,scan_id,outcome,reason\n")
    _changed, html = write(tmp_path, service)
    text = Text(html).text
    assert f"{state}. Job service" in text
    assert advice in text
    assert ("run results.yml" in text) == ("run results.yml" in advice)
    assert "done" not in text.lower()


def test_report_tells_what_made_the_level_2(tmp_path):
    """Also where every job failed: the hosts' releases are known then."""
    manifest = {
        "snapshot_id": "261124-0a1b2c3d4e", "created": "2026-11-24T08:00:00Z",
        "code": {"git_commit": "96f8ad9" + "0" * 33, "git_dirty": True, "directory": "/home/ana/qsmr"},
        "image": {"name": "qsmr_snapshot_demo:261124-0a1b2c3d4e", "id": "sha256:12"},
        "base_image": {"name": "debian:12", "id": "sha256:34"}, "settings": {"config": "", "invemode": "stnd"},
    }  # fmt: skip
    (tmp_path / "qsmr_snapshot_demo").mkdir()
    (tmp_path / "qsmr_snapshot_demo/snapshot.json").write_text(json.dumps(manifest))
    host = {"host": "lab01", "state": "answers", "release": "261124-0a1b2c3d4e", "running": [], "healthy": 0}
    picture = {"hosts": [{**host, "error": None, "workers": []}], "attention": []}
    changed, html = write(tmp_path / "results", few(failed=3), picture, snapshot_dir=tmp_path)
    assert changed
    row = "261124-0a1b2c3d4e 0 96f8ad9" + "0" * 33 + ", with changes that are not committed"
    assert f"{row} config=(default), invemode=stnd /home/ana/qsmr 2026-11-24T08:00:00Z debian:12" in Text(html).text
    assert write(tmp_path / "results", few(failed=3), picture, snapshot_dir=tmp_path) == (False, html)
    unknown = {"hosts": [{**picture["hosts"][0], "release": "older"}], "attention": []}
    _changed, html = write(tmp_path / "results", few(failed=3), unknown, snapshot_dir=tmp_path)
    assert "older 0 its snapshot.json was not found" in Text(html).text


def test_gaps_are_told_by_reason(tmp_path):
    lines = ["freq_mode,scan_id,outcome,reason", "1,1,retrieved,"]
    lines += [f"1,{n},no_result,only {n} spectra left" for n in range(2, 30)] + ["1,40,missing,the Odin API has none"]
    (tmp_path / "summary.csv").write_text("\n".join(lines) + "\n")
    first, second = read_gaps(tmp_path)
    assert (first.reason, len(first.scans), second.scans) == ("only <n> spectra left", 28, ["1:40"])
    _changed, html = write(tmp_path)
    assert "no profile, says the retrieval" in html and "1:2, 1:3" in html and "1:29" not in html


def test_profiles_are_percentiles_in_their_units(results):
    (found,) = read_profiles(results)
    assert (found.scans, found.used, found.unit) == (360, 360, "ppm")
    peak = int(np.argmax(found.percentiles[2]))
    assert found.altitude[peak] == pytest.approx(34, abs=2)
    assert found.percentiles[2][peak] == pytest.approx(8, rel=0.1)
    assert (np.diff(found.percentiles, axis=0) >= 0).all()
    assert found.bands.shape == (len(found.altitude), 18)
    assert np.nanmedian(found.bands[peak]) == pytest.approx(8, rel=0.25)


def test_places_are_within_the_map(results):
    longitude, latitude = read_places(results)
    assert len(longitude) == 360
    assert longitude.min() >= -180 and longitude.max() <= 180
    assert 80 < latitude.max() <= 82
