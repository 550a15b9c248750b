#!/usr/bin/env python3
"""Write docs/settings.md from the settings, the roles' argument specs and the modules' documentation."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY / "plugins" / "module_utils"))

from qsmr.fleetsettings import SETTINGS  # noqa: E402

SETTING = re.compile(r"(?P<name>qsmr_\w+):\s*(?P<default>.*?)\s+# (?P<meaning>.*)|(?P<bare>qsmr_\w+):\s*(?P<value>.*)")

HEAD = """\
# Settings

Made by `docs/make_settings.py` from `playbooks/group_vars/all.yml` and the roles' `meta/argument_specs.yml`.

Set a setting once, in your inventory's `group_vars/fleet.yml`, or for one run with `-e`. (Ansible lets
`playbooks/group_vars/all.yml` win over an inventory's `group_vars/all.yml`, and over a group's `vars:` in the
inventory's own file, therefore the group `fleet` and its file.) Hosts may have values of their own, in their lines of
the inventory or in `host_vars`, for
{per_host}; all else is the whole fleet's.

A name that is no setting, a value that a setting cannot have, and a setting in a place where it does not count end a
run before it begins.

"""
ROLES = """\
## What roles take beyond the settings

These have defaults that fit nearly always; set them like the settings.

| Variable | Type | Default | Meaning |
|---|---|---|---|
"""


def cell(value: object) -> str:
    """A default as it is written, with what a table row cannot hold left out."""
    value = str(value).lower() if isinstance(value, bool) else value
    text = "" if value in (None, "", '""') else re.sub(r"\s+", " ", str(value)).replace("|", r"\|")
    return f"`{text}`" if text else "empty"


def plain(text: str) -> str:
    """A description without the marks of Ansible's documentation, and nothing in it taken for HTML or a table's end."""
    code = re.sub(r"\b[A-Z]\((.*?)\)", r"`\1`", re.sub(r"\s+", " ", text)).replace("|", r"\|").split("`")
    return "`".join(part if number % 2 else part.replace("<", "&lt;") for number, part in enumerate(code))


def settings() -> str:
    """A table for each group of ``playbooks/group_vars/all.yml``, whose comments are the meaning."""
    lines = []
    for line in (REPOSITORY / "playbooks/group_vars/all.yml").read_text().splitlines()[2:]:
        if line.startswith("# "):
            lines += ["", f"## {line[2:]}", "", "| Setting | Default | Meaning |", "|---|---|---|"]
        elif found := SETTING.fullmatch(line):
            name, default = found["name"] or found["bare"], found["default"] or found["value"]
            lines.append(f"| `{name}` | {cell(default)} | {plain(found['meaning'] or '')} |")
    return "\n".join(lines[1:]) + "\n"


def roles() -> str:
    rows = []
    for path in sorted((REPOSITORY / "roles").glob("*/meta/argument_specs.yml")):
        for entry_point in yaml.safe_load(path.read_text())["argument_specs"].values():
            for name, option in entry_point.get("options", {}).items():
                # What comes from elsewhere is set there.
                if "default" not in option or "{{" in str(option["default"]).replace("{{ playbook_dir", ""):
                    continue
                description = option["description"]
                text = description if isinstance(description, str) else " ".join(description)
                row = f"| `{name}` | {option['type']} | {cell(option['default'])} | {plain(text)} |"
                if row not in rows:
                    rows.append(row)
    return "\n".join(rows) + "\n"


def page() -> str:
    per_host = [f"`{name}`" for name, setting in SETTINGS.items() if setting.per_host]
    words = textwrap.fill(f"{', '.join(per_host[:-1])} and {per_host[-1]}", 120, break_on_hyphens=False)
    return HEAD.format(per_host=words) + settings() + "\n" + ROLES + roles()


if __name__ == "__main__":
    (REPOSITORY / "docs/settings.md").write_text(page())
