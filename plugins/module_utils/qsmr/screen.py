"""The status of a project as one screen of plain text, readable in 80 columns."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from .attention import TO_BE_STARTED
from .libraries import libraries
from .verdict import STALLS
from .words import duration, speed

with libraries():
    from rich.console import Console, ConsoleOptions, Group, RenderableType
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text


NARROWEST, WIDEST = 80, 120
STATE_STYLES = {"finished": "green", "failed": "red", "started": "cyan", "claimed": "cyan"}


def render(picture: Mapping[str, Any], width: int = NARROWEST, colour: bool = False, encoding: str = "utf-8") -> str:
    """The screen for a picture of qsmr.status, without a newline at its end.

    What ``encoding`` cannot say is said in ASCII. Nothing of it is taken as markup or as a command to the terminal,
    since lines of job output are among it.
    """
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    console = Console(
        file=stream,
        width=min(max(width, NARROWEST), WIDEST),
        force_terminal=colour,
        no_color=not colour,
        color_system="standard" if colour else None,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
    )
    for part in _parts(picture):
        console.print(part, crop=False)
    stream.flush()
    text = stream.buffer.getvalue().decode(encoding)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _parts(picture: Mapping[str, Any]) -> Iterable[RenderableType]:
    yield _title(picture)
    if picture["total"]:
        yield _bar(picture)
        yield _states(picture)
        yield _pace(picture)
    else:
        yield _clean(picture["message"])
    if picture["hosts"]:
        yield _section("Hosts", _indented(_hosts(picture)))
    strangers = [worker for worker in picture["workers"] if not worker["host"]]
    if strangers:
        yield _section("Workers of no host here", _indented(_strangers(strangers)))
    if picture["failures"]:
        read, failed = picture["failures_read"], picture["states"].get("failed", 0)
        of = f" (of the newest {read} of {failed})" if read < failed else ""
        yield _section(f"Failures{of}", _failures(picture["failures"]))
    if picture["attention"]:
        yield _section("Attention", _indented(_bullets(picture["attention"])), "yellow")
    yield _section("Where to look", _urls(picture["urls"]))


def _title(picture: Mapping[str, Any]) -> RenderableType:
    return _clean(f"Project {picture['project']} at {picture['service']}, {picture['time']}", "bold")


class _Bar:
    """A bar of jobs that finished and that failed; those that failed look different without colours, too."""

    def __init__(self, finished: int, failed: int, total: int) -> None:
        self._finished, self._failed, self._total = finished, failed, total

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        width = options.max_width
        full = width * (self._finished + self._failed) // self._total
        # One that failed is to be seen among very many.
        failed = min(-(-width * self._failed // self._total), full)
        done = "-" if options.ascii_only else "━"
        yield Text.assemble((done * (full - failed), "green"), ("x" * failed, "red"), " " * (width - full))


def _bar(picture: Mapping[str, Any]) -> RenderableType:
    total, finished, failed = picture["total"], *(picture["states"].get(state, 0) for state in ("finished", "failed"))
    ended = total - picture["remaining"]
    grid = Table.grid(padding=(0, 1), expand=True)
    grid.add_column(ratio=1)
    grid.add_column(justify="right")
    share = f"{ended} of {total} jobs ended, {100 * ended // total} %"
    if failed:
        share += ": all failed" if failed == ended else f": {failed} failed"
    grid.add_row(_Bar(finished, failed, total), _clean(share))
    return grid


def _states(picture: Mapping[str, Any]) -> RenderableType:
    table = _table(*((state, "right") for state in picture["states"]), ("total", "right"))
    for_each = picture["states"].items()
    numbers = [Text(str(number), STATE_STYLES.get(state, "") if number else "dim") for state, number in for_each]
    table.add_row(*numbers, str(picture["total"]))
    return table


def _pace(picture: Mapping[str, Any]) -> RenderableType:
    rate, eta, level2 = picture["rate"], picture["eta_seconds"], picture["level2"]
    grid = Table.grid(padding=(0, 2))
    grid.add_row("Rate", _speed(rate) if rate else "-")
    if not picture["remaining"]:
        left = "all have ended"
    elif picture["ending"] in STALLS:
        left = "unknown: nothing moves"
    else:
        left = "unknown: no job ended in the last day" if eta is None else f"in {duration(eta)}"
    service = f" (the service says {picture['eta_service']})" if picture["eta_service"] and picture["remaining"] else ""
    grid.add_row("ETA", _clean(left + service))
    if level2["scans"] is not None:
        grid.add_row("Level 2", _stored(level2))
    return grid


def _stored(level2: Mapping[str, Any]) -> str:
    failed = f", {level2['failed']} could not be retrieved" if level2["failed"] else ""
    return f"{level2['scans']} scans at the Odin API{failed}"


def _speed(rate: Mapping[str, Any]) -> str:
    return f"{speed(rate['per_minute'])} ({rate['jobs']} in {duration(rate['seconds'])})"


def _hosts(picture: Mapping[str, Any]) -> RenderableType:
    table = _table(("host", "left"), ("release", "left"), ("workers", "left"), ("holds", "right"), ("ended", "right"))
    table.add_column("image", overflow="fold", ratio=1)
    for host in picture["hosts"]:
        own = [worker for worker in picture["workers"] if worker["host"] == host["host"]]
        table.add_row(
            _clean(host["host"]),
            _clean(", ".join(host["running"]) or host["release"] or "-"),
            _health(host),
            *(str(sum(worker[key] for worker in own)) for key in ("holds", "ended")),
            # Our images are tagged with the snapshot id, which the release column shows already.
            _clean((host["image"] or "-").removesuffix(f":{host['release']}")),
        )
    return table


def _health(host: Mapping[str, Any]) -> Text:
    if host["state"] != "answers":
        return Text(host["state"], "yellow" if host["state"] in ("not asked", TO_BE_STARTED) else "red")
    total = len(host["workers"])
    if not total:
        return Text("none", "red")
    return Text(f"{host['healthy']} of {total} healthy", "green" if host["healthy"] == total else "red")


def _strangers(workers: list[Mapping[str, Any]]) -> RenderableType:
    table = _table(("worker", "left"), ("holds", "right"), ("ended", "right"))
    for worker in workers:
        table.add_row(_clean(worker["name"]), str(worker["holds"]), str(worker["ended"]))
    return table


def _failures(failures: list[Mapping[str, Any]]) -> RenderableType:
    parts: list[RenderableType] = []
    for group in failures:
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right")
        table.add_column(overflow="fold")
        more = ", ..." if group["count"] > len(group["jobs"]) else ""
        jobs = "job" if group["count"] == 1 else "jobs"
        table.add_row(f"{group['count']} {jobs}", _clean(group["line"], "red"))
        table.add_row("", _clean(f"{', '.join(group['jobs'])}{more}"))
        parts += [Padding(table, (0, 0, 0, 2)), _url("    ", group["output"])]
    return Group(*parts)


def _urls(urls: Mapping[str, str]) -> RenderableType:
    names = {name: name.replace("_", " ") for name in urls}
    widest = max(map(len, names.values()), default=0)
    return Group(*(_url(f"  {names[name]:<{widest}}  ", url) for name, url in urls.items()))


def _url(before: str, url: str) -> Text:
    """A URL that stays in one piece, so that it can be copied and clicked even where it is too long for the screen."""
    line = _clean(before + url)
    line.no_wrap, line.overflow = True, "ignore"
    return line


def _bullets(lines: Iterable[str]) -> RenderableType:
    grid = Table.grid(padding=(0, 1))
    grid.add_column()
    grid.add_column(overflow="fold")
    for line in lines:
        grid.add_row("!", _clean(line))
    return grid


def _section(heading: str, body: RenderableType, style: str = "bold") -> RenderableType:
    return Group(Text(), Text(heading, style), body)


def _indented(body: RenderableType) -> RenderableType:
    return Padding(body, (0, 0, 0, 2))


def _table(*columns: tuple[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for name, justify in columns:
        table.add_column(_clean(name), justify=justify, overflow="fold")
    return table


def _clean(text: object, style: str = "") -> Text:
    """Text without control characters, which could move the cursor or recolour the terminal."""
    return Text("".join("?" if unicodedata.category(c) in ("Cc", "Cf") else c for c in str(text)), style)
