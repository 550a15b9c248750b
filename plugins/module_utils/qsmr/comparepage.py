"""The comparison as a page, NetCDF and tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .compare import Comparison
from .comparedfields import PROFILES, SCALARS
from .files import replacing, write_atomically
from .level2set import MJD, slug
from .libraries import libraries
from .page import BLUE, GREY, INK, MUTED, ORANGE, SERIES, Figure, draw, folder_of, legend_above, render, write
from .productcomparison import BANDS, PERCENTILES, ProductComparison, band_name
from .provenance import settings_line

with libraries():
    import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

PAGE = "compare.html"
PPM = 1e6
MOST_LISTED = 200


def write_all(result: Comparison, directory: Path, *, check_mode: bool = False) -> bool:
    """Write the page with its figures, and for each product NetCDF and tables; says whether anything is new.

    The page tells all numbers that the other files hold, so they are made again when it differs or one of them lacks.
    """
    html, figures = page(result)
    target = directory / PAGE
    names = [f"compare_{slug(product.product)}" for product in result.products]
    files = [directory / f"{name}.{kind}" for name in names for kind in ("nc", "csv")] + [directory / "scans.csv"]
    if all(file.exists() for file in files) and target.exists() and target.read_text(encoding="utf-8") == html:
        return False
    if check_mode:
        return True
    directory.mkdir(parents=True, exist_ok=True)
    for name, product in zip(names, result.products, strict=True):
        packed: dict[Any, dict[str, Any]] = {}
        packed |= {key: {"zlib": True, "complevel": 1} for key, data in product.data.items() if data.dtype.kind == "f"}
        # A coordinate has no missing values (CF-1.11, section 2.5.1).
        packed |= {key: {"_FillValue": None} for key, data in product.data.coords.items() if data.dtype.kind == "f"}
        packed["time"] = {"_FillValue": None, "calendar": "standard", "dtype": "f8", "units": MJD}
        with replacing(directory / f"{name}.nc") as part:
            product.data.to_netcdf(part, engine="netcdf4", encoding=packed)
        write_atomically(directory / f"{name}.csv", _csv(altitude_rows(product)))
    write_atomically(directory / "scans.csv", _csv(scan_rows(result)))
    write(target, html, figures)
    return True


def _csv(rows: Iterator[list[Any]]) -> Iterator[str]:
    for row in rows:
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerow(row)
        yield stream.getvalue()


def altitude_rows(product: ProductComparison) -> Iterator[list[Any]]:
    """A table by altitude (m): every quantity of the data set that has just this dimension, and the percentiles."""
    columns = [name for name, data in product.data.items() if data.dims == ("altitude",)]
    yield ["altitude", *columns, *(f"vmr_difference_p{number}" for number in PERCENTILES)]
    for number, altitude in enumerate(product.data.altitude.values):
        values = [product.data[name].values[number] for name in columns]
        yield [f"{x:.6g}" for x in (altitude, *values, *product.data.vmr_difference_percentile.values[:, number])]


def scan_rows(result: Comparison) -> Iterator[list[Any]]:
    """A table with a row for each scan of either project, and what differs for each product of both."""
    misfits = []
    for product in result.products:
        data = product.data
        keys = zip(data.freq_mode.values.tolist(), data.scan_id.values.tolist(), strict=True)
        misfits.append(dict(zip(keys, data.misfit.values.tolist(), strict=True)))
    names = [f"misfit {product.product}" for product in result.products]
    here, there = result.side, result.other
    columns = ["outcome", "reason"]
    yield ["freq_mode", "scan_id", *columns, *(f"{column} of {there.project}" for column in columns), *names]
    for key in sorted(here.scans.keys() | there.scans.keys()):
        mine, its = here.scans.get(key, {}), there.scans.get(key, {})
        found = [one.get(column, "") for one in (mine, its) for column in columns]
        yield [*key, *found, *(f"{one[key]:.4g}" if key in one else "" for one in misfits)]


def page(result: Comparison) -> tuple[str, list[Figure]]:
    """The page and its figures."""
    here, there = result.side.project, result.other.project
    figures: list[Figure] = []
    sections = []
    for product in result.products:
        made = list(figures_of(product, here, there))
        figures += made
        sections.append(
            {
                "product": product,
                "name": product.product
                if product.product == product.other_product
                else f"{product.product}, against {product.other_product}",
                "file": f"compare_{slug(product.product)}",
                "figures": made,
                "rows": list(_rows(product)),
                "bands": list(_band_rows(product)),
                "worst": list(_worst_rows(product)),
            }
        )
    html = render(
        _TEMPLATE,
        title=f"{here} against {there}",
        figures=figures,
        file=PAGE,
        result=result,
        good=all(product.identical for product in result.products),
        made=[[title, *cells] for title, *cells in _provenance_rows(result)],
        sections=sections,
        folder=folder_of(PAGE),
        facts=list(result.coverage.items()),
        failures=[
            (f"New failures: {there} has a profile, {here} has none", _failure_rows(result.new_failures)),
            (f"Failures gone: {here} has a profile, {there} has none", _failure_rows(result.gone_failures)),
        ],
        most=MOST_LISTED,
    )
    return html, figures


def _failure_rows(failures: list[Any]) -> list[list[Any]]:
    return [
        [f"{key[0]}:{key[1]}", outcome.replace("_", " "), reason] for key, outcome, reason in failures[:MOST_LISTED]
    ]


def _provenance_rows(result: Comparison) -> Iterator[list[str]]:
    """What made the two: a row for each thing, the project's first."""

    def told(name: str, of: Any) -> list[str]:
        both = [
            " · ".join(dict.fromkeys(str(of(made)) for made in one.snapshots)) for one in (result.side, result.other)
        ]
        return [name, *both, "same" if both[0] == both[1] else "differs"]

    def commit(made: Any) -> str:
        if made["created"] is None:
            return "unknown"
        return (made["git_commit"] or "none")[:12] + (" with changes not committed" if made["git_dirty"] else "")

    yield told("Snapshots", lambda made: f"{made['snapshot_id']} ({made['documents']} documents)")
    yield told("Git commit", commit)
    yield told("Settings", settings_line)
    yield told("Base image", lambda made: f"{made['base_image'] or 'unknown'} {(made['base_image_digest'] or '')[:19]}")
    yield told("Image", lambda made: (made["image_digest"] or "unknown")[:19])


def _rows(product: ProductComparison) -> Iterator[list[Any]]:
    """About a dozen altitudes."""
    data = product.data
    step = max(1, -(-data.sizes["altitude"] // 13))
    for number in range(0, data.sizes["altitude"], step):
        at = data.isel(altitude=number)
        yield [
            *(round(float(at.altitude) / 1e3, 1), int(at.pairs)),
            *(_ppm(at[name]) for name in ("vmr_mean", "vmr_mean_other", "vmr_difference_mean")),
            *(_interval(at.vmr_difference_low, at.vmr_difference_high), _ppm(at.vmr_difference_spread)),
            _p_value(float(at.vmr_difference_q)),
        ]


def _ppm(value: Any) -> float | str:
    """A volume mixing ratio to print; a dash where there is none."""
    return "–" if np.isnan(value) else round(float(value) * PPM, 3)


def _interval(low: Any, high: Any) -> str:
    return "–" if np.isnan(low) else f"{float(low) * PPM:+.3f} to {float(high) * PPM:+.3f}"


def _p_value(value: float) -> str:
    return "–" if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _band_rows(product: ProductComparison) -> Iterator[list[Any]]:
    """For each latitude band with scans: the altitude of the largest mean difference."""
    data = product.data
    for number, band in enumerate(BANDS):
        at = data.isel(band=number)
        if not np.isfinite(at.band_difference_low).any():
            continue
        largest = at.isel(altitude=int(np.nanargmax(np.abs(at.band_difference_mean.values))))
        yield [
            *(band_name(band), int(at.band_pairs), float(largest.altitude) / 1e3),
            *(_ppm(largest.band_difference_mean), _interval(largest.band_difference_low, largest.band_difference_high)),
        ]


def _worst_rows(product: ProductComparison) -> Iterator[list[Any]]:
    data = product.data
    for row in product.worst:
        at = data.isel(scan=row)
        difference = (at.vmr - at.vmr_other).values
        largest = int(np.nanargmax(np.abs(difference)))
        yield [
            *(f"{int(at.freq_mode)}:{int(at.scan_id)}", str(at.time.values)[:16].replace("T", " ")),
            *(round(float(at.latitude), 1), round(float(at.misfit), 2), float(data.altitude[largest]) / 1e3),
            round(float(difference[largest]) * PPM, 3),
        ]


# --- figures


def figures_of(product: ProductComparison, here: str, there: str) -> Iterator[Figure]:
    """The figures of a product; their names start with the product's."""
    data, name = product.data, slug(product.product)
    height = data.altitude.values / 1e3
    species = product.product.split(" ")[0]
    scans = data.sizes["scan"]
    if not len(height):
        return

    def profiles(canvas: Canvas) -> None:
        left, right = canvas.subplots(1, 2, sharey=True)
        for colour, suffix, label in ((ORANGE, "_other", there), (BLUE, "", here)):
            mean, spread = data[f"vmr_mean{suffix}"].values * PPM, data[f"vmr_spread{suffix}"].values * PPM
            left.fill_betweenx(height, mean - spread, mean + spread, color=colour, alpha=0.18, linewidth=0)
            left.plot(mean, height, color=colour, label=label, linestyle="--" if suffix else "-")
        left.set(xlabel=f"{species} / ppm", ylabel="altitude / km", title="mean, and spread over the scans")
        left.legend()
        bands = data.vmr_difference_percentile.values * PPM
        right.fill_betweenx(height, bands[0], bands[-1], color=GREY, alpha=0.2, linewidth=0, label="5 to 95 %")
        right.fill_betweenx(height, bands[1], bands[-2], color=GREY, alpha=0.35, linewidth=0, label="25 to 75 %")
        ends = [data[f"vmr_difference_{end}"].values * PPM for end in ("low", "high")]
        right.fill_betweenx(height, *ends, color=BLUE, alpha=0.45, linewidth=0, label="mean, 95 % confidence")
        right.plot(data.vmr_difference_mean.values * PPM, height, color=BLUE)
        right.axvline(0, color=INK, linewidth=0.8)
        right.set(xlabel=f"{here} less {there} / ppm", title="differences")
        right.legend()

    largest = int(np.nanargmax(np.abs(np.nan_to_num(data.vmr_difference_mean.values))))
    yield draw(
        f"{name}_profiles",
        f"{species} of {scans} common scans: means with their spread, and the differences scan by scan.",
        f"Left, mean {species} by altitude of {here} and {there}. Right, their differences: the mean is largest at"
        f" {height[largest]:g} km, {data.vmr_difference_mean.values[largest] * PPM:+.3f} ppm.",
        profiles,
        size=(9.2, 4.2),
        wide=True,
    )

    def quality(canvas: Canvas) -> None:
        axes = canvas.subplots(1, 3, sharey=True)
        for axis, (key, shown) in zip(axes, list(PROFILES.items())[1:], strict=True):
            scale, unit = (1, "") if key == "measurement_response" else (PPM, " / ppm")
            axis.plot(data[f"{key}_mean_other"].values * scale, height, "--", color=ORANGE, label=there)
            axis.plot(data[f"{key}_mean"].values * scale, height, color=BLUE, label=here)
            axis.set(xlabel=f"mean {shown.meaning}{unit}")
            axis.set_xlim(left=0)
        axes[0].set(ylabel="altitude / km")
        legend_above(canvas, axes[0])

    yield draw(
        f"{name}_quality",
        "How much of the profiles comes from the measurement, and the errors that the retrieval states.",
        f"Mean measurement response, total error and noise error by altitude of {here} and {there}.",
        quality,
        size=(9.2, 3.6),
        wide=True,
    )

    def bands(canvas: Canvas) -> None:
        axis = canvas.subplots()
        for number, band in enumerate(BANDS):
            mean = data.band_difference_mean.values[number] * PPM
            if np.isfinite(data.band_difference_low.values[number]).any():
                colour = SERIES[number % len(SERIES)]
                ends = [data[f"band_difference_{end}"].values[number] * PPM for end in ("low", "high")]
                axis.fill_betweenx(height, *ends, color=colour, alpha=0.12, linewidth=0)
                axis.plot(mean, height, color=colour, label=f"{band_name(band)} ({int(data.band_pairs[number])})")
        axis.axvline(0, color=INK, linewidth=0.8)
        axis.set(xlabel=f"mean {here} less {there} / ppm", ylabel="altitude / km")
        axis.legend(title="latitude (scans)", fontsize=8)

    if np.isfinite(data.band_difference_low).any():
        yield draw(
            f"{name}_latitudes",
            "Mean differences by latitude band, with their 95 % confidence intervals.",
            "Mean difference by altitude, a line for each latitude band; the table below names the largest of each.",
            bands,
        )

    def scalars(canvas: Canvas) -> None:
        shown = [key for key in SCALARS if np.isfinite(data[key]).any() and np.isfinite(data[f"{key}_other"]).any()]
        for axis, key in zip(np.ravel(canvas.subplots(1, max(len(shown), 1))), shown, strict=True):
            both = [one[np.isfinite(one)] for one in (data[key].values, data[f"{key}_other"].values)]
            edges = np.histogram_bin_edges(np.concatenate(both), 24)
            axis.hist(both[1], edges, color=ORANGE, alpha=0.45, label=there)
            axis.hist(both[0], edges, color=BLUE, histtype="step", linewidth=1.6, label=here)
            axis.set(xlabel=SCALARS[key] + (" / s" if key == "processing_time" else ""))
            axis.locator_params(axis="x", nbins=4)
        canvas.axes[0].set(ylabel="scans")
        legend_above(canvas, canvas.axes[0])

    yield draw(
        f"{name}_scalars",
        "Residual, cost and processing time of the common scans.",
        "Histograms of " + ", ".join(SCALARS.values()) + f" for {here} and {there}.",
        scalars,
        size=(6.4, 3.4),
    )

    def worst(canvas: Canvas) -> None:
        axes = np.ravel(canvas.subplots(1, len(product.worst), sharey=True))
        for axis, row in zip(axes, product.worst, strict=True):
            at = data.isel(scan=row)
            axis.plot(at.vmr_apriori.values * PPM, height, ":", color=MUTED, label="a priori")
            for colour, style, suffix, label in ((ORANGE, "--", "_other", there), (BLUE, "-", "", here)):
                value, error = at[f"vmr{suffix}"].values * PPM, at[f"vmr_error_total{suffix}"].values * PPM
                axis.fill_betweenx(height, value - error, value + error, color=colour, alpha=0.15, linewidth=0)
                axis.plot(value, height, style, color=colour, label=label)
            axis.set(title=f"{int(at.scan_id)}", xlabel="ppm")
        axes[0].set(ylabel="altitude / km")
        legend_above(canvas, axes[0])

    if product.worst:
        yield draw(
            f"{name}_worst",
            f"The scans that differ most, with the total error of each profile: {species} / ppm.",
            "Profiles of the scans "
            + ", ".join(str(int(data.scan_id[row])) for row in product.worst)
            + f" by {here} and {there}.",
            worst,
            size=(11, 3.6),
            wide=True,
        )


_TEMPLATE = """\
{% extends "page.html" %}
{% import "parts.html" as parts %}
{% block header %}
<p class="muted">Level 2 of two projects on the same scans. Differences are {{ result.side.project }} less
{{ result.other.project }}.</p>
{% endblock %}
{% block content %}
<p class="note {{ 'good' if good else '' }}"><strong>{{ result.verdict }}</strong></p>
{% for note in result.notes %}
<p class="note warn">{{ note }}.</p>
{% endfor %}

<section>
<h2>What made them</h2>
{{ parts.table("Snapshots, code, settings and images", ["", result.side.project, result.other.project, ""], made) }}
{% if result.settings %}
{{ parts.table("Settings and images that differ", ["name", result.other.project, result.side.project],
  result.settings) }}
{% endif %}
{% if result.commits %}
<details><summary>{{ result.commits | length }} commits between them</summary>
<pre>{{ result.commits | join("\n") }}</pre></details>
{% endif %}
</section>

<section>
<h2>Coverage</h2>
{{ parts.facts(facts) }}
{% for caption, rows in failures if rows %}
{{ parts.table(caption, ["scan", "outcome", "reason"], rows) }}
{% if rows | length == most %}
<p class="muted">The first {{ most }}; all are in scans.csv.</p>
{% endif %}
{% endfor %}
</section>

{% for section in sections %}
<section>
<h2>{{ section.name }}</h2>
<ul>
{% for finding in section.product.findings %}
<li>{{ finding.text[0] | upper }}{{ finding.text[1:] }}.</li>
{% endfor %}
</ul>
<div class="figures">
{% for figure in section.figures %}
{{ parts.figure(figure, folder) }}
{% endfor %}
</div>
{{ parts.table("Volume mixing ratio by altitude; p: adjusted for all that is tested", ["altitude / km", "pairs",
  result.side.project + " / ppm", result.other.project + " / ppm", "difference / ppm", "95 % confidence", "its spread",
  "p"], section.rows) }}
{% if section.bands %}
{{ parts.table("The largest mean difference of each latitude band", ["latitude", "scans", "altitude / km",
  "difference / ppm", "95 % confidence"], section.bands) }}
{% endif %}
{% if section.worst %}
{{ parts.table("The scans that differ most; misfit: root mean square of the difference in units of the combined error",
  ["scan", "time (UTC)", "latitude", "misfit", "most at / km", "there / ppm"], section.worst) }}
{% endif %}
<p class="muted">All numbers: {{ section.file }}.nc (with every scan's difference) and {{ section.file }}.csv
(by altitude).</p>
</section>
{% endfor %}

<section>
<h2>Methods</h2>
<p>Only scans with a profile in both projects are compared, each with itself. Where the levels differ, profiles are
put on the coarser ones, linearly, and gaps stay gaps. One error budget holds for everything on this page: if nothing
differed, anything at all would be found in 5 of 100 comparisons. The null distribution comes from swapping the two
projects at random (sign flipping: Nichols &amp; Holmes 2002), all quantities and altitudes at once, and a p-value says
how often the largest of all statistics is as large by chance (maximum T: Westfall &amp; Young 1993). Neighbours along
the orbit are swapped in blocks; how long they are follows from the data (effective number: Bayley &amp; Hammersley
1946). Differences are limited to three times their median size, so that single outliers decide nothing. Spread over
the scans: Pitman 1939, Morgan 1939. Failures: McNemar 1947 (scipy.stats.binomtest). Confidence intervals of means:
Student's t with the effective number of scans (scipy.stats.t). A difference of the volume mixing ratio matters from a
tenth of the total error that the retrieval states for a profile, one of another quantity mostly from 2 %; whether it
does is judged by the confidence interval of all altitudes at once (equivalence: Schuirmann 1987). Where the measurement
response is below 0.7 the value is mostly a priori and is told apart.</p>
</section>
{% endblock %}
"""
