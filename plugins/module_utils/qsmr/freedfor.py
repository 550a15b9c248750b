"""The part of the ledger that tells which jobs of other snapshots were made available for one, each once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

FREED_FOR = """
-- Jobs that another snapshot did, and that are made available for this one, each once. claimed tells who did it then.
CREATE TABLE again (
    snapshot TEXT NOT NULL, job_id TEXT NOT NULL, claimed TEXT NOT NULL, available INTEGER NOT NULL,
    PRIMARY KEY (snapshot, job_id)
) WITHOUT ROWID;
"""


class FreedFor:
    """The jobs of one snapshot. Each is on disk before the first request for it, and after the last one."""

    def __init__(
        self, sql: sqlite3.Connection, transaction: Callable[[], AbstractContextManager[None]], snapshot: str
    ) -> None:
        """``sql`` and ``transaction`` are the ledger's."""
        self._sql = sql
        self._transaction = transaction
        self._snapshot = snapshot

    def jobs(self) -> dict[str, str]:
        """All of them by their ids; what is known to be available is empty, the others have the claim that they had."""
        return dict(
            self._sql.execute(
                "SELECT job_id, iif(available, '', claimed) FROM again WHERE snapshot = ?", [self._snapshot]
            ).fetchall()
        )

    def intend(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Record that these jobs (id, and who claimed it when) are about to be made available."""
        with self._transaction():
            self._sql.executemany(
                "INSERT OR IGNORE INTO again VALUES (?, ?, ?, 0)", [(self._snapshot, *job) for job in jobs]
            )

    def record(self, job_ids: Iterable[str]) -> None:
        """Record that these jobs are available. How other snapshots did them, or failed to, counts no more."""
        keys = [(self._snapshot, job_id) for job_id in job_ids]
        with self._transaction():
            self._sql.executemany("UPDATE again SET available = 1 WHERE snapshot = ? AND job_id = ?", keys)
            self._sql.executemany("DELETE FROM again WHERE snapshot != ? AND job_id = ?", keys)
            self._sql.executemany("DELETE FROM failure WHERE job_id = ?", [key[1:] for key in keys])
