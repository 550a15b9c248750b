"""Pages: nothing from elsewhere, nothing unescaped, figures that are there."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import jinja2
import pytest
from qsmr import page
from qsmr.errors import QsmrError

TEMPLATE = """{% extends "page.html" %}{% import "parts.html" as parts %}{% block content %}
{{ parts.facts([("Jobs", 60000), ("Rate", none)]) }}
{{ parts.figure(figures.one, figures_folder) }}{{ parts.figure(figures.two, figures_folder) }}
{{ parts.table("Of <i>", ["host", "jobs"], [["<script>", 20000]]) }}{% endblock %}"""


def figure(name: str) -> page.Figure:
    def plot(canvas):
        axes = canvas.subplots()
        axes.plot([1, 2], [3, 1], color=page.BLUE)
        axes.set_xlabel("altitude <km>")

    return page.draw(name, f"Caption of {name}", 'A "line" that falls', plot)


@pytest.fixture(scope="module")
def figures() -> list[page.Figure]:
    return [figure("one"), figure("two")]


@pytest.fixture
def html(figures) -> str:
    return page.render(TEMPLATE, title="<b>T</b>", figures=figures, file="report.html")


def test_everything_is_escaped(html):
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "<title>&lt;b&gt;T&lt;/b&gt;</title>" in html
    assert "Of &lt;i&gt;" in html


def test_page_loads_nothing(html):
    """Namespaces are names and no addresses."""
    loaded = re.findall(r'(?:src|href)="(?!#|data:|report_figures/)([^"]*)"|url\((?!#)', html)
    assert not loaded
    assert "default-src 'none'" in html


def test_ids_are_unique_and_references_lead_somewhere(html):
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', html))
    assert {one or two for one, two in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', html)} <= set(ids)


def test_figures_take_the_pages_colours_and_say_what_they_show(html):
    assert f"stroke: var(--blue, {page.BLUE})" in html
    assert html.count('role="img" aria-label="A &#34;line&#34; that falls"') == 2


def test_numbers_are_readable(html):
    assert ">60,000<" in html
    assert '<td class="n">20,000</td>' in html
    assert [page.number(value) for value in (None, 0, 1234.5, 0.01234, "text", True)] == [
        "–", "0", "1,234", "0.0123", "text", "True",
    ]  # fmt: skip


def test_files_are_written_beside_the_page(tmp_path, html, figures):
    path = tmp_path / "results" / "report.html"
    page.write(path, html, figures)
    assert path.read_text() == html
    folder = path.parent / "report_figures"
    for name in ("one", "two"):
        assert ElementTree.fromstring((folder / f"{name}.svg").read_text()).tag.endswith("svg")  # noqa: S314
        assert f'href="report_figures/{name}.svg"' in html
    own = folder / "for_my_talk.svg"
    own.write_text("<svg/>")
    page.write(path, html, figures[:1])
    assert own.exists(), "a file of the user's"
    own.unlink()
    assert [found.name for found in folder.iterdir()] == ["one.svg"]


def test_same_figure_is_the_same_bytes(figures):
    assert figure("one").svg == figures[0].svg


def test_colours_have_contrast():
    """WCAG 2.1, 1.4.3: 4.5 for text."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for which in (0, 1):
        paper, panel = (luminance(page.COLOURS[name][which]) for name in ("paper", "panel"))
        for name in set(page.COLOURS) - {"paper", "panel", "line", "grey"}:
            for behind in (paper, panel):
                low, high = sorted((luminance(page.COLOURS[name][which]), behind))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (name, which)


def test_missing_value_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        page.render("{{ nothing }}", title="")


def test_unwritable_page_says_where(tmp_path, html):
    (tmp_path / "file").write_text("")
    with pytest.raises(QsmrError, match="cannot be written"):
        page.write(tmp_path / "file" / "report.html", html)
