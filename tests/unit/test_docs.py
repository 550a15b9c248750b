"""The documentation names only what is there, its commands can be run, and its site stands on its own."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from browser import browser_page, fits
from container_fleet import REPOSITORY
from docs_commands import FENCE, commands, in_line, pages, playbook_arguments, words

PAGES = sorted((REPOSITORY / "docs").glob("*.md"))
WITH_COMMANDS = [*PAGES, REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"]
# The shell's and the system's.
OTHER_PROGRAMS = {".", "bash", "cat", "cd", "cp", "curl", "docker", "export", "git", "openssl", "pip", "umask"}
OTHER_PROGRAMS |= {"ansible", "ansible-doc", "ansible-vault"}


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
    paths = re.findall(r"(?<![\w./-])(?:playbooks|bin|roles|library|plugins|examples|inventory)/[\w./-]*\w", text)
    made_by_reader = "inventory/lab"
    missing += [name for name in paths if not (REPOSITORY / name).exists() and not name.startswith(made_by_reader)]
    settings = yaml.safe_load((REPOSITORY / "playbooks/group_vars/all.yml").read_text())
    modules = {path.stem for path in (REPOSITORY / "library").glob("*.py")}
    # qsmr_snapshot_<project> is an image or a directory, qsmr_data an archive.
    names = re.findall(r"(?<![\w/.])qsmr_(?!snapshot_(?!dir\b)|data\b)[a-z_]+", text)
    missing += [name for name in names if name not in {*settings, *modules}]
    assert not missing


@functools.cache
def settings_and_arguments() -> set[str]:
    """Every name that a command may set with -e."""
    names = set(yaml.safe_load((REPOSITORY / "playbooks/group_vars/all.yml").read_text()))
    for path in (REPOSITORY / "roles").glob("*/meta/argument_specs.yml"):
        for spec in yaml.safe_load(path.read_text())["argument_specs"].values():
            names |= set(spec.get("options", {}))
    # What playbooks take beside them: a bare name, as in "{{ scan | default('') }}".
    for path in (REPOSITORY / "playbooks").glob("*.yml"):
        names |= set(re.findall(r"{{ (\w+) \| default", path.read_text()))
    return names


@functools.cache
def understood() -> dict[str, tuple[list[str], list[str]] | None]:
    """What ansible-playbook makes of each of its commands."""
    shown = [command for page in WITH_COMMANDS for command in [*commands(page), *in_line(page)]]
    playbooks = [command for command in shown if words(command)[0] == "ansible-playbook"]
    return dict(zip(playbooks, playbook_arguments([words(command)[1:] for command in playbooks]), strict=True))


def fault(command: str) -> str:
    """What keeps a command from being run; nothing if it can be."""
    program, *arguments = words(command)
    if program == "make":
        makefile = (REPOSITORY / "Makefile").read_text()
        targets = [word for word in arguments if "=" not in word]
        variables = [word.partition("=")[0] for word in arguments if "=" in word]
        unknown = [target for target in targets if not re.search(rf"^{target}:", makefile, re.M)]
        unknown += [name for name in variables if f"$({name})" not in makefile and f",$({name})," not in makefile]
        return f"make knows no {unknown}" if unknown else ""
    if program == "ansible-playbook":
        known = understood()
        given = known[command] if command in known else playbook_arguments([arguments])[0]
        if given is None:
            return "ansible-playbook has no such option"
        unknown = [name for name in given[0] if not (REPOSITORY / name).exists()]
        names = {word.partition("=")[0] for text in given[1] for word in shlex.split(text)}
        unknown += sorted(names - settings_and_arguments())
        return f"there is no {unknown}" if unknown else ""
    if program.startswith(("bin/", "~/qsmr-fleet/")):
        path = REPOSITORY / program.removeprefix("~/qsmr-fleet/")
        return "" if os.access(path, os.X_OK) else "there is no such command"
    return "" if program in OTHER_PROGRAMS else "unknown to this test: add the program to OTHER_PROGRAMS"


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.stem)
def test_commands_can_be_run(page):
    faults = [f"{command}: {why}" for command in [*commands(page), *in_line(page)] if (why := fault(command))]
    assert not faults


def test_no_command_stands_outside_a_fence():
    """Only what is fenced is run by the tests."""
    for page in WITH_COMMANDS:
        text = FENCE.sub("", page.read_text())
        assert not re.findall(r"^(?: {4}|\t)(?:\$ )?(?:make|ansible\S*|bin/\S+) .*", text, re.M), page


def test_readme_shows_what_the_docs_show():
    """So that the README's commands are run where theirs are."""
    shown = {command for page in pages() for command in commands(page)}
    assert set(commands(REPOSITORY / "README.md")) <= shown


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("make demoo", "demoo"),
        ("make demo SERVIC=x", "SERVIC"),
        ("ansible-playbook playbooks/worker.yml", "playbooks/worker.yml"),
        ("ansible-playbook playbooks/workers.yml --dry-run", "option"),
        ("ansible-playbook playbooks/workers.yml -e qsmr_projct=x", "qsmr_projct"),
        ("bin/add_job.py", "no such"),
        ("rm -rf /", "OTHER_PROGRAMS"),
    ],
)
def test_wrong_commands_are_found(command, why):
    assert why in fault(command)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as make docs builds it; it fails for a link that leads nowhere."""
    directory = tmp_path_factory.mktemp("site")
    mkdocs = Path(sys.executable).with_name("mkdocs")
    subprocess.run([mkdocs, "build", "--quiet", "--site-dir", directory], cwd=REPOSITORY, check=True)
    return directory


def test_site_loads_nothing_from_the_network(site):
    for path in site.rglob("*"):
        if path.suffix in {".html", ".css", ".svg"}:
            text = re.sub(r'<link rel="(?:canonical|next|prev)"[^>]*>', "", path.read_text())
            loads = re.findall(r"<(?:script|link|img|source|iframe)[^>]*?(?:src|srcset|href)=\"(https?:)?//", text)
            loads += re.findall(r"(?:url\(|@import )[\"']?(?:https?:)?//", text)
            assert not loads, path


def test_site_documents_every_role_and_module(site):
    for page, folder in (("roles", "roles"), ("modules", "library")):
        html = (site / f"reference/{page}.html").read_text()
        names = {path.stem for path in (REPOSITORY / folder).iterdir() if not path.name.startswith("_")}
        assert {name for name in names if f"{name}</h2>" not in html} == set()


def test_no_placeholder_is_taken_for_html(site):
    """As <project> in a sentence is, and nobody sees it."""
    ours = "html head meta title link body header main nav footer picture source img"
    markdown = "a code em h1 h2 h3 li ol p pre strong table tbody td th thead tr ul"
    for path in site.rglob("*.html"):
        tags = set(re.findall(r"<([a-z]\w*)", path.read_text()))
        assert tags <= {*ours.split(), *markdown.split()}, path.name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_a_phone(site, scheme):
    with browser_page(360, scheme) as page:
        for name in ("index", "tutorial", "rollout", "settings", "reference/roles", "reference/modules"):
            page.goto((site / f"{name}.html").as_uri())
            assert fits(page), name
