"""What is known of the level 2 of a project: a row for each scan, so that a run asks for news only.

It can be made again from the job service and the documents; each document's modification time is the time at which its
job finished.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from .errors import QsmrError
from .hostpaths import STATE_SETTING, database_why, why
from .level2doc import Facts
from .level2set import Key, Scan
from .lock import held

FILE = "index.sqlite"
_VERSION = 1
_SCHEMA = """
CREATE TABLE scan (
    freq_mode INTEGER NOT NULL,
    scan_id INTEGER NOT NULL,
    -- the job, as the service listed it
    state TEXT,                -- finished, failed; NULL if it is neither any more
    ended INTEGER NOT NULL,    -- seconds since 1970
    worker TEXT NOT NULL,
    claimed INTEGER,           -- seconds since 1970
    processing_time REAL,      -- seconds
    seen INTEGER NOT NULL,     -- number of the listing
    -- the document
    kept INTEGER,              -- when the job of the kept document ended; NULL: none is kept
    size INTEGER,              -- bytes
    outcome TEXT,              -- retrieved, no_result, missing, wrong
    reason TEXT NOT NULL DEFAULT '',
    snapshot TEXT, configuration TEXT, settings TEXT, products TEXT, levels INTEGER,
    time REAL, latitude REAL, longitude REAL, residual REAL, cost REAL,
    PRIMARY KEY (freq_mode, scan_id)
) WITHOUT ROWID;
-- The scans whose document is there.
CREATE VIEW document AS SELECT * FROM scan WHERE state = 'finished' AND kept = ended;
CREATE TABLE product (
    name TEXT NOT NULL, freq_mode INTEGER NOT NULL, scan_id INTEGER NOT NULL, PRIMARY KEY (name, freq_mode, scan_id)
) WITHOUT ROWID;
"""


class Job(NamedTuple):
    """A job that ended: which scan, how (finished, failed), by whom, when (seconds since 1970), in how long (s)."""

    freq_mode: int
    scan_id: int
    state: str
    ended: int
    worker: str = ""
    claimed: int | None = None
    processing_time: float | None = None

    @property
    def key(self) -> Key:
        return self.freq_mode, self.scan_id


class ResultIndex:
    """The index of a results directory. One process at a time; in check mode what is changed is forgotten."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._db.row_factory = sqlite3.Row
        if self._db.execute("PRAGMA user_version").fetchone()[0] != _VERSION:
            self._db.executescript(
                "DROP VIEW IF EXISTS document; DROP TABLE IF EXISTS scan; DROP TABLE IF EXISTS product;" + _SCHEMA
            )
            self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def commit(self) -> None:
        self._db.commit()

    # --- jobs

    def newest(self, state: str) -> int:
        """When the last known job of a state ended; 0 without one."""
        return int(self._db.execute("SELECT coalesce(max(ended), 0) FROM scan WHERE state = ?", (state,)).fetchone()[0])

    def states(self) -> Counter[str]:
        rows = self._db.execute("SELECT state, count(*) FROM scan WHERE state IS NOT NULL GROUP BY state")
        return Counter(dict(rows.fetchall()))

    def list_jobs(self, jobs: Iterable[Job], *, all_of_them: bool) -> None:
        """Take in what the service lists. With ``all_of_them`` a job that is not among them has not ended any more."""
        number = self._db.execute("SELECT coalesce(max(seen), 0) + 1 FROM scan").fetchone()[0]
        self._db.executemany(
            "INSERT INTO scan (freq_mode, scan_id, state, ended, worker, claimed, processing_time, seen)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET state = excluded.state,"
            " ended = excluded.ended, worker = excluded.worker, claimed = excluded.claimed,"
            " processing_time = excluded.processing_time, seen = excluded.seen",
            ((*job, number) for job in jobs),
        )
        if all_of_them:
            self._db.execute("UPDATE scan SET state = NULL WHERE seen < ?", (number,))
        self.commit()

    # --- documents

    def kept(self) -> Iterator[tuple[Key, int]]:
        """The scans whose document is there, with its size in bytes."""
        for row in self._db.execute("SELECT freq_mode, scan_id, size FROM document"):
            yield (row[0], row[1]), row[2]

    def lose(self, keys: Iterable[Key]) -> None:
        self._db.executemany("UPDATE scan SET kept = NULL WHERE freq_mode = ? AND scan_id = ?", keys)

    def wanted(self) -> Iterator[Job]:
        """The finished jobs whose document is not there, in the order of their keys."""
        query = (
            "SELECT freq_mode, scan_id, state, ended, worker, claimed, processing_time FROM scan"
            " WHERE state = 'finished' AND kept IS NOT ended AND (freq_mode, scan_id) > (?, ?)"
            " ORDER BY freq_mode, scan_id LIMIT 1000"
        )
        last: Key = (-1, -1)
        while rows := self._db.execute(query, last).fetchall():
            yield from map(Job._make, rows)
            last = (rows[-1][0], rows[-1][1])

    def keep(self, job: Job, facts: Facts, size: int) -> None:
        """The document of a job is on disk."""
        self._db.execute(
            "UPDATE scan SET kept = ended, size = ?, outcome = ?, reason = ?, snapshot = ?, configuration = ?,"
            " settings = ?, products = ?, levels = ?, time = ?, latitude = ?, longitude = ?, residual = ?, cost = ?"
            " WHERE freq_mode = ? AND scan_id = ?",
            (
                *(size, "retrieved" if facts.retrieved else "no_result", facts.reason, facts.snapshot),
                *(facts.configuration, facts.settings, json.dumps(facts.products), facts.levels, facts.time),
                *(facts.latitude, facts.longitude, facts.residual, facts.cost, *job.key),
            ),
        )
        self._db.execute("DELETE FROM product WHERE freq_mode = ? AND scan_id = ?", job.key)
        self._db.executemany("INSERT INTO product VALUES (?, ?, ?)", [(name, *job.key) for name in facts.products])

    def fail(self, job: Job, outcome: str, reason: str) -> None:
        """There is no document of a job that could be kept: ``missing`` or ``wrong``, and why."""
        self._db.execute(
            "UPDATE scan SET kept = NULL, outcome = ?, reason = ? WHERE freq_mode = ? AND scan_id = ?",
            (outcome, reason, *job.key),
        )

    # --- what is there

    def products(self) -> list[str]:
        query = "SELECT DISTINCT name FROM product JOIN document USING (freq_mode, scan_id) ORDER BY name"
        return [row[0] for row in self._db.execute(query)]

    def scans_of(self, product: str) -> Iterator[Scan]:
        """The scans that have a product, in the order of time."""
        query = (
            "SELECT freq_mode, scan_id, ended FROM document JOIN product USING (freq_mode, scan_id)"
            " WHERE name = ? ORDER BY scan_id, freq_mode"
        )
        for row in self._db.execute(query, (product,)):
            yield Scan((row[0], row[1]), row[2])

    def snapshots(self) -> dict[str, int]:
        """How many of the documents each snapshot made."""
        query = "SELECT snapshot, count(*) FROM document GROUP BY snapshot ORDER BY min(ended), snapshot"
        return dict(self._db.execute(query).fetchall())

    def ended_before(self, time: int, snapshot: str) -> int:
        """How many of the documents of a snapshot are of jobs that ended before a time (seconds since 1970)."""
        query = "SELECT count(*) FROM document WHERE ended < ? AND snapshot = ?"
        return int(self._db.execute(query, (time, snapshot)).fetchone()[0])

    def settings(self) -> dict[str, list[str]]:
        """The settings that the documents of each snapshot tell in their comments."""
        found: dict[str, list[str]] = {}
        for snapshot, text in self._db.execute("SELECT DISTINCT snapshot, settings FROM document"):
            found.setdefault(snapshot, []).append(text)
        return found

    def outcomes(self) -> dict[str, int]:
        """How many scans had which outcome, as the summary has them."""
        query = (
            "SELECT CASE state WHEN 'failed' THEN 'job_failed' ELSE coalesce(outcome, 'wanted') END AS found, count(*)"
            " FROM scan WHERE state IS NOT NULL GROUP BY found"
        )
        return dict(self._db.execute(query).fetchall())

    def scan(self, key: Key) -> dict[str, Any] | None:
        row = self._db.execute("SELECT * FROM scan WHERE freq_mode = ? AND scan_id = ?", key).fetchone()
        return dict(row) if row else None

    def modes_of(self, scan_id: int) -> list[int]:
        query = "SELECT freq_mode FROM scan WHERE scan_id = ? ORDER BY freq_mode"
        return [row[0] for row in self._db.execute(query, (scan_id,))]

    def rows(self) -> Iterator[Mapping[str, Any]]:
        """All scans whose job ended, in the order of their keys."""
        yield from self._db.execute("SELECT * FROM scan WHERE state IS NOT NULL ORDER BY freq_mode, scan_id")


@contextmanager
def opened(directory: Path, *, check_mode: bool = False) -> Iterator[ResultIndex]:
    """The index of a results directory, which is made if need be. Raises QsmrError if another run has it."""
    path = directory / FILE
    try:
        if check_mode:
            with closing(sqlite3.connect(":memory:")) as memory:
                if path.exists():
                    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as there:
                        there.backup(memory)
                yield ResultIndex(memory)
            return
        directory.mkdir(parents=True, exist_ok=True)
        busy = f"Another results.yml is at work in {directory}: wait until it is done"
        with held(directory / ".lock", STATE_SETTING, busy), closing(sqlite3.connect(path)) as connection:
            yield ResultIndex(connection)
            connection.commit()
    except sqlite3.OperationalError as error:
        raise QsmrError(f"{path} cannot be used: {database_why(error)}") from None
    except sqlite3.DatabaseError as error:
        raise QsmrError(f"{path}: {error}; remove it and run again, it is made anew") from None
    except OSError as error:
        raise QsmrError(f"{error.filename or directory} cannot be used: {why(error, STATE_SETTING)}") from None


def utc(seconds: float | None) -> str:
    """Seconds since 1970 as ISO 8601; empty for none."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""
