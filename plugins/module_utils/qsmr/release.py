"""Releases: a snapshot on a host, and which one runs there.

``<host_dir>/<project>/releases/<snapshot id>/`` holds a release's files, ``<host_dir>/<project>/current`` points at the
one that runs. Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path

from .errors import QsmrError
from .files import write_atomically
from .hostpaths import why

COMPOSE_FILE = "docker-compose.yml"
ENV_FILE = "worker.env"
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
        env[key] = value
    return env


class Releases:
    """The releases of one project on this machine."""

    def __init__(self, host_dir: Path, project: str) -> None:
        self.root = host_dir / project
        self.link = self.root / "current"
        self.incoming = self.root / "incoming"

    def directory(self, snapshot_id: str) -> Path:
        return self.root / "releases" / snapshot_id

    @property
    def current(self) -> str:
        """The snapshot id of the release that runs; empty if none was started."""
        try:
            return self.link.readlink().name if self.link.is_symlink() else ""
        except OSError:
            return ""

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

    def write(self, snapshot_id: str, files: Mapping[str, str]) -> None:
        """Write a release's files. One that changes is not current until Compose has taken it up, see ``switch``."""
        directory = self.directory(snapshot_id)
        try:
            if self.current == snapshot_id:
                self.link.unlink()
            for parent in (self.root, directory.parent, directory):
                parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            for name, text in files.items():
                write_atomically(directory / name, text, MODES.get(name, FILE_MODE))
        except OSError as error:
            raise QsmrError(f"The release cannot be written to {directory}: {why(error)}") from None

    def switch(self, snapshot_id: str) -> None:
        """Let ``current`` point at a release, in one step."""
        new = self.root / ".current.new"
        try:
            new.unlink(missing_ok=True)
            new.symlink_to(Path("releases") / snapshot_id)
            new.replace(self.link)
        except OSError as error:
            raise QsmrError(f"{self.link} cannot be switched to {snapshot_id}: {why(error)}") from None
