"""Which files are the code, and when they count as the same."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qsmr.codetree import GitState, git_state, tree, tree_digest


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ana", "-c", "user.email=ana@lab.example", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *identity, *arguments], cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def write(directory: Path, **files: str) -> None:
    for name, text in files.items():
        path = directory / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def repository(tmp_path):
    code = tmp_path / "code"
    write(code, build="make", src__main="1")
    (code / ".gitignore").write_text("*.o\n")
    git(code, "init", "-q")
    git(code, "add", "-A")
    git(code, "commit", "-q", "-m", "first")
    return code


def test_git_decides_what_is_code(repository):
    before = tree(repository)
    assert set(before) == {".gitignore", "build", "src/main"}
    write(repository, src__main_o="x")
    (repository / "src/main.o").write_text("ignored")
    (repository / "qsmr.tar.gz").write_text("made by the build")
    write(repository, snapshot__qsmr_snapshot_demo_261124__docker_image="a snapshot")
    assert set(tree(repository)) == set(before) | {"src/main_o"}
    (repository / "build").unlink()
    assert "build" not in tree(repository)


def test_git_state_tells_commit_and_changes(repository):
    commit = git(repository, "rev-parse", "HEAD")
    assert git_state(repository) == GitState(commit, False)
    (repository / "qsmr_data.tar.gz").write_text("made by the build")
    write(repository, qsmr_snapshot_demo_261124__snapshot_json="{}")
    assert git_state(repository) == GitState(commit, False)
    write(repository, new_file="x")
    assert git_state(repository) == GitState(commit, True)
    assert git_state(repository / "src") == GitState(commit, False), "only what is below the code directory counts"
    write(repository, src__main="2")
    assert git_state(repository / "src") == GitState(commit, True)


def test_without_git_all_files_are_code(tmp_path):
    write(tmp_path, a="1", sub__b="2", sub__qsmr_snapshot_x_260101__c="3")
    (tmp_path / "qsmr.tar.gz").write_text("made")
    (tmp_path / ".qsmr_layers").mkdir()
    (tmp_path / ".qsmr_layers/x.zst").write_text("made")
    assert set(tree(tmp_path)) == {"a", "sub/b"}
    assert git_state(tmp_path) == GitState(None, None)


def test_a_directory_that_the_repository_around_it_ignores_is_not_of_it(repository):
    (repository / ".gitignore").write_text("scratch/\n")
    write(repository, scratch__code__build="x")
    assert set(tree(repository / "scratch/code")) == {"build"}
    assert git_state(repository / "scratch/code") == GitState(None, None)


def test_a_repository_without_commit_is_read(tmp_path):
    write(tmp_path, a="1")
    git(tmp_path, "init", "-q")
    assert set(tree(tmp_path)) == {"a"}
    assert git_state(tmp_path) == GitState(None, None)


def test_a_submodule_counts_with_its_files(repository, tmp_path):
    inner = tmp_path / "inner"
    write(inner, file="1")
    git(inner, "init", "-q")
    git(inner, "add", "-A")
    git(inner, "commit", "-q", "-m", "inner")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "sub")
    assert "sub/file" in tree(repository)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_somebody_elses_repository_is_read(repository):
    for path in [repository, *repository.rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    assert git_state(repository).commit
    assert set(tree(repository)) == {".gitignore", "build", "src/main"}


def test_a_git_hook_around_us_does_not_matter(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert git_state(repository).commit


def test_digest_covers_content_name_and_executable_bit(tmp_path):
    write(tmp_path, a="1")
    (tmp_path / "link").symlink_to("a")
    digests = [tree_digest(tree(tmp_path))]

    def changed() -> None:
        digests.append(tree_digest(tree(tmp_path)))
        assert len(set(digests)) == len(digests)

    (tmp_path / "a").chmod(0o755)
    changed()
    write(tmp_path, a="2")
    changed()
    (tmp_path / "a").rename(tmp_path / "b")
    changed()
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("b")
    changed()
    os.utime(tmp_path / "b", (0, 0))
    assert tree_digest(tree(tmp_path)) == digests[-1], "times are nothing"


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(names, st.binary(max_size=10), max_size=4),
    st.dictionaries(names, st.binary(max_size=10), max_size=4),
)
def test_digests_are_equal_exactly_if_the_files_are(first, second):
    assert (tree_digest(_tree_of(first)) == tree_digest(_tree_of(second))) == (first == second)


def _tree_of(files: dict[str, bytes]) -> dict[str, str]:
    return {name: content.hex() for name, content in sorted(files.items())}
