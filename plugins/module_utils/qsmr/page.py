"""Pages that need nothing but themselves: HTML from Jinja2, figures from Matplotlib, no script and no network.

A page extends "page.html" and fills its block "content"; it may import the macros of "parts.html"::

    {% extends "page.html" %}
    {% import "parts.html" as parts %}
    {% block content %}
    {{ parts.facts([("Jobs", 60), ("Failed", 0)]) }}
    <section>
    <h2>Progress</h2>
    {{ parts.figure(figures.progress) }}
    {{ parts.table("Jobs by host", ["host", "jobs"], [["host1", 20]]) }}
    </section>
    {% endblock %}

Everything is escaped; what is HTML already comes as markupsafe.Markup. Figures and page use the same colours, which
follow the reader's choice of light or dark.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import QsmrError
from .files import write_atomically
from .hostpaths import STATE_SETTING, why
from .libraries import libraries

with libraries():
    import jinja2
    from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

# Name of each colour: in light and in dark. Text and lines have a contrast of 4.5 and more to the paper in both.
COLOURS = {
    "ink": ("#1c2128", "#e6edf3"),
    "muted": ("#56606b", "#9aa6b2"),
    "line": ("#d3d9e0", "#3a424c"),
    "paper": ("#ffffff", "#15191f"),
    "panel": ("#f4f6f9", "#1d232b"),
    "blue": ("#0b60b0", "#6cb2f7"),
    "green": ("#1a7a3c", "#5cc483"),
    "red": ("#c0261f", "#ff8379"),
    "orange": ("#a85200", "#f0a14a"),
    "purple": ("#7d3fb5", "#c59bf2"),
    "teal": ("#00757d", "#4fc3cb"),
    "grey": ("#76808b", "#8b96a2"),
}
# What to give to Matplotlib as a colour. In the SVG it becomes the page's colour of that name.
INK, MUTED, LINE, PAPER, PANEL, BLUE, GREEN, RED, ORANGE, PURPLE, TEAL, GREY = (pair[0] for pair in COLOURS.values())
# Colours for things of no meaning of their own, in this order.
SERIES = (BLUE, ORANGE, TEAL, PURPLE, GREEN, RED)

_STYLE: Any = {
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "figure.facecolor": "none",
    "font.size": 9.5,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "qsmr",
    "text.color": INK,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}


@dataclass(frozen=True)
class Figure:
    """A drawn figure. ``name`` is that of its file; ``alt`` says what is to be seen to those who don't see it."""

    name: str
    caption: str
    alt: str
    svg: str
    wide: bool = False

    @property
    def file(self) -> str:
        return f"{self.name}.svg"

    def __html__(self) -> str:
        """The drawing itself, for use within a page: its ids are this figure's own."""
        prefixed = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{self.name}-", self.svg[self.svg.index("<svg") :])
        # Without its size it fills what room there is.
        head, rest = prefixed.split(">", 1)
        head = re.sub(r' (?:width|height|xmlns:xlink|version)="[^"]*"', "", head)
        rest = rest.replace("xlink:href", "href")
        return f'{head} role="img" aria-label="{Markup.escape(self.alt)}">{rest}'


def draw(
    name: str,
    caption: str,
    alt: str,
    plot: Callable[[Canvas], None],
    size: tuple[float, float] = (4.8, 3.0),
    wide: bool = False,
) -> Figure:
    """What ``plot`` draws on an empty Matplotlib figure of ``size`` (inches); a ``wide`` one gets a row of its own.

    Artists of very many points should be rasterized: they become one picture within the SVG.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    stream = io.StringIO()
    with rc_context(_STYLE):
        canvas = Canvas(figsize=size, layout="constrained")
        FigureCanvasSVG(canvas)
        plot(canvas)
        canvas.savefig(stream, format="svg", dpi=150, metadata={"Date": None, "Creator": None})
    return Figure(name, caption, alt, _themed(stream.getvalue()), wide)


def legend_above(canvas: Canvas, axes: Any) -> None:
    """The legend of ``axes`` above the figure, where it hides nothing."""
    handles = axes.get_legend_handles_labels()
    canvas.legend(*handles, loc="outside upper right", ncols=4, columnspacing=1.2, fontsize=8.5)


def _themed(svg: str) -> str:
    """The drawing with each colour of ours as the page's, or, in a file of its own, as the light one."""
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.S)
    for name, (light, _dark) in COLOURS.items():
        svg = svg.replace(light, f"var(--{name}, {light})")
    # The first font is there everywhere; widths were computed with DejaVu Sans, so nothing gets wider.
    return svg.replace("'DejaVu Sans', 'Bitstream Vera Sans',", "system-ui, 'DejaVu Sans',")


def render(template: str, *, title: str, figures: Iterable[Figure] = (), file: str = "", **values: Any) -> str:
    """The page whose template text is ``template``; ``file`` is the page's name, for links to its figures' files.

    In the template ``figures`` holds the figures by name. A value that is missing is an error.
    """
    found = {figure.name: figure for figure in figures}
    folder = folder_of(file)
    return environment().from_string(template).render(title=title, figures=found, figures_folder=folder, **values)


def write(path: Path, html: str, figures: Iterable[Figure] = ()) -> None:
    """Write the page, and each figure as an SVG file into ``<page's name>_figures`` beside it.

    Every file appears whole or not at all, the page last. Raises QsmrError.
    """
    try:
        folder = path.parent / folder_of(path.name)
        folder.mkdir(parents=True, exist_ok=True)
        former = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        for figure in figures:
            write_atomically(folder / figure.file, figure.svg)
        # The former page's, if they are no more; whatever else is there is not ours.
        linked = re.findall(rf'href="{re.escape(folder.name)}/([\w.-]+\.svg)"', former)
        for name in set(linked) - {figure.file for figure in figures}:
            (folder / name).unlink(missing_ok=True)
        write_atomically(path, html)
    except OSError as error:
        raise QsmrError(f"{path} cannot be written: {why(error, STATE_SETTING)}") from None


def folder_of(file: str) -> str:
    """The folder of a page's figures."""
    return f"{Path(file).stem}_figures"


@cache
def environment() -> jinja2.Environment:
    """Jinja2 with the page's parts, escaping everything, strict about what is missing."""
    found = jinja2.Environment(
        loader=jinja2.DictLoader({"page.html": _PAGE, "parts.html": _PARTS}),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["number"] = number
    found.globals["style"] = Markup(_css())  # noqa: S704 (ours)
    return found


def number(value: object) -> str:
    """A number as people read it: thousands apart; None and the like as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        if not 1e-4 <= abs(value) < 1000:
            return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return f"{value:#.3g}".rstrip(".")
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _css() -> str:
    light, dark = ("".join(f"--{name}: {pair[which]}; " for name, pair in COLOURS.items()).strip() for which in (0, 1))
    return _CSS.replace("LIGHT", light).replace("DARK", dark)


_CSS = """\
:root { color-scheme: light dark; LIGHT }
@media (prefers-color-scheme: dark) { :root { DARK } }
@media print { :root { color-scheme: light; LIGHT } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 74rem; padding: 1.2rem clamp(0.8rem, 3vw, 2rem) 3rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, "DejaVu Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 0.3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 0.6rem; padding-bottom: 0.2rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 1.4rem 0 0.4rem; }
p { margin: 0.5rem 0; max-width: 46rem; }
a { color: var(--blue); }
.muted, figcaption, caption { color: var(--muted); font-size: 0.9rem; }
nav ul { display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; list-style: none; margin: 0.8rem 0 0; padding: 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(7.4rem, 1fr)); gap: 0.6rem; margin: 1.2rem 0; }
.facts div { background: var(--panel); border: 1px solid var(--line); border-radius: 0.5rem; padding: 0.5rem 0.8rem; }
.facts dt { color: var(--muted); font-size: 0.85rem; }
.facts dd { margin: 0; font-size: 1.3rem; font-weight: 600; font-variant-numeric: tabular-nums; line-height: 1.3; }
.note { background: var(--panel); border-left: 0.3rem solid var(--blue); margin: 0.8rem 0; padding: 0.5rem 0.9rem;
  max-width: none; }
.note.bad { border-color: var(--red); }
.note.good { border-color: var(--green); }
.note.warn { border-color: var(--orange); }
ul.note { list-style-position: inside; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); gap: 1.2rem; }
figure { margin: 0; break-inside: avoid; max-width: 38rem; }
figure.wide { grid-column: 1 / -1; max-width: none; }
figure svg { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; margin: 0.8rem 0; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; overflow-wrap: break-word; }
caption { text-align: left; padding: 0 0 0.3rem; position: sticky; left: 0; max-width: calc(100vw - 1.6rem); }
th, td { padding: 0.3rem 1.1rem 0.3rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; }
th[scope=row]:not(.n) { min-width: 9rem; }
thead th { vertical-align: bottom; }
td.n, th.n { text-align: right; }
td.n, .together { white-space: nowrap; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 0.88rem; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 0.4rem; padding: 0.6rem 0.8rem;
  overflow-x: auto; white-space: pre-wrap; margin: 0.5rem 0; }
details { margin: 0.4rem 0; }
summary { cursor: pointer; }
footer { margin-top: 3rem; padding-top: 0.6rem; border-top: 1px solid var(--line); }
@media (max-width: 32rem) { th[scope=row]:not(.n) { max-width: 45vw; overflow-wrap: anywhere; }
  .facts { grid-template-columns: 1fr 1fr; } h1 { font-size: 1.4rem; }
  figure.wide { overflow-x: auto; } figure.wide svg { width: 44rem; } }
@page { margin: 14mm; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; }
  a { color: inherit; } .figures { grid-template-columns: 1fr 1fr; } .scroll { overflow: visible; break-inside: avoid; }
  h2, h3 { break-after: avoid; } tr { break-inside: avoid; } }
"""

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="referrer" content="no-referrer">
{% block head %}
{% endblock %}
<title>{{ title }}</title>
<link rel="icon" href="data:,">
<style>
{{ style }}</style>
</head>
<body>
<header>
<h1>{{ title }}</h1>
{% block header %}
{% endblock %}
</header>
<main>
{% block content %}
{% endblock %}
</main>
<footer class="muted">
{% block footer %}
Made by qsmr-fleet.
{% endblock %}
</footer>
</body>
</html>
"""

_PARTS = """\
{% macro facts(pairs) %}
<dl class="facts">
{% for name, value in pairs %}
<div><dt>{{ name }}</dt><dd>{{ value | number }}</dd></div>
{% endfor %}
</dl>
{% endmacro %}

{% macro figure(figure, folder="") %}
<figure{% if figure.wide %} class="wide"{% endif %}>
{{ figure }}
<figcaption>{{ figure.caption }}
{% if folder %} <a href="{{ folder }}/{{ figure.file }}" aria-label="{{ figure.name }} as a file">SVG</a>
{% endif %}
</figcaption>
</figure>
{% endmacro %}

{# Numbers are put to the right; the first column heads its row. #}
{% macro table(caption, columns, rows) %}
<div class="scroll" tabindex="0" role="region" aria-label="{{ caption }}">
<table>
<caption>{{ caption }}</caption>
<thead>
<tr>
{% for column in columns %}
{% set is_number = rows and (rows[0][loop.index0] is number or rows[0][loop.index0] is none) %}
<th scope="col"{% if is_number %} class="n"{% endif %}>{{ column }}</th>
{% endfor %}
</tr>
</thead>
<tbody>
{% for row in rows %}
<tr>
{% for cell in row %}
{% set class = "n" if cell is number or cell is none else "" %}
{% if loop.first %}
<th scope="row"{% if class %} class="n"{% endif %}>{{ cell | number }}</th>
{% else %}
<td{% if class %} class="n"{% endif %}>{{ cell | number }}</td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
"""
