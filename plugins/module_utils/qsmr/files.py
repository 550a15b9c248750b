"""Write files that outlive the process: whole or not at all, whatever dies."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path


def write_atomically(path: Path, text: str | Iterable[str], mode: int = 0o644, modified: float | None = None) -> None:
    """Replace ``path`` by ``text``: temporary file beside it, fsync, rename.

    The file never has wider permissions than ``mode``. ``modified`` sets its modification time (seconds since 1970).
    """
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
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
