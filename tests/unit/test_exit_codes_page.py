"""The page of exit codes says what the code has, and leaves no playbook out."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from qsmr.verdict import EXIT_CODES, HEADLINES

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs/exit-codes.md"
STATUS_ENDINGS = {"no project", "no jobs", "going", "done", "failures", "no workers", "no claims", "no ends"}


def rows(columns: str) -> list[list[str]]:
    """The rows of the page's table with these columns."""
    table = PAGE.read_text().partition(f"| {columns} |\n")[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[1:]]


def codes_of(playbook: str) -> set[int]:
    """The exit codes that the page has for a playbook."""
    found: set[int] = set()
    for name, codes, *_ in rows("Playbook | Exit code | When | Last line"):
        if name == f"`{playbook}`":
            for part in codes.split(","):
                first, _to, last = part.strip().partition(" to ")
                found |= set(range(int(first), int(last or first) + 1))
    return found


def test_every_ending_has_its_code_and_its_word():
    told = {
        (int(code), word.strip("`")) for code, word, *_ in rows("Exit code | Last line begins with | Meaning | Told by")
    }
    assert told == {(EXIT_CODES[how], HEADLINES[how]) for how in EXIT_CODES}
    assert EXIT_CODES.keys() == HEADLINES.keys()


def test_every_playbook_is_there():
    playbooks = {path.name for path in (REPOSITORY / "playbooks").glob("*.yml")}
    assert {row[0].strip("`") for row in rows("Playbook | Exit code | When | Last line")} == playbooks


def test_playbooks_that_tell_how_a_project_stands_have_their_codes():
    """Those whose plays reach the verdict, through the playbooks that they import."""
    stand = {"status.yml": {EXIT_CODES[how] for how in STATUS_ENDINGS}, "results.yml": {0, EXIT_CODES["failures"]}}
    stand["watch.yml"] = set(EXIT_CODES.values())
    for path in (REPOSITORY / "playbooks").glob("*.yml"):
        imported = re.findall(r"import_playbook: (\S+)", path.read_text())
        tells = set().union(*(stand.get(name, set()) for name in (path.name, *imported)))
        assert tells <= codes_of(path.name), path.name
        assert {code for code in codes_of(path.name) if 10 <= code < 99} <= tells, path.name


def test_playbooks_that_say_nothing_at_the_end_are_said_to():
    """PLAY RECAP is what stands last where no role of a playbook, or of one that it imports, leaves a summary."""
    last = {row[0].strip("`"): row[3] for row in rows("Playbook | Exit code | When | Last line") if row[1] == "0"}
    for name, line in last.items():
        assert (line == "`PLAY RECAP`") == (not _says(name)), name


def _says(playbook: str) -> bool:
    text = (REPOSITORY / "playbooks" / playbook).read_text()
    if any(_says(name) for name in re.findall(r"import_playbook: (\S+)", text)):
        return True
    roles = set(re.findall(r"^\s+- (?:role: )?([a-z_]+)$|^\s+name: ([a-z_]+)$", text, re.MULTILINE))
    names = {name for pair in roles for name in pair if name}
    return any(_role_says(name) for name in names)


def _role_says(name: str) -> bool:
    tasks = [path.read_text() for path in (REPOSITORY / "roles" / name).glob("tasks/*.yml")]
    actions = ("qsmr_summary", "qsmr_operation:", "qsmr_rollout:")
    imported = [role for text in tasks for role in re.findall(r"import_role:\n\s+name: ([a-z_]+)", text)]
    return any(action in text for action in actions for text in tasks) or any(map(_role_says, imported))


def test_page_is_in_the_navigation():
    assert "exit-codes.md" in str(yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text().replace("!!", ""))["nav"])
    assert "(exit-codes.md)" in (REPOSITORY / "docs/index.md").read_text()
