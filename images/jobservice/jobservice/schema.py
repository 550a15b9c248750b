"""The tables. A change here needs a migration in migrations/versions; a test keeps both equal."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite makes up row numbers only for a column that is declared INTEGER.
RowNumber = BigInteger().with_variant(Integer, "sqlite")

users = Table(
    "users",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("username", String(32), nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("is_admin", Boolean, nullable=False, server_default=false()),
    # A deleted user's number is never given again, so an old token cannot come to life for somebody else.
    sqlite_autoincrement=True,
)

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project", String(64), nullable=False, unique=True),
    Column("name", String(128), nullable=False),
    Column("processing_image_url", String(512)),
    Column("environment", Text, nullable=False, server_default="{}"),
    Column("deadline", DateTime),
    Column("created_at", DateTime, nullable=False),
    Column("created_by", String(32), nullable=False),
    Column("last_job_added_at", DateTime),
    Column("last_job_claimed_at", DateTime),
    # Kept by the transaction that changes the jobs, so they are true and need no count over all jobs.
    Column("nr_added", Integer, nullable=False, server_default="0"),
    Column("nr_claimed", Integer, nullable=False, server_default="0"),
    Column("nr_finished", Integer, nullable=False, server_default="0"),
    Column("nr_failed", Integer, nullable=False, server_default="0"),
    Column("total_processing_time", Float, nullable=False, server_default="0"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("nr", RowNumber, primary_key=True),
    Column("project_id", ForeignKey("projects.id"), nullable=False),
    Column("id", String(64), nullable=False),
    Column("type", String(64)),
    Column("source_url", String(512)),
    Column("target_url", String(512)),
    Column("view_result_url", String(512)),
    Column("added_at", DateTime, nullable=False),
    Column("claimed", Boolean, nullable=False, server_default=false()),
    Column("status", String(64), nullable=False, server_default="AVAILABLE"),
    Column("worker", String(64)),
    Column("claimed_at", DateTime),
    Column("finished_at", DateTime),
    Column("failed_at", DateTime),
    Column("processing_time", Float),
    # FINISHED or FAILED while the project's counters count the job so; taking back the claim ends that
    # although the status text stays.
    Column("outcome", String(8)),
    # Last, so that SQLite reads the other columns without it.
    Column("output", Text),
    UniqueConstraint("project_id", "id"),
    Index(None, "project_id", "claimed", "status"),
)

# Most jobs of a new list have none of these, and an index without them makes adding faster.
for _name, *_columns in (
    ("claimed_at", "claimed_at", "worker"),
    ("finished_at", "finished_at"),
    ("failed_at", "failed_at"),
    ("worker", "worker"),
):
    _set = jobs.c[_name].is_not(None)
    _keys = (jobs.c.project_id, *(jobs.c[column] for column in _columns))
    Index(f"ix_jobs_{_name}", *_keys, sqlite_where=_set, postgresql_where=_set)

workers = Table(
    "workers",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("last_active_at", DateTime, nullable=False),
    Column("nr_claims", Integer, nullable=False, server_default="0"),
)
