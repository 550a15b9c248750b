"""Write files that outlive the process: whole or not at all, whatever dies."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import QsmrError
from .hostpaths import STATE_SETTING, why


def write_atomically(path: Path, text: str | Iterable[str], mode: int = 0o644, modified: float | None = None) -> None:
    """Replace ``path`` by ``text``: temporary file beside it, fsync, rename.

    The file never has wider permissions than ``mode``. ``modified`` sets its modification time (seconds since 1970).
    """
    with _called(path):
        _write(path, text, mode, modified)


def write_state(path: Path, text: str | Iterable[str], setting: str = STATE_SETTING) -> None:
    """``write_atomically`` on the control node, in a directory that is made if need be.

    Raises QsmrError with the path and what to do; ``setting`` names the directory.
    """
    try:
        make_directory(path.parent)
        write_atomically(path, text)
    except OSError as error:
        raise QsmrError(f"{path} cannot be written: {why(error, setting)}") from None


@contextmanager
def _called(path: Path) -> Iterator[None]:
    """What goes wrong does so with ``path``: the system names no file where there is no room, or the temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(str(error.filename)).name.startswith(f".{path.name}."):
            error.filename = str(path)
        raise


def _write(path: Path, text: str | Iterable[str], mode: int, modified: float | None) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.writelines([text] if isinstance(text, str) else text)
            stream.flush()
            os.fsync(stream.fileno())
        if modified is not None:
            os.utime(name, (modified, modified))
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):  # nor does it hide why
            Path(name).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def limit_umask() -> None:
    """Let what this process makes be writable for its user only, whatever umask it was started with."""
    os.umask(os.umask(0o022) | 0o022)


def make_directory(path: Path, mode: int = 0o755) -> None:
    """Make a directory and those above it that are missing, none with wider permissions than ``mode``.

    ``Path.mkdir`` gives the parents whatever the umask leaves.
    """
    missing = [there for there in (path, *path.parents) if not there.exists()]
    for directory in reversed(missing):
        directory.mkdir(mode=mode, exist_ok=True)


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """A file for the block to write, which then replaces ``path``; fsync before rename.

    Always the same file beside ``path``, so what a kill leaves behind is written over: one process only may write.
    """
    part = path.with_name(f".{path.name}.part")
    with _called(path):
        part.unlink(missing_ok=True)
        try:
            yield part
            part.chmod(mode)
            _sync(part)
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise
        _sync(path.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
