"""Files appear whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest
from qsmr.files import write_atomically


def test_replaces_and_sets_mode_and_time(tmp_path):
    path = tmp_path / "worker.env"
    path.write_text("old")
    write_atomically(path, "nöw\n", mode=0o600, modified=1e9)
    assert path.read_text() == "nöw\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_mtime == 1e9


def test_failure_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "ledger.json"
    path.write_text("old")

    def full_disk(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
