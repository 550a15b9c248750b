"""Directories of a lab host that may not exist yet: whose they are, and what room there is.

Runs on lab hosts: Python 3.9 and the standard library.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

# The settings that name the directory of all that is on a host, of what the control node keeps, and of snapshots.
HOST_SETTING = "qsmr_host_dir"
STATE_SETTING = "qsmr_state_dir"
SNAPSHOT_SETTING = "qsmr_snapshot_dir"
# No room, or none for this user.
FULL = (errno.ENOSPC, errno.EDQUOT)
# What a file system says that has no locks; NFS answers with the last one where it has them, but not for directories.
LOCKLESS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EBADF)


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


def why(error: OSError, setting: str = HOST_SETTING) -> str:
    """The system's words for a file operation that failed, and what to do about them.

    ``setting`` is the one that names the directory.
    """
    words = error.strerror or str(error)
    if isinstance(error, PermissionError):
        or_else = "set ansible_become" if setting == HOST_SETTING else f"set {setting}"
        place = f" for {error.filename}" if error.filename else ""
        return f"permission denied{place}: give it to this user, or {or_else}"
    if error.errno in FULL:
        return f"{words}: make room there, or set {setting}"
    if error.errno in LOCKLESS:
        return f"{words}: its file system has no locks (NFS without them, say), set {setting} to a directory on another"
    if error.errno == errno.EROFS:
        return f"{words}: set {setting} to a directory that can be written"
    return f"{words}: check {setting}"


def database_why(error: Exception, setting: str = STATE_SETTING) -> str:
    """SQLite's words for what went wrong with a file of its own, and what to do about it."""
    words = str(error)
    if "full" in words:
        return f"{words}: make room there, or set {setting}"
    if "lock" in words:
        none = f"if there is none, its file system has no locks (NFS without them, say), set {setting}"
        return f"{words}: wait for other runs; {none} to a directory on another"
    if "I/O" in words or "readonly" in words or "unable to open" in words:
        return f"{words}: check the disk and its room, or set {setting}"
    return f"{words}: move the file away to begin anew"
