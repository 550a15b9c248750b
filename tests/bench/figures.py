#!/usr/bin/env python3
"""The figures of each bench that count: kept in a file below build/bench, and by ``make bench`` shown in one table."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

DIRECTORY = Path(__file__).parents[2] / "build/bench"


class Figure(NamedTuple):
    """What was measured, and between which bounds it is to be, where such are asked for."""

    what: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def is_met(self) -> bool:
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    @property
    def asked(self) -> str:
        bounds = (("at least", self.least), ("at most", self.most))
        return ", ".join(f"{word} {bound:,g}" for word, bound in bounds if bound is not None)

    @property
    def verdict(self) -> str:
        return ("ok" if self.is_met else "MISSED") if self.asked else ""


def save(bench: str, figures: Sequence[Figure], **measured: Any) -> None:
    """Keep what a bench has measured in its file, and show its figures."""
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    content = {"date": time.strftime("%Y-%m-%d"), "machine": machine, "figures": [f._asdict() for f in figures]}
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    (DIRECTORY / f"{bench}.json").write_text(json.dumps({**content, **measured}, indent=1) + "\n")
    show({bench: figures})


def wide_console() -> Console:
    """A console that cuts no table short, also where its output goes to a file."""
    console = Console()
    console.width = max(console.width, 120)
    return console


def show(benches: dict[str, Iterable[Figure]]) -> None:
    table = Table("", "figure", "measured", "asked for", "")
    for bench, figures in benches.items():
        for figure in figures:
            table.add_row(bench, figure.what, f"{figure.value:,.4g}", figure.asked, figure.verdict)
    wide_console().print(table)


def main() -> None:
    found = {path.stem: json.loads(path.read_text()) for path in sorted(DIRECTORY.glob("*.json"))}
    show({name: [Figure(**figure) for figure in content["figures"]] for name, content in found.items()})


if __name__ == "__main__":
    main()
