"""Releases: a snapshot on a host, and which one runs there.

``<host_dir>/<project>/releases/<snapshot id>/`` holds a release's files. Three links beside ``releases`` point into it:
``current`` at the release that runs, ``stable`` at the last one that was healthy for as long as a rollout asks, and
``previous`` at the stable one before that. Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from .errors import QsmrError
from .files import make_directory, write_atomically
from .hostpaths import why
from .names import check_project_name, is_plain

COMPOSE_FILE = "docker-compose.yml"
ENV_FILE = "worker.env"
MANIFEST = "snapshot.json"
DIRECTORY_MODE = 0o750
MODES = {ENV_FILE: 0o600}
FILE_MODE = 0o640


def parse_env(text: str) -> dict[str, str]:
    """The literal KEY=VALUE lines of ``docker run --env-file``: no quotes, no expansion, ``#`` starts a comment."""
    env = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        key, separator, value = line.partition("=")
        if not separator or not key:
            raise QsmrError(f"{ENV_FILE} line {number} is not KEY=VALUE: build the snapshot again")
        if not key.startswith(("UWORKER_", "QSMR_")):
            # It would get to Compose, too, where PATH, LD_PRELOAD or DOCKER_HOST mean something.
            raise QsmrError(f"{ENV_FILE} line {number} sets {key}: no worker needs that, build the snapshot again")
        env[key] = value
    return env


class Releases:
    """The releases of one project on this machine. Raises QsmrError for a name that no project can have."""

    def __init__(self, host_dir: Path, project: str) -> None:
        check_project_name(project)
        self.root = host_dir / project
        self.link = self.root / "current"
        self.incoming = self.root / "incoming"

    def directory(self, snapshot_id: str) -> Path:
        """Where a release is, or would be. Raises QsmrError for what would lead elsewhere."""
        if not is_plain(snapshot_id):
            raise QsmrError(f"{snapshot_id!r} cannot be a release: give one of {', '.join(self.ids()) or 'none'}")
        return self.root / "releases" / snapshot_id

    @property
    def current(self) -> str:
        """The snapshot id of the release that runs; empty if none was started."""
        return self._pointed_at("current")

    @property
    def stable(self) -> str:
        """The snapshot id of the last release that proved itself; empty if none did."""
        return self._pointed_at("stable")

    @property
    def previous(self) -> str:
        """The snapshot id of the stable release before ``stable``; empty if there was none."""
        return self._pointed_at("previous")

    def _pointed_at(self, link: str) -> str:
        try:
            name = (self.root / link).readlink().name if (self.root / link).is_symlink() else ""
        except OSError:
            return ""
        return name if is_plain(name) else ""

    def before(self, snapshot_id: str) -> str:
        """The release to go back to from this one: the last that proved itself and is still here; empty if none is."""
        known = (self.stable or self.current, self.previous)
        return next((name for name in known if name not in ("", snapshot_id) and self.directory(name).is_dir()), "")

    def named(self, name: str) -> str:
        """The release that a name means: "current", "before" for the one that ran before, or its own. Raises QsmrError.

        Where a switch was broken off, which leaves ``current`` at what is not stable, "before" gives it up; and a
        rollback that was broken off itself goes on to the same end.
        """
        if name == "current":
            name = self.current
        elif name == "before":
            unproven = self.stable and self.current not in (self.stable, self.previous)
            name = self.stable if unproven else self.previous
            if name == self.current == self.stable:
                name = ""
        if not name:
            raise QsmrError(
                "There is no such release here: give qsmr_release, one of " + (", ".join(self.ids()) or "none")
            )
        return name

    def ids(self) -> list[str]:
        """The snapshot ids of all releases that are here, oldest first."""
        try:
            return sorted(entry.name for entry in (self.root / "releases").iterdir() if entry.is_dir())
        except OSError:
            return []

    def differing(self, snapshot_id: str, files: Mapping[str, str]) -> list[str]:
        """The files that this release lacks, or has with other content or permissions."""
        return [name for name, text in files.items() if not self._is(self.directory(snapshot_id) / name, text)]

    @staticmethod
    def _is(path: Path, text: str) -> bool:
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            return mode == MODES.get(path.name, FILE_MODE) and path.read_text(encoding="utf-8") == text
        except (OSError, UnicodeDecodeError):
            return False

    def read(self, snapshot_id: str) -> dict[str, str]:
        """The content of a release's files by name. Raises QsmrError if it is not here, or not whole."""
        names = (COMPOSE_FILE, ENV_FILE, MANIFEST)
        try:
            return {name: (self.directory(snapshot_id) / name).read_text(encoding="utf-8") for name in names}
        except FileNotFoundError:
            there = ", ".join(self.ids()) or "none"
            raise QsmrError(f"Release {snapshot_id} is not on this host, which has {there}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise QsmrError(f"Release {snapshot_id} cannot be read: {error}") from None

    def write(self, snapshot_id: str, files: Mapping[str, str]) -> None:
        """Write a release's files. One that changes is not current until Compose has taken it up, see ``switch``."""
        directory = self.directory(snapshot_id)
        try:
            if self.current == snapshot_id:
                self.link.unlink()
            make_directory(self.root.parent)
            make_directory(directory, DIRECTORY_MODE)
            for name, text in files.items():
                write_atomically(directory / name, text, MODES.get(name, FILE_MODE))
        except OSError as error:
            raise QsmrError(f"The release cannot be written to {directory}: {why(error)}") from None

    def switch(self, snapshot_id: str) -> None:
        """Let ``current`` point at a release, in one step."""
        self._point("current", snapshot_id)

    def confirm(self, snapshot_id: str) -> None:
        """Let ``stable`` point at a release that proved itself. If it is killed in between, a repetition is right."""
        if self.stable not in ("", snapshot_id):
            self._point("previous", self.stable)
        self._point("stable", snapshot_id)

    def restore(self, snapshot_id: str) -> None:
        """Let ``stable`` point at a release that is back, as if the one after it had never been."""
        self._point("stable", snapshot_id)

    def forget_current(self) -> None:
        """Nothing runs any more."""
        try:
            self.link.unlink(missing_ok=True)
        except OSError as error:
            raise QsmrError(f"{self.link} cannot be removed: {why(error)}") from None

    def _point(self, name: str, snapshot_id: str) -> None:
        new = self.root / f".{name}.new"
        try:
            new.unlink(missing_ok=True)
            new.symlink_to(Path("releases") / snapshot_id)
            new.replace(self.root / name)
        except OSError as error:
            raise QsmrError(f"{self.root / name} cannot be switched to {snapshot_id}: {why(error)}") from None
