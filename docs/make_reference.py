"""Make the pages on roles and modules when the site is built (a hook of mkdocs.yml), from their own documentation."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

sys.path.append(str(Path(__file__).parent))
from make_settings import REPOSITORY, cell, plain  # noqa: E402

ROLES = """\
# Roles

Each is for a playbook of yours, too: `roles/<name>/meta/argument_specs.yml` says what it takes, and Ansible checks
that. Defaults that name a setting have its value: [Settings](../settings.md).
"""
MODULES = """\
# Modules

What the roles are made of. `ansible-doc -t module -M library <name>` shows the same in the terminal.
"""


def text(description: str | list[str]) -> str:
    """A description as paragraphs."""
    return "\n\n".join(plain(part) for part in ([description] if isinstance(description, str) else description))


def rows(options: dict[str, dict[str, Any]], within: str = "") -> Iterator[str]:
    """A table row for each option or return value, and for what these hold."""
    for name, option in options.items():
        kind = option.get("type", "str") + (f" of {option['elements']}" if "elements" in option else "")
        meaning = text(option["description"]).replace("\n\n", " ")
        if choices := option.get("choices"):
            meaning += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
        default = "required" if option.get("required") else cell(option["default"]) if "default" in option else ""
        yield f"| `{within}{name}` | {kind} | {default or option.get('returned', '')} | {meaning} |"
        yield from rows(option.get("suboptions") or option.get("options") or option.get("contains") or {}, f"{name}.")


def table(options: dict[str, dict[str, Any]], third: str = "Default") -> str:
    return "\n".join([f"| Name | Type | {third} | Meaning |", "|---|---|---|---|", *rows(options)]) + "\n"


def roles() -> str:
    parts = [ROLES]
    for path in sorted((REPOSITORY / "roles").glob("*/meta/argument_specs.yml")):
        role = path.parts[-3]
        for entry_point, spec in yaml.safe_load(path.read_text())["argument_specs"].items():
            parts.append(f"## {role}" if entry_point == "main" else f"### {role}, tasks_from: {entry_point}")
            parts += [f"{plain(spec['short_description'])}.", text(spec.get("description", []))]
            if options := spec.get("options"):
                parts.append(table(options))
    return "\n\n".join(parts)


def modules() -> str:
    names = sorted(path.stem for path in (REPOSITORY / "library").glob("*.py"))
    command = [Path(sys.executable).with_name("ansible-doc"), "--json", "-t", "module", "-M", "library", *names]
    settings = {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")}
    told = subprocess.run(  # noqa: S603 our own names
        command, cwd=REPOSITORY, env=os.environ | settings, check=True, capture_output=True, text=True
    )
    parts = [MODULES]
    for name, module in json.loads(told.stdout).items():
        documentation = module["doc"]
        parts += [f"## {name}", f"{plain(documentation['short_description'])}.", text(documentation["description"])]
        parts += ["### Options", table(documentation.get("options", {}))] if documentation.get("options") else []
        parts += [
            f"- **{attribute}**: {found['support']}. {text(found.get('description', []))}"
            for attribute, found in documentation.get("attributes", {}).items()
        ]
        parts.append(f"```yaml\n{module['examples'].strip()}\n```")
        parts.append(table(module["return"], "Returned")) if module.get("return") else None
    return "\n\n".join(parts)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to those that are written by hand."""
    for page, content in {"roles": roles(), "modules": modules()}.items():
        files.append(File.generated(config, f"reference/{page}.md", content=content))
    return files
