"""The report in a real browser: whole by itself, every figure seen, readable light and dark, on a phone, printed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bench.report_bench import BEGAN, Service, write_level2
from browser import browser_page, fits, problems
from qsmr.report import write_report

FIGURES = {"progress", "rate", "processing_time", "hosts", "workers", "world", "coverage", "profiles_1", "bands_1"}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("results")
    write_level2(directory, 300)
    now = datetime.fromtimestamp(BEGAN.timestamp() + 14000, UTC)
    return write_report(Service(300, 4), "demo", directory, {"attention": ["lab03 is unreachable"]}, now).path  # type: ignore[arg-type]


def test_report_is_whole_by_itself_and_accessible(report):
    with browser_page() as page:
        asked: list[str] = []
        page.on("request", lambda sent: asked.append(sent.url))
        page.goto(report.as_uri())
        assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
        assert problems(page) == []
        assert page.locator("figure svg[role=img]").count() == len(FIGURES)
        for figure in page.locator("figure svg[role=img]").all():
            box = figure.bounding_box()
            assert box["width"] > 300 and box["height"] > 100
            assert len(figure.get_attribute("aria-label")) > 20
        names = {href.split("/")[-1] for href in (a.get_attribute("href") for a in page.locator("figcaption a").all())}
        assert names == {f"{name}.svg" for name in FIGURES}
        assert all((report.parent / "report_figures" / name).exists() for name in names)
        assert page.locator("h2").all_inner_texts()[0] == "Attention"
        page.click("text=Hosts and workers >> nth=0")
        assert page.locator("#fleet").bounding_box()["y"] < 200


@pytest.mark.parametrize(("scheme", "paper"), [("light", (255, 255, 255)), ("dark", (21, 25, 31))])
def test_text_and_figures_follow_light_and_dark_on_a_phone(report, scheme, paper):
    with browser_page(375, scheme) as page:
        page.goto(report.as_uri())
        assert fits(page)
        found = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert tuple(map(int, re.findall(r"\d+", found))) == paper
        inks = page.evaluate("[...document.querySelectorAll('figure svg text')].map(e => getComputedStyle(e).fill)")
        assert len(set(inks)) == 1
        lightness = sum(map(int, re.findall(r"\d+", inks[0]))) / 3
        assert lightness > 200 if scheme == "dark" else lightness < 60


def test_print_is_light_and_cuts_no_figure(report):
    with browser_page(1000, "dark") as page:
        page.goto(report.as_uri())
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert page.evaluate("getComputedStyle(document.querySelector('figure')).breakInside") == "avoid"
        assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
        assert page.pdf().startswith(b"%PDF")


def test_figure_file_shows_itself(report):
    with browser_page() as page:
        page.goto((report.parent / "report_figures/progress.svg").as_uri())
        assert page.evaluate("document.documentElement.tagName") == "svg"
        assert page.evaluate("getComputedStyle(document.querySelector('text')).fill") == "rgb(28, 33, 40)"
