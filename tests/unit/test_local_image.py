"""Images are built when, and only when, their inputs have changed; what cannot be built is said and leaves no name."""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from qsmr.errors import QsmrError
from qsmr.local_image import Outcome, Recipe, ensure, inspect

# A docker command that keeps its images in a JSON file: image inspect, image tag, image rm, build, import.
FAKE_DOCKER = """#!{python} -IS
import fcntl, json, pathlib, sys
store = pathlib.Path({store!r})
lock = open({store!r} + ".lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
state = json.loads(store.read_text())
images, arguments = state["images"], sys.argv[1:]
state["calls"].append(arguments)
def find(name):
    return next((i for i in images if i["Id"] == name or name in i["RepoTags"]), None)
def add(tag, labels):
    state["count"] += 1
    for image in images:
        image["RepoTags"] = [t for t in image["RepoTags"] if t != tag]
    images.append({{"Id": "sha256:%064d" % state["count"], "RepoTags": [tag] if tag else [],
                   "Config": {{"Labels": dict(l.split("=", 1) for l in labels)}}}})
    return images[-1]["Id"]
code = 0
if arguments[:2] == ["image", "inspect"]:
    image = find(arguments[-1])
    print(json.dumps(image)) if image else print("Error: No such image: x", file=sys.stderr)
    code = 0 if image else 1
elif arguments[:2] == ["image", "tag"]:
    find(arguments[2])["RepoTags"].append(arguments[3])
elif arguments[:2] == ["image", "rm"]:
    images.remove(find(arguments[2]))
elif arguments[0] == "build":
    context = sys.stdin.buffer.read()
    if b"RUN false" in context:
        print("Step 2: RUN false"), print("it returned 1", file=sys.stderr)
        code = 1
    else:
        option = lambda name: [a.split("=", 1)[1] for a in arguments if a.startswith(name)]
        add(option("--tag=")[0], option("--label="))
elif arguments[0] == "import":
    sys.stdin.buffer.read()
    print(add("", [a.removeprefix("--change=LABEL ").replace('"', "") for a in arguments if "=LABEL" in a]))
store.write_text(json.dumps(state))
sys.exit(code)
"""


class Engine:
    """What the fake docker was asked, and what it has."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._store = directory / "images.json"
        self._store.write_text(json.dumps({"images": [], "calls": [], "count": 0}))
        command = directory / "bin" / "docker"
        command.parent.mkdir()
        command.write_text(FAKE_DOCKER.format(python=sys.executable, store=str(self._store)))
        command.chmod(0o755)
        monkeypatch.setenv("PATH", str(command.parent), prepend=":")

    def tag(self, name: str, other: str) -> None:
        self._store.write_text(self._store.read_text().replace(f'["{name}"]', f'["{name}", "{other}"]'))

    def calls(self, verb: str) -> list[list[str]]:
        return [call for call in json.loads(self._store.read_text())["calls"] if verb in call[:2]]

    def names(self) -> list[str]:
        return [tag for image in json.loads(self._store.read_text())["images"] for tag in image["RepoTags"]]

    def count(self) -> int:
        return len(json.loads(self._store.read_text())["images"])


@pytest.fixture
def engine(tmp_path, monkeypatch):
    return Engine(tmp_path, monkeypatch)


@pytest.fixture
def context(tmp_path):
    directory = tmp_path / "context"
    (directory / "package").mkdir(parents=True)
    (directory / "Dockerfile").write_text("ARG BASE_IMAGE\nFROM ${BASE_IMAGE}\n")
    (directory / "package" / "code.py").write_text("print(1)\n")
    return directory


def make(*recipes: Recipe, check_mode: bool = False) -> list[Outcome]:
    return ensure(recipes, recipes[0].context.parent / "cache", check_mode)


def test_is_built_once(engine, context):
    recipe = Recipe("lab/worker:1", context)
    first, second = make(recipe)[0], make(recipe)[0]
    assert (first.changed, second.changed) == (True, False)
    assert first.id == second.id == inspect("lab/worker:1").id
    assert len(engine.calls("build")) == 1


@pytest.mark.parametrize(
    "touch",
    [
        lambda c: (c / "package" / "code.py").write_text("print(2)\n"),
        lambda c: (c / "package" / "code.py").rename(c / "package" / "other.py"),
        lambda c: (c / "package" / "code.py").chmod(0o755),
        lambda c: (c / "new").write_text(""),
    ],
    ids=["content", "name", "executable", "new file"],
)
def test_is_built_again_when_a_file_changes(engine, context, touch):
    recipe = Recipe("lab/worker:1", context)
    make(recipe)
    touch(context)
    assert make(recipe)[0].changed
    assert len(engine.calls("build")) == 2


def test_is_not_built_again_for_what_git_does_not_keep(engine, context):
    recipe = Recipe("lab/worker:1", context)
    make(recipe)
    (context / "package" / "code.py").chmod(0o600)
    (context / "package" / "__pycache__").mkdir()
    (context / "package" / "__pycache__" / "code.pyc").write_text("x")
    assert not make(recipe)[0].changed


def test_is_built_again_when_its_base_image_changes(engine, context, tmp_path):
    other = tmp_path / "base"
    other.mkdir()
    (other / "Dockerfile").write_text("FROM scratch\n")
    base, worker = Recipe("lab/base:1", other), Recipe("lab/worker:1", context, base="lab/base:1")
    make(base)
    make(worker)
    (other / "Dockerfile").write_text("FROM scratch\nCMD x\n")
    make(base)
    assert make(worker)[0].changed


def test_check_mode_foretells_what_is_built_on_an_image_that_is_to_be_made(engine, context, tmp_path):
    other = tmp_path / "base"
    other.mkdir()
    (other / "Dockerfile").write_text("FROM scratch\n")
    worker = Recipe("lab/worker:1", context, base="lab/base:1")
    make(Recipe("lab/base:1", other))
    make(worker)
    assert not make(worker, check_mode=True)[0].changed
    assert ensure([worker], tmp_path / "cache", True, to_be_made=["lab/base:1"])[0].changed


def test_build_arguments_are_inputs_and_reach_docker(engine, context):
    make(Recipe("lab/worker:1", context, build_args={"PACKAGES": "one"}))
    assert make(Recipe("lab/worker:1", context, build_args={"PACKAGES": "one two"}))[0].changed
    assert "--build-arg=PACKAGES=one two" in engine.calls("build")[-1]


def test_check_mode_says_what_would_be_built(engine, context):
    recipe = Recipe("lab/worker:1", context, base="not/here:yet")
    outcome = make(recipe, check_mode=True)[0]
    assert (outcome.changed, outcome.id) == (True, None)
    assert not engine.calls("build")


def test_old_image_goes_unless_it_has_another_name(engine, context):
    recipe = Recipe("lab/worker:1", context)
    make(recipe)
    (context / "new").write_text("1")
    make(recipe)
    assert engine.count() == 1
    engine.tag("lab/worker:1", "ana/mine:1")
    (context / "new").write_text("2")
    make(recipe)
    assert sorted(engine.names()) == ["ana/mine:1", "lab/worker:1"]


def test_all_images_that_failed_are_named_with_what_docker_said(engine, context, tmp_path):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "Dockerfile").write_text("FROM scratch\nRUN false\n")
    with pytest.raises(QsmrError) as error:
        make(Recipe("a:1", broken), Recipe("good:1", context), Recipe("b:1", context, base="c:1"))
    assert "Image a:1 was not built" in str(error.value)
    assert "it returned 1" in str(error.value)
    assert "Image b:1 was not built: its base image c:1 is not there." in str(error.value)
    assert engine.names() == ["good:1"]


def bootstrap(context: Path, script: str) -> Recipe:
    program = context / "bootstrap.sh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Recipe("lab/base:1", context, command=["bootstrap.sh", "trixie"])


def test_bootstrap_becomes_an_image(engine, context):
    recipe = bootstrap(context, 'echo "$1 $CACHE_DIR"')
    assert [make(recipe)[0].changed, make(recipe)[0].changed] == [True, False]
    assert engine.names() == ["lab/base:1"]


def test_where_downloads_are_kept_is_no_input(engine, context, tmp_path):
    recipe = bootstrap(context, "echo")
    ensure([recipe], tmp_path / "one")
    assert not ensure([recipe], tmp_path / "other")[0].changed


def test_bootstrap_that_broke_off_leaves_no_image(engine, context):
    with pytest.raises(QsmrError, match="the mirror is away"):
        make(bootstrap(context, "echo half of it; echo the mirror is away >&2; exit 1"))
    assert engine.count() == 0


def test_two_runs_at_once_build_once(engine, context):
    recipe = Recipe("lab/worker:1", context)
    with ThreadPoolExecutor(2) as runs:
        outcomes = [run.result()[0] for run in [runs.submit(make, recipe) for _ in range(2)]]
    assert sorted(outcome.changed for outcome in outcomes) == [False, True]
    assert len(engine.calls("build")) == 1


def test_missing_docker_is_said(context, monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(QsmrError, match=r"engine\.yml"):
        make(Recipe("lab/worker:1", context))


def test_missing_directory_is_said(engine, tmp_path):
    with pytest.raises(QsmrError, match="no such directory"):
        make(Recipe("lab/worker:1", tmp_path / "nothing"))


def test_what_root_downloads_belongs_to_the_owner_of_the_cache(engine, context, monkeypatch):
    given = {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        os, "chown", lambda path, user, group, follow_symlinks: given.update({path.name: (user, group)})
    )
    program = context / "bootstrap"
    program.write_text('#!/bin/sh\nmkdir -p "$CACHE_DIR/suite" && : >"$CACHE_DIR/suite/package.deb"\n')
    program.chmod(0o755)
    make(Recipe("lab/base:1", context, command=["bootstrap"]))
    owner = (context.parent / "cache").stat()
    assert given == dict.fromkeys(("suite", "package.deb"), (owner.st_uid, owner.st_gid))
