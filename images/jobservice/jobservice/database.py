"""Connections, transactions and the schema's migrations, on SQLite or PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from flask import current_app
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL

BUSY_SECONDS = 60
MIGRATION_LOCK = 0x6A6F6273


class Database:
    def __init__(self, url: URL) -> None:
        self.is_sqlite = url.get_backend_name() == "sqlite"
        arguments: dict[str, Any] = {"timeout": BUSY_SECONDS} if self.is_sqlite else {"connect_timeout": 10}
        # Without the values in its messages: URLs of jobs hold secrets, and messages get logged.
        self.engine = create_engine(url, connect_args=arguments, pool_pre_ping=not self.is_sqlite, hide_parameters=True)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)

    @contextmanager
    def transaction(self, *, writes: bool) -> Iterator[Connection]:
        """All that the block does, or with an exception nothing."""
        with self.engine.begin() as connection:
            if self.is_sqlite:
                # A transaction that reads first and then wants to write may be refused instead of waiting its turn.
                connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
            yield connection

    def migrate(self) -> None:
        """Bring the schema to the newest version; of several processes one does it and the others wait."""
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        with self.transaction(writes=True) as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where we say so, not where the driver guesses
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-65536"):
        connection.execute(f"PRAGMA {pragma}")


def reading() -> AbstractContextManager[Connection]:
    """Transaction for statements that only read."""
    return _transaction(writes=False)


def writing() -> AbstractContextManager[Connection]:
    """Transaction for changes: all of the block's, or with an exception none."""
    return _transaction(writes=True)


def _transaction(*, writes: bool) -> AbstractContextManager[Connection]:
    database: Database = current_app.extensions["database"]
    return database.transaction(writes=writes)
