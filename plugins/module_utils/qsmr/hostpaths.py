"""Directories of a lab host that may not exist yet: whose they are, and what room there is.

Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import os
from pathlib import Path


def nearest(path: Path) -> Path:
    """``path`` itself, or the nearest directory above it that this user can see."""
    return next(there for there in (path, *path.parents) if os.access(there, os.F_OK))


def disk_free(path: Path) -> int:
    """Bytes that this user may still write where ``path`` is, or will be."""
    found = os.statvfs(nearest(path))
    return found.f_bavail * found.f_frsize


def on_one_disk(first: Path, second: Path) -> bool:
    return nearest(first).stat().st_dev == nearest(second).stat().st_dev


def unwritable(directory: Path) -> str:
    """Why this user cannot make ``directory`` or write to it, and what to do; empty if they can."""
    there = nearest(directory)
    if not there.is_dir():
        return f"{there} is no directory: remove it, or set qsmr_host_dir"
    if os.access(there, os.W_OK | os.X_OK):
        return ""
    missing = "" if there == directory else f"{directory} is missing and "
    return f"{missing}{there} is not writable for this user: give {directory} to the user, or set ansible_become"


def why(error: OSError) -> str:
    """The system's words for a file operation that failed, and what to do about them."""
    if isinstance(error, PermissionError):
        return f"permission denied for {error.filename}: give it to this user, or set ansible_become"
    return error.strerror or str(error)
