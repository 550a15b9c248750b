"""The documentation names only what is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted((REPOSITORY / "docs").glob("*.md"))


def test_settings_page_is_current():
    spec = importlib.util.spec_from_file_location("make_settings", REPOSITORY / "docs/make_settings.py")
    assert spec and spec.loader
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert (REPOSITORY / "docs/settings.md").read_text() == maker.page(), "run docs/make_settings.py"


def test_every_setting_has_a_meaning():
    rows = [line for line in (REPOSITORY / "docs/settings.md").read_text().splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    assert not [row for row in rows if not row.rstrip("| ").rpartition(" | ")[2].strip()]
    assert not [row for row in rows if re.search(r"\|\s+\|$", row)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_names_only_what_is_there(page):
    text = page.read_text()
    missing = [link for link in re.findall(r"\]\(([^)#:]+)\)", text) if not (page.parent / link).exists()]
    targets = (REPOSITORY / "Makefile").read_text()
    missing += [name for name in re.findall(r"(?:^    |`)make ([a-z-]+)", text, re.M) if f"\n{name}:" not in targets]
    paths = re.findall(r"(?<![\w./-])(?:playbooks|bin|roles|library|plugins|examples|inventory)/[\w./-]*\w", text)
    made_by_reader = "inventory/lab"
    missing += [name for name in paths if not (REPOSITORY / name).exists() and not name.startswith(made_by_reader)]
    settings = yaml.safe_load((REPOSITORY / "playbooks/group_vars/all.yml").read_text())
    modules = {path.stem for path in (REPOSITORY / "library").glob("*.py")}
    # qsmr_snapshot_<project> is an image or a directory, qsmr_data an archive.
    names = re.findall(r"(?<![\w/.])qsmr_(?!snapshot_(?!dir\b)|data\b)[a-z_]+", text)
    missing += [name for name in names if name not in {*settings, *modules}]
    assert not missing
