"""The code that a snapshot is made of: which files belong to it, their digests, and the commit they come from."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .archive import file_sha256

# What the build command makes, for us to take. Not code.
ARCHIVES = ("qsmr_data.tar.gz", "qsmr.tar.gz")
# Snapshots, what lies beside them while they are made, and their layers as they are sent.
RESULTS = ("qsmr_snapshot_", ".qsmr_snapshot_", ".qsmr_layers")


@dataclass(frozen=True)
class GitState:
    """Commit of the work tree, and whether files differ from it; both None outside of a work tree."""

    commit: str | None = None
    dirty: bool | None = None


def tree(directory: Path) -> dict[str, str]:
    """The digest of each file of the code, by its path in ``directory``.

    In a git work tree these are the tracked files and those that git would not ignore, elsewhere all files. A digest
    covers content and executable bit, or the target of a symbolic link. Archives and snapshots are results, not code.
    """
    listing = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = _git(directory, *listing) if _in_git(directory) else None
    paths = _walk(directory) if listed is None else _existing(directory, listed.split("\0"))
    return {path: _file_digest(directory / path) for path in sorted(set(filter(_is_code, paths)))}


def tree_digest(files: dict[str, str]) -> str:
    """One digest for all files of a tree."""
    lines = "".join(f"{path}\0{digest}\0" for path, digest in files.items())
    return "sha256:" + hashlib.sha256(os.fsencode(lines)).hexdigest()


def git_state(directory: Path) -> GitState:
    """Commit of the code in ``directory``, and whether the code there differs from it."""
    commit = _git(directory, "rev-parse", "--verify", "--quiet", "HEAD") if _in_git(directory) else None
    if commit is None:
        return GitState()
    prefix = (_git(directory, "rev-parse", "--show-prefix") or "").strip()
    status = _git(directory, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames", "--", ".") or ""
    changed = (entry[3:].removeprefix(prefix) for entry in status.split("\0") if entry)
    return GitState(commit.strip(), any(map(_is_code, changed)))


def _is_code(path: str) -> bool:
    return path not in ARCHIVES and not any(part.startswith(RESULTS) for part in Path(path).parts)


def _in_git(directory: Path) -> bool:
    # A directory that the repository around it ignores is not of that repository.
    inside = _git(directory, "rev-parse", "--is-inside-work-tree") == "true\n"
    return inside and _git(directory, "check-ignore", ".") is None


def _git(directory: Path, *arguments: str) -> str | None:
    """Output of a git command in ``directory``; None where it fails or there is no git.

    Whose work tree it is does not matter (safe.directory): the user had us run the build command that lies in it.
    """
    command = ("git", "-c", "safe.directory=*", "--no-optional-locks", "-C", str(directory), *arguments)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        run = subprocess.run(command, env=environment, capture_output=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    return os.fsdecode(run.stdout)


def _existing(directory: Path, paths: Iterable[str]) -> Iterator[str]:
    for path in filter(None, paths):
        if (directory / path).is_dir() and not (directory / path).is_symlink():  # a submodule
            yield from (f"{path.rstrip('/')}/{inner}" for inner in _walk(directory / path))
        elif os.path.lexists(directory / path):
            yield path


def _walk(directory: Path) -> Iterator[str]:
    for parent, directories, files in os.walk(directory):
        links = [name for name in directories if (Path(parent) / name).is_symlink()]
        directories[:] = [name for name in directories if name != ".git" and _is_code(name)]
        yield from (str((Path(parent) / name).relative_to(directory)) for name in files + links if name != ".git")


def _file_digest(path: Path) -> str:
    if path.is_symlink():
        return f"link {path.readlink()}"
    if not path.is_file():
        return "special"
    return f"{'x' if path.stat().st_mode & 0o100 else '-'} {file_sha256(path)}"
