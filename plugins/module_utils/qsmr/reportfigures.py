"""The figures of a project's report. Each function gives those that there is something to show in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .jobstates import SHORTEST
from .libraries import libraries
from .page import BLUE, GREEN, GREY, INK, LINE, MUTED, ORANGE, PAPER, RED, Figure, draw, legend_above

with libraries():
    import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .report import JobTable, Profiles, Row

    Numbers = NDArray[np.float64]

STATE_COLOURS = {"finished": GREEN, "failed": RED, "running": BLUE, "available": GREY}
# Red is told from green by its stripes, too.
AREAS: dict[str, dict[str, Any]] = {
    state: {"color": colour, "lw": 0, "label": state} for state, colour in STATE_COLOURS.items()
}
AREAS["failed"] = {"facecolor": RED, "edgecolor": PAPER, "hatch": "////", "lw": 0, "label": "failed"}
MOST_BARS = 25
# Above this number of scans the map shows how many there are, not each.
MOST_DOTS = 2000
MOST_BINS = 60
# Of pictures within a figure, which cannot follow light and dark.
_EITHER = (0.22, 0.55, 0.86)


def progress(table: JobTable) -> Iterator[Figure]:
    """Jobs that ended over time, and how many a minute."""
    times = {
        state: np.sort(table.ended[table.of(state) & np.isfinite(table.ended)]) for state in ("finished", "failed")
    }
    every = np.concatenate(list(times.values()))
    if not len(every):
        return
    begin = table.began
    end = max(float(np.max(every)), begin + SHORTEST)
    total = len(table.states)

    def accumulated(canvas: Any) -> None:
        axes = canvas.subplots()
        for state, when in times.items():
            if len(when):
                at = np.unique(np.linspace(0, len(when) - 1, 400).astype(int))
                x, y = [begin, *when[at], end], [0, *(at + 1), len(when)]
                axes.step(_dates(np.array(x)), y, where="post", color=STATE_COLOURS[state], lw=1.8, label=state)
        axes.axhline(total, color=MUTED, lw=1, ls="--", label="all jobs")
        axes.set_ylim(0, total * 1.06)
        axes.set_ylabel("jobs")
        _whole(axes.yaxis)
        _time_axis(axes)
        legend_above(canvas, axes)

    said = ", ".join(f"{len(when):,} {state}" for state, when in times.items())
    yield draw(
        "progress",
        "Jobs that have ended, over time (UTC).",
        f"Curves of jobs over time: {said} of {total:,}.",
        accumulated,
    )

    edges = np.linspace(begin, end, min(MOST_BINS, max(1, len(every) // 5)) + 1)
    minutes = (edges[1] - edges[0]) / 60

    def speed(canvas: Any) -> None:
        axes = canvas.subplots()
        below = np.zeros(len(edges) - 1)
        for state, when in times.items():
            if not len(when):
                continue
            number = np.histogram(when, edges)[0] / minutes
            axes.stairs(below + number, _dates(edges), baseline=below, fill=True, **AREAS[state])
            below = below + number
        axes.set_ylabel("jobs a minute")
        axes.set_ylim(bottom=0)
        _time_axis(axes)
        legend_above(canvas, axes)

    mean = len(every) / ((end - begin) / 60)
    yield draw(
        "rate",
        f"Jobs that ended a minute, each bar over {_span(60 * minutes)}.",
        f"Bars of jobs a minute over time, {mean:.3g} on average.",
        speed,
    )


def by_name(name: str, what: str, rows: Sequence[Row]) -> Iterator[Figure]:
    """Jobs by state for each host or worker."""
    rows = [row for row in rows if row.total]
    shown = sorted(rows, key=lambda row: -row.total)[:MOST_BARS]
    if not shown:
        return
    names = [_short(row.name) for row in shown]

    def bars(canvas: Any) -> None:
        axes = canvas.subplots()
        left = np.zeros(len(shown))
        for state in ("finished", "failed", "running"):
            numbers = np.array([row.counts[state] for row in shown])
            if not numbers.any():
                continue
            axes.barh(range(len(shown)), numbers, left=left, height=0.72, **AREAS[state])
            left += numbers
        axes.set_yticks(range(len(shown)), names)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("jobs")
        _whole(axes.xaxis)
        legend_above(canvas, axes)

    more = f" The {len(shown)} {what}s with most jobs of {len(rows)}." if len(rows) > len(shown) else ""
    alt = "; ".join(
        f"{row.name}: {row.counts['finished']} finished, {row.counts['failed']} failed" for row in shown[:10]
    )
    yield draw(
        name, f"Jobs by {what}.{more}", f"Bars for each {what}. {alt}.", bars, (4.8, max(1.6, 0.9 + 0.2 * len(shown)))
    )


def processing_time(table: JobTable) -> Iterator[Figure]:
    """How long jobs took."""
    found = {state: table.seconds[table.of(state) & (table.seconds > 0)] for state in ("finished", "failed")}
    every = np.concatenate(list(found.values()))
    if len(every) < 2:
        return
    low, high = np.percentile(every, (0.1, 99.9))
    wide = high > 30 * low
    space = np.geomspace if wide else np.linspace
    edges = space(low, max(high, low * 1.001 + 1e-3), min(MOST_BINS, max(10, int(2 * len(every) ** (1 / 3)))) + 1)
    middle, late = np.percentile(every, (50, 95))

    def histogram(canvas: Any) -> None:
        axes = canvas.subplots()
        below = np.zeros(len(edges) - 1)
        for state, seconds in found.items():
            if not len(seconds):
                continue
            number = np.histogram(np.clip(seconds, edges[0], edges[-1]), edges)[0]
            axes.stairs(below + number, edges, baseline=below, fill=True, **AREAS[state])
            below = below + number
        for value, style, label in ((middle, "-", "median"), (late, ":", "95 %")):
            axes.axvline(value, color=INK, ls=style, lw=1.2, label=f"{label}: {value:.3g} s")
        if wide:
            axes.set_xscale("log")
        axes.set_xlabel("processing time / s")
        axes.set_ylabel("jobs")
        _whole(axes.yaxis)
        legend_above(canvas, axes)

    yield draw(
        "processing_time",
        "Processing time of the jobs that ended.",
        f"Histogram of processing times: median {middle:.3g} s, 95 % below {late:.3g} s.",
        histogram,
    )


def world(longitude: Numbers, latitude: Numbers) -> Iterator[Figure]:
    """Where the scans are, on a graticule."""
    if not len(latitude):
        return
    each = len(latitude) <= MOST_DOTS

    def world_map(canvas: Any) -> None:
        axes = canvas.subplots()
        if each:
            axes.scatter(longitude, latitude, s=14 if len(latitude) < 300 else 6, color=BLUE, alpha=0.75, lw=0)
        else:
            from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize

            number = np.histogram2d(latitude, longitude, (72, 144), ((-90, 90), (-180, 180)))[0]
            most = float(np.max(number))
            colours = LinearSegmentedColormap.from_list("scans", [(*_EITHER, 0.3), (*_EITHER, 1.0)])
            image = axes.pcolormesh(
                np.linspace(-180, 180, 145),
                np.linspace(-90, 90, 73),
                np.ma.masked_equal(number, 0),
                cmap=colours,
                norm=(LogNorm if most >= 30 else Normalize)(1, max(most, 2)),
                rasterized=True,
            )
            scale = canvas.colorbar(image, ax=axes, shrink=0.8, pad=0.02, format="{x:,.0f}")
            if most < 30:
                _whole(scale.ax.yaxis)
            scale.set_label("scans in 2.5° × 2.5°")
            scale.outline.set_visible(False)
        axes.axhline(0, color=MUTED, lw=0.8)
        axes.set_xlim(-180, 180)
        axes.set_ylim(-90, 90)
        axes.set_xticks(range(-180, 181, 60), ["180°", "120° W", "60° W", "0°", "60° E", "120° E", "180°"])
        axes.set_yticks(range(-90, 91, 30), ["90° S", "60° S", "30° S", "0°", "30° N", "60° N", "90° N"])
        axes.set_aspect("equal")
        for side in ("top", "right"):
            axes.spines[side].set_visible(True)

    south, north = np.min(latitude), np.max(latitude)
    yield draw(
        "world",
        f"Where the scans with level 2 are ({len(latitude):,}); the line is the equator.",
        f"Map of {_scans(len(latitude))} between latitudes {south:.0f} and {north:.0f} degrees.",
        world_map,
        (4.8, 2.9) if each else (9.6, 4.8),
        wide=not each,
    )


def coverage(table: JobTable) -> Iterator[Figure]:
    """When the scans were measured, by what became of them."""
    known = np.isfinite(table.scans)
    if not known.any():
        return
    times = table.scans[known]
    states = table.states[known]
    begin, end = float(np.min(times)), float(np.max(times))
    edges = np.linspace(begin, max(end, begin + 60), min(MOST_BINS, max(1, len(times) // 5)) + 1)

    def histogram(canvas: Any) -> None:
        axes = canvas.subplots()
        below = np.zeros(len(edges) - 1)
        for index, state in enumerate(AREAS):
            number = np.histogram(times[states == index], edges)[0]
            if number.any():
                axes.stairs(below + number, _dates(edges), baseline=below, fill=True, **AREAS[state])
            below = below + number
        axes.set_ylabel("scans")
        axes.set_ylim(bottom=0)
        _whole(axes.yaxis)
        _time_axis(axes)
        legend_above(canvas, axes)

    first, last = (str(np.datetime64(int(second), "s"))[:10] for second in (begin, end))
    yield draw(
        "coverage",
        f"When the scans were measured, each bar over {_span(edges[1] - edges[0])}, by what became of them.",
        f"Bars of {_scans(len(times))} from {first} to {last}.",
        histogram,
        (9.6, 2.8) if len(times) > MOST_DOTS else (4.8, 3.0),
        wide=len(times) > MOST_DOTS,
    )


def profiles(number: str, found: Profiles) -> Iterator[Figure]:
    """A product's profiles: median and spread, with a priori and measurement response; and the median by latitude."""
    low, lower, median, upper, high = found.percentiles

    def plot(canvas: Any) -> None:
        left, right = canvas.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        canvas.get_layout_engine().set(wspace=0.08)
        left.fill_betweenx(found.altitude, low, high, color=BLUE, alpha=0.18, lw=0, label="5 to 95 %")
        left.fill_betweenx(found.altitude, lower, upper, color=BLUE, alpha=0.32, lw=0, label="16 to 84 %")
        left.plot(median, found.altitude, color=BLUE, lw=2, label="median")
        left.plot(found.apriori, found.altitude, color=ORANGE, lw=1.4, ls="--", label="a priori")
        left.set_xlabel("temperature / K" if found.unit == "K" else f"VMR / {found.unit}")
        left.set_ylabel("altitude / km")
        left.legend(fontsize=8.5)
        right.axvline(1, color=LINE, lw=1)
        right.plot(found.response, found.altitude, color=INK, lw=1.6)
        right.set_xlim(0, max(1.25, float(np.nanmax(found.response, initial=0)) * 1.1))
        right.set_xlabel("response")

    of = f" (every {-(-found.scans // found.used)}th shown)" if found.used < found.scans else ""
    peak = int(np.nanargmax(median))
    yield draw(
        f"profiles_{number}",
        f"{found.product}: {_scans(found.scans)}{of} in layers of 2 km, and the median measurement response.",
        f"Profiles of {found.product} from {found.altitude[0]:.0f} to {found.altitude[-1]:.0f} km; the median is"
        f" highest, {median[peak]:.3g} {found.unit}, at {found.altitude[peak]:.0f} km.",
        plot,
        (4.8, 4.4),
    )

    if len(found.altitude) < 2 or np.isfinite(found.bands).any(axis=0).sum() < 3:
        return

    def curtain(canvas: Any) -> None:
        axes = canvas.subplots()
        latitudes = np.linspace(-90, 90, found.bands.shape[1] + 1)
        middle = (found.altitude[1:] + found.altitude[:-1]) / 2
        first, last = 2 * found.altitude[0] - middle[0], 2 * found.altitude[-1] - middle[-1]
        edges = np.concatenate([[first], middle, [last]])
        cells = np.ma.masked_invalid(found.bands)
        image = axes.pcolormesh(latitudes, edges, cells, cmap="viridis", rasterized=True)
        scale = canvas.colorbar(image, ax=axes, pad=0.02)
        scale.set_label("temperature / K" if found.unit == "K" else f"median VMR / {found.unit}")
        scale.outline.set_visible(False)
        axes.grid(visible=False)
        axes.set_xticks(range(-90, 91, 30), ["90° S", "60° S", "30° S", "0°", "30° N", "60° N", "90° N"])
        axes.set_ylabel("altitude / km")

    yield draw(
        f"bands_{number}",
        f"{found.product}: median by latitude, in bands of 10 degrees.",
        f"Coloured cells of the median of {found.product} by latitude and altitude.",
        curtain,
        (4.8, 4.4),
    )


def _whole(axis: Any) -> None:
    """Counts have no halves."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    axis.set_major_formatter("{x:,.0f}")


def _scans(number: int) -> str:
    return f"{number:,} scan{'' if number == 1 else 's'}"


def _dates(seconds: Numbers) -> Any:
    return (np.asarray(seconds) * 1000).astype("datetime64[ms]")


def _time_axis(axes: Any) -> None:
    from matplotlib import dates

    untyped: Any = dates
    locator = untyped.AutoDateLocator(minticks=3, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    formats = ["%Y", "%b", "%d", "%H:%M", "%H:%M", ":%S"]
    axes.xaxis.set_major_formatter(untyped.ConciseDateFormatter(locator, formats=formats))


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def _short(name: str, longest: int = 26) -> str:
    return name if len(name) <= longest else f"{name[: longest // 2 - 1]}…{name[-longest // 2 :]}"
