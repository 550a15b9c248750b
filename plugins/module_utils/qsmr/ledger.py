"""The ledger: what is known of every job of a project, on disk before and after each request, whatever dies.

A job's document follows from its frequency mode, its scan id and the recipe (roots, Odin project, secret, API version,
cipher), so the recipe's digest stands for the payload: no document, token or secret is kept here.

States of a job::

    sending   it is or was about to be sent, and no answer is known
    added     the service has it, with this recipe's document
    exists    the service has a job with this id; an old service that does not say with which document
    conflict  the service has a job with this id and another document
    refused   the service does not take it
    gone      it was added, and the service has it no more

The ledger may be deleted: the next run asks the service again.
"""

from __future__ import annotations

import fcntl
import getpass
import os
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple

from .errors import QsmrError
from .freedfor import FREED_FOR, FreedFor
from .hostpaths import STATE_SETTING, database_why, why

# One script for each version of the format: a ledger is brought from its version to the newest.
_SCHEMA = (
    """
CREATE TABLE recipe (id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE);
CREATE TABLE job (
    freq_mode INTEGER NOT NULL,
    scan_id INTEGER NOT NULL,
    recipe INTEGER NOT NULL REFERENCES recipe (id),
    state TEXT NOT NULL CHECK (state IN ('sending', 'added', 'exists', 'conflict', 'refused', 'gone')),
    attempts INTEGER NOT NULL,
    answer TEXT NOT NULL,
    changed INTEGER NOT NULL,  -- seconds since 1970
    PRIMARY KEY (freq_mode, scan_id)
) WITHOUT ROWID;
-- How the service described the project when it and the ledger were last seen to agree on what is added.
CREATE TABLE agreed (only INTEGER PRIMARY KEY CHECK (only = 1), service TEXT NOT NULL);
""",
    """
-- How often a job's processing failed, and when the service says that it last did.
CREATE TABLE failure (job_id TEXT PRIMARY KEY, failures INTEGER NOT NULL, last TEXT NOT NULL) WITHOUT ROWID;
""",
    """
-- The recipe of the document that the service took from us. NULL where somebody else made it, or there is none.
ALTER TABLE job ADD COLUMN made_by INTEGER REFERENCES recipe (id);
UPDATE job SET made_by = recipe WHERE state = 'added';
""",
    FREED_FOR,
)
# What a run compares lies in SQLite's temporary file, so that a million scans need no memory.
_TEMPORARY = """
CREATE TEMP TABLE wanted (
    freq_mode INTEGER NOT NULL, scan_id INTEGER NOT NULL, line INTEGER NOT NULL, PRIMARY KEY (freq_mode, scan_id)
) WITHOUT ROWID;
CREATE TEMP TABLE listed (
    freq_mode INTEGER NOT NULL, scan_id INTEGER NOT NULL, differs TEXT, PRIMARY KEY (freq_mode, scan_id)
) WITHOUT ROWID;
CREATE TEMP TABLE todo (
    place INTEGER PRIMARY KEY, freq_mode INTEGER NOT NULL, scan_id INTEGER NOT NULL, existed INTEGER NOT NULL,
    UNIQUE (freq_mode, scan_id)
);
"""


class Scan(NamedTuple):
    """One scan in one frequency mode: what a job is about."""

    freq_mode: int
    scan_id: int

    def __str__(self) -> str:
        return f"{self.freq_mode}:{self.scan_id}"


class Outcome(NamedTuple):
    """What became of a job that was sent: its new state and the service's words."""

    scan: Scan
    state: str
    answer: str


class Fault(NamedTuple):
    """A wanted job that is not there: its line in the user's list, its state, and the last that was said of it."""

    line: int
    scan: Scan
    state: str
    answer: str

    def __str__(self) -> str:
        return f"line {self.line}, scan {self.scan}: {self.state}: {self.answer}"


@dataclass(frozen=True)
class Counts:
    """What has become of the wanted jobs; ``remain`` were not sent or got no answer."""

    wanted: int
    added: int = 0
    were_there: int = 0
    conflict: int = 0
    refused: int = 0
    remain: int = 0


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise QsmrError(f"{path} cannot be used: {why(error, STATE_SETTING)}") from None


@contextmanager
def run_lock(directory: Path, patience: float = 0) -> Iterator[None]:
    """Hold the project whose state is in ``directory`` for one run.

    The lock is the kernel's: a process that dies, however it dies, gives it back. Raises QsmrError, which says who has
    it, when it is not free after ``patience`` seconds: Ansible can be killed and leave the module to come to its end.
    """
    path = directory / "lock"
    with _usable(path):
        directory.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+", buffering=0)
    with file:
        end = time.monotonic() + patience
        with _usable(path):
            while not _locked(file):
                if time.monotonic() >= end:
                    file.seek(0)
                    holder = file.read().decode(errors="replace").strip() or "another process"
                    raise QsmrError(
                        f"Jobs of this project are being added by {holder} (state in {directory}): "
                        "wait until that run ends"
                    )
                time.sleep(0.1)
            file.truncate(0)
            since = datetime.now().astimezone().isoformat(timespec="seconds")
            name = f"{getpass.getuser()} on {socket.gethostname()}, process {os.getpid()}"
            file.write(f"{name}, since {since}\n".encode())
        yield


class Ledger:
    """The ledger of one project, opened for the jobs of one recipe."""

    def __init__(self, directory: Path, recipe: str = "", throwaway: bool = False) -> None:
        """Open the ledger in ``directory``, making it if need be.

        ``recipe`` is the digest of what the documents of jobs to be added are made of. A ``throwaway`` ledger is a
        copy that starts with what the real one knows, and leaves no trace.
        """
        path = directory / "ledger.sqlite"
        try:
            if throwaway:
                self._sql = sqlite3.connect("", isolation_level=None)
                if path.exists():
                    with closing(sqlite3.connect(path)) as real:
                        real.backup(self._sql)
            else:
                self._sql = sqlite3.connect(path, timeout=30, isolation_level=None)
                self._sql.execute("PRAGMA journal_mode = WAL")
                self._sql.execute("PRAGMA synchronous = FULL")
            self._make_tables(recipe)
        except OSError as error:
            raise QsmrError(f"The ledger {path} cannot be used: {why(error, STATE_SETTING)}") from None
        except sqlite3.Error as error:
            raise QsmrError(f"The ledger {path} cannot be used: {database_why(error)}") from None

    def _make_tables(self, recipe: str) -> None:
        with self._transaction():
            version = self._count("PRAGMA user_version")
            if version > len(_SCHEMA):
                raise sqlite3.DatabaseError(f"a newer qsmr-fleet wrote it (format {version}, not {len(_SCHEMA)})")
            for statement in "".join(_SCHEMA[version:]).split(";"):
                self._sql.execute(statement)
            self._sql.execute(f"PRAGMA user_version = {len(_SCHEMA)}")
            if recipe:
                self._sql.execute("INSERT OR IGNORE INTO recipe (digest) VALUES (?)", [recipe])
        self._recipe = self._count("SELECT coalesce(max(id), 0) FROM recipe WHERE digest = ?", recipe)
        self._sql.executescript(_TEMPORARY)

    def close(self) -> None:
        """Close the file; whatever was recorded is on disk already."""
        self._sql.close()

    def want(self, scans: Iterable[tuple[int, int, int]]) -> int:
        """Take in the wanted jobs as (frequency mode, scan id, line in the list); returns how many come again."""
        rows = 0

        def counted() -> Iterator[tuple[int, int, int]]:
            nonlocal rows
            for scan in scans:
                rows += 1
                yield scan

        with self._transaction():
            self._sql.executemany("INSERT OR IGNORE INTO wanted VALUES (?, ?, ?)", counted())
        return rows - self.wanted()

    def wanted(self) -> int:
        """How many different jobs are wanted."""
        return self._count("SELECT count(*) FROM wanted")

    def largest(self) -> list[Scan]:
        """The largest scan id of each wanted frequency mode."""
        return [Scan(*row) for row in self._sql.execute("SELECT freq_mode, max(scan_id) FROM wanted GROUP BY 1")]

    def agrees_with(self, service: str | None) -> bool:
        """Whether the service describes the project as it did when it and the ledger last agreed."""
        return bool(self._count("SELECT count(*) FROM agreed WHERE service = ?", service))

    def agree(self, service: str | None) -> None:
        """Remember how the service describes the project now that both agree; None if they are about not to."""
        with self._transaction():
            self._sql.execute("DELETE FROM agreed")
            self._sql.execute("INSERT INTO agreed SELECT 1, ?1 WHERE ?1 IS NOT NULL", [service])

    def added(self) -> int:
        """How many jobs of the project are added, wanted or not."""
        return self._count("SELECT count(*) FROM job WHERE state = 'added'")

    def unknown(self) -> int:
        """How many wanted jobs are not known to be added."""
        return self._count(
            """SELECT count(*) FROM wanted LEFT JOIN job USING (freq_mode, scan_id)
               WHERE state IS NOT 'added' OR recipe != ?""",
            self._recipe,
        )

    def reconcile(self, listed: Iterable[tuple[int, int, str | None]]) -> int:
        """Compare with all that the service lists, as (frequency mode, scan id, how it differs from this recipe's job).

        Returns how many jobs are gone: added, but not listed, or listed as something else.
        """
        with self._transaction():
            self._sql.execute("DELETE FROM listed")
            self._sql.executemany("INSERT OR REPLACE INTO listed VALUES (?, ?, ?)", listed)
        with self._transaction():
            now = int(time.time())
            self._sql.execute(
                """UPDATE job SET changed = ?, answer = coalesce(differs, answer),
                       state = CASE WHEN differs IS NULL THEN 'added' ELSE 'conflict' END
                   FROM listed WHERE state = 'exists' AND recipe = ?
                   AND (listed.freq_mode, listed.scan_id) = (job.freq_mode, job.scan_id)""",
                [now, self._recipe],
            )
            return self._sql.execute(
                """UPDATE job SET changed = ?, state = 'gone', answer = 'the service does not list it', made_by = NULL
                   WHERE state IN ('added', 'exists') AND NOT EXISTS (
                       SELECT 1 FROM listed WHERE (freq_mode, scan_id) = (job.freq_mode, job.scan_id)
                       AND (differs IS NULL OR job.recipe != ?))""",
                [now, self._recipe],
            ).rowcount

    def plan(self) -> tuple[int, int]:
        """Decide what is to be sent: what is not known to be added.

        Returns how many jobs that are, and how many of them the service does not have. What it has is sent to learn
        whether it is the same, unless it was listed as different: that is a conflict.
        """
        with self._transaction():
            self._sql.execute(
                """INSERT INTO job SELECT freq_mode, scan_id, ?1, 'conflict', 0, differs, ?2, NULL
                   FROM wanted JOIN listed USING (freq_mode, scan_id) WHERE differs IS NOT NULL
                   ON CONFLICT DO UPDATE SET recipe = ?1, state = 'conflict', answer = excluded.answer, changed = ?2""",
                [self._recipe, int(time.time())],
            )
            self._sql.execute(
                """INSERT INTO todo (freq_mode, scan_id, existed)
                   SELECT freq_mode, scan_id, listed.scan_id IS NOT NULL OR state IS 'added'
                   FROM wanted LEFT JOIN job USING (freq_mode, scan_id) LEFT JOIN listed USING (freq_mode, scan_id)
                   WHERE (state IS NOT 'added' OR recipe != ?) AND differs IS NULL ORDER BY line""",
                [self._recipe],
            )
        return self._count("SELECT count(*) FROM todo"), self._count("SELECT count(*) FROM todo WHERE NOT existed")

    def new_scans(self) -> Iterator[Scan]:
        """The scans of jobs that are to be sent and that the service does not have."""
        for row in self._sql.execute("SELECT freq_mode, scan_id FROM todo WHERE NOT existed"):
            yield Scan(*row)

    def batch(self, after: int, size: int) -> tuple[int, list[Scan]]:
        """The next jobs to be sent, in the order of the list, and how many were handed out so far."""
        rows = self._sql.execute(
            "SELECT place, freq_mode, scan_id FROM todo WHERE place > ? ORDER BY place LIMIT ?", [after, size]
        ).fetchall()
        return rows[-1][0] if rows else after, [Scan(*row[1:]) for row in rows]

    def intend(self, scans: Sequence[Scan]) -> None:
        """Record that these jobs are about to be sent."""
        with self._transaction():
            self._sql.executemany(
                """INSERT INTO job VALUES (?1, ?2, ?3, 'sending', 1, '', ?4, NULL) ON CONFLICT DO UPDATE
                   SET recipe = ?3, state = 'sending', attempts = attempts + 1, answer = '', changed = ?4""",
                [(*scan, self._recipe, int(time.time())) for scan in scans],
            )

    def record(self, outcomes: Sequence[Outcome]) -> None:
        """Record what became of jobs that were sent."""
        with self._transaction():
            self._sql.executemany(
                """UPDATE job SET state = ?1, answer = ?2, changed = ?3, made_by = iif(?1 = 'added', recipe, made_by)
                   WHERE (freq_mode, scan_id) = (?4, ?5)""",
                [(outcome.state, outcome.answer, int(time.time()), *outcome.scan) for outcome in outcomes],
            )

    def conflicts_to_look_up(self) -> int:
        """How many of the jobs that were sent are others in the service, which has not listed them yet."""
        return self._count(
            """SELECT count(*) FROM todo JOIN job USING (freq_mode, scan_id) LEFT JOIN listed USING (freq_mode, scan_id)
               WHERE state = 'conflict' AND listed.scan_id IS NULL"""
        )

    def settle_conflicts(self, only_target: str, accept: bool) -> None:
        """Say of jobs that were sent and are others in the service in what they differ, as it lists them.

        Those that show no difference are, with ``accept``, there, unless it has our own document of another recipe.
        """
        with self._transaction():
            self._sql.execute(
                """UPDATE todo SET existed = 1 FROM job WHERE state = 'conflict'
                   AND (job.freq_mode, job.scan_id) = (todo.freq_mode, todo.scan_id)"""
            )
            self._sql.execute(
                """UPDATE job SET answer = coalesce(differs, ?1),
                       state = iif(?2 AND differs IS NULL AND coalesce(made_by, recipe) = recipe, 'added', state)
                   FROM todo JOIN listed USING (freq_mode, scan_id)
                   WHERE state = 'conflict' AND (job.freq_mode, job.scan_id) = (todo.freq_mode, todo.scan_id)""",
                [only_target, accept],
            )

    def number(self, state: str, said: str) -> int:
        """How many wanted jobs are in a state, of which that was said, or what begins with it."""
        return self._count(
            """SELECT count(*) FROM wanted JOIN job USING (freq_mode, scan_id)
               WHERE state = ?1 AND substr(answer, 1, length(?2)) = ?2""",
            *(state, said),
        )

    def counts(self) -> Counts:
        """What has become of the wanted jobs."""
        rows = self._sql.execute(
            """SELECT CASE WHEN state IN ('conflict', 'refused') THEN state
                           WHEN state IS NOT 'added' OR recipe != ? THEN 'remain'
                           WHEN existed IS 0 THEN 'added' ELSE 'were_there' END, count(*)
               FROM wanted LEFT JOIN job USING (freq_mode, scan_id) LEFT JOIN todo USING (freq_mode, scan_id)
               GROUP BY 1""",
            [self._recipe],
        )
        return Counts(self.wanted(), **dict(rows.fetchall()))

    def answers(self) -> dict[str, int]:
        """How many of the jobs that were sent got which HTTP status."""
        rows = self._sql.execute(
            """SELECT substr(answer, 1, 3), count(*) FROM todo JOIN job USING (freq_mode, scan_id)
               WHERE answer GLOB '[0-9][0-9][0-9]*' GROUP BY 1 ORDER BY 1"""
        )
        return dict(rows.fetchall())

    def faults(self, most: int, state: str = "") -> list[Fault]:
        """The wanted jobs that are not added, or only those in one state, in the order of the list, at most so many."""
        rows = self._sql.execute(
            """SELECT line, freq_mode, scan_id, coalesce(state, ''), coalesce(answer, '')
               FROM wanted LEFT JOIN job USING (freq_mode, scan_id)
               WHERE (state IS NOT 'added' OR recipe != ?1) AND (?2 = '' OR state = ?2) ORDER BY line LIMIT ?3""",
            [self._recipe, state, most],
        )
        return [Fault(line, Scan(mode, scan), state, answer) for line, mode, scan, state, answer in rows]

    def count_failure(self, job_id: str, failed_at: str) -> int:
        """Note that the job's processing failed at that time; returns how often it has failed by now.

        The same failure may be noted again: it counts once.
        """
        with self._transaction():
            self._sql.execute(
                """INSERT INTO failure VALUES (?1, 1, ?2) ON CONFLICT DO UPDATE
                   SET failures = failures + (last != ?2), last = ?2""",
                [job_id, failed_at],
            )
        return self._count("SELECT failures FROM failure WHERE job_id = ?", job_id)

    def freed_for(self, snapshot: str) -> FreedFor:
        """The jobs that are made available for a snapshot."""
        return FreedFor(self._sql, self._transaction, snapshot)

    def _count(self, query: str, *values: object) -> int:
        return int(self._sql.execute(query, values).fetchone()[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._sql.execute("ROLLBACK")
            raise
        self._sql.execute("COMMIT")
