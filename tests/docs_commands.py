"""The commands that the README and the pages of the documentation show."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml
from container_fleet import REPOSITORY

FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
HERE_DOCUMENT = re.compile(r"<<'(\w+)'$")
# What is in line with the text, and a command and no name of a file.
IN_LINE = re.compile(r"`((?:make|ansible-playbook|ansible-doc|ansible-vault) [^`]+|bin/[^\s`]+ [^`]+)`")


def pages() -> list[Path]:
    """The pages in the order of the site."""

    def leaves(nav: object) -> list[str]:
        if isinstance(nav, str):
            return [nav]
        parts = nav.values() if isinstance(nav, dict) else nav
        return [leaf for part in parts for leaf in leaves(part)]

    nav = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]
    # Those that are made when the site is built have no file.
    return [page for leaf in leaves(nav) if (page := REPOSITORY / "docs" / leaf).exists()]


def blocks(page: Path, language: str) -> list[str]:
    """The texts of a page's fenced blocks in one language."""
    return [fence["text"] for fence in FENCE.finditer(page.read_text()) if fence["language"] == language]


def commands(page: Path) -> list[str]:
    """The commands in a page's bash and console blocks, each with its here-document."""
    found: list[str] = []
    for fence in FENCE.finditer(page.read_text()):
        if fence["language"] == "console":
            found += [line[2:] for line in fence["text"].splitlines() if line.startswith("$ ")]
        elif fence["language"] == "bash":
            end = ""
            for line in fence["text"].splitlines():
                if end:
                    found[-1] += f"\n{line}"
                    end = "" if line == end else end
                elif line:
                    found.append(line)
                    end = here[1] if (here := HERE_DOCUMENT.search(line)) else ""
    return found


def in_line(page: Path) -> list[str]:
    """The commands in the sentences of a page."""
    return IN_LINE.findall(FENCE.sub("", page.read_text()))


def words(command: str) -> list[str]:
    """A command's words, those of its first line."""
    return shlex.split(command.partition("\n")[0], comments=True)


# Run by a Python of its own: after this import, modules would behave as parts of Ansible itself.
_PARSER = """
import json, sys
from ansible.cli.playbook import PlaybookCLI
for line in sys.stdin:
    cli = PlaybookCLI(["ansible-playbook", *json.loads(line)])
    cli.init_parser()
    try:
        given = cli.parser.parse_args(json.loads(line))
        print(json.dumps([given.args, given.extra_vars]))
    except SystemExit:
        print("null")
"""


def playbook_arguments(commands: list[list[str]]) -> list[tuple[list[str], list[str]] | None]:
    """Playbooks and extra variables as ansible-playbook understands its arguments; None where it does not."""
    lines = "".join(f"{json.dumps(arguments)}\n" for arguments in commands)
    done = subprocess.run([sys.executable, "-c", _PARSER], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]
