"""What describes the project to other tools is true: collections, versions, hooks, the execution environment."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import ansible_collections
import pytest
import yaml
from packaging.specifiers import SpecifierSet

REPOSITORY = Path(__file__).parents[2]
COLLECTIONS = yaml.safe_load((REPOSITORY / "requirements.yml").read_text())["collections"]


def test_collections_are_those_that_are_used():
    text = "\n".join(
        path.read_text()
        for folder in ("playbooks", "roles", "molecule")
        for path in (REPOSITORY / folder).rglob("*.yml")
    )
    used = {found for found in re.findall(r"^\s+(?:- )?(\w+\.\w+)\.\w+:", text, re.M) if found != "ansible.builtin"}
    assert used == {collection["name"] for collection in COLLECTIONS}


def test_collections_begin_with_the_versions_that_are_pinned():
    """Python 3.11 has the oldest that the tests run with, newer ones are in the range."""
    for collection in COLLECTIONS:
        path = Path(next(iter(ansible_collections.__path__)), *collection["name"].split("."), "MANIFEST.json")
        pinned = json.loads(path.read_text())["collection_info"]["version"]
        assert pinned in SpecifierSet(collection["version"])
        if sys.version_info < (3, 12):
            assert collection["version"] == f">={pinned}"


@pytest.mark.parametrize(
    "check",
    re.findall(r"\(call packages,[^,]+,(.*command -v.*)\)", (REPOSITORY / "Makefile").read_text()),
)
def test_make_notices_each_program_that_is_missing(tmp_path, check):
    """bash is content with the first one that it finds, if one ``command -v`` is to look for several."""
    programs = set(" ".join(re.findall(r"command -v ([\w -]+)", check)).split())
    check = check.replace('$(PYTHON) -c "import ensurepip"', "true")

    def is_content(*there: str) -> bool:
        for path in tmp_path.iterdir():
            path.unlink()
        for program in there:
            (tmp_path / program).touch(mode=0o755)
        shell = ["/bin/bash", "-c", f"PATH={shlex.quote(str(tmp_path))}; {check}"]
        return subprocess.run(shell, check=False, capture_output=True).returncode == 0

    assert len(programs) > 1 and is_content(*programs)
    assert not any(is_content(*programs - {program}) for program in programs)


def test_hooks_are_make_lint():
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for repository in hooks for hook in repository["hooks"]] == ["make lint"]


def test_changelog_tells_of_this_version():
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    versions = re.findall(r"^## \[(.+?)\]", (REPOSITORY / "CHANGELOG.md").read_text(), re.M)
    assert versions[0] == version


def test_execution_environment_has_what_setup_has(tmp_path):
    command = [
        Path(sys.executable).with_name("ansible-builder"),
        "create",
        "-c",
        tmp_path,
        "--output-filename",
        "Dockerfile",
    ]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "_build/locks/run.lock").read_bytes() == (REPOSITORY / "requirements/run.lock").read_bytes()
    assert (tmp_path / "_build/bindep.txt").read_bytes() == (REPOSITORY / "bindep.txt").read_bytes()
    base = (tmp_path / "Dockerfile").read_text().partition("FROM base")[0].splitlines()
    assert base.index("COPY _build/locks/run.lock /tmp/run.lock") < base.index(
        "RUN $PYCMD -m pip install --no-cache-dir --require-hashes -r /tmp/run.lock"
    )


def make_test(tmp_path: Path, *pythons: str, **variables: str) -> str:
    """What make test would run where these Pythons are, and no other."""
    for name in ("bash", "sh", "id", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name) or "")
    for name in pythons:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    words = [
        shutil.which("make") or "",
        "-n",
        "test",
        f"VENV={sys.prefix}",
        *(f"{k}={v}" for k, v in variables.items()),
    ]
    env = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
    return subprocess.run(words, cwd=REPOSITORY, env=env, check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("is_next", ["", "yes"])
def test_the_other_line_of_pythons_is_tried_or_said_to_be_missing(tmp_path, is_next):
    alone = tmp_path / "alone"
    alone.mkdir()
    said = make_test(alone, "python3.11" if not is_next else "python3.13", IS_NEXT=is_next)
    assert f"NOT TRIED: ansible-core {'2.19' if is_next else '2.21'}: there is no Python 3.1" in said
    assert "/bin/pytest -q tests/integration/test_flow.py" not in said
    said = make_test(tmp_path, "python3.11", "python3.12", "python3.13", IS_NEXT=is_next)
    venv, python = (".venv-former", "python3.11") if is_next else (".venv-next", "python3.13")
    assert f'VENV={venv} PYTHON="{python}" test-main-job' in said
    assert f"{venv}/bin/pytest -q tests/integration/test_flow.py" in said
