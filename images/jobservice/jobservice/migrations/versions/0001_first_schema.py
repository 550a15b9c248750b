"""First schema."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def where_set(column: str) -> dict[str, Any]:
    condition = sa.text(f"{column} IS NOT NULL")
    return {"sqlite_where": condition, "postgresql_where": condition}


def upgrade() -> None:
    op.create_table(
        "projects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project", sa.String(64), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("processing_image_url", sa.String(512)),
        sa.Column("environment", sa.Text(), server_default="{}", nullable=False),
        sa.Column("deadline", sa.DateTime()),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("created_by", sa.String(32), nullable=False),
        sa.Column("last_job_added_at", sa.DateTime()),
        sa.Column("last_job_claimed_at", sa.DateTime()),
        sa.Column("nr_added", sa.Integer(), server_default="0", nullable=False),
        sa.Column("nr_claimed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("nr_finished", sa.Integer(), server_default="0", nullable=False),
        sa.Column("nr_failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("total_processing_time", sa.Float(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
        sa.UniqueConstraint("project", name="uq_projects_project"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(32), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False),
        sa.Column("is_admin", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
        sa.UniqueConstraint("username", name="uq_users_username"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "jobs",
        sa.Column("nr", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(64)),
        sa.Column("source_url", sa.String(512)),
        sa.Column("target_url", sa.String(512)),
        sa.Column("view_result_url", sa.String(512)),
        sa.Column("added_at", sa.DateTime(), nullable=False),
        sa.Column("claimed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("status", sa.String(64), server_default="AVAILABLE", nullable=False),
        sa.Column("worker", sa.String(64)),
        sa.Column("claimed_at", sa.DateTime()),
        sa.Column("finished_at", sa.DateTime()),
        sa.Column("failed_at", sa.DateTime()),
        sa.Column("processing_time", sa.Float()),
        sa.Column("outcome", sa.String(8)),
        sa.Column("output", sa.Text()),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_jobs_project_id"),
        sa.PrimaryKeyConstraint("nr", name="pk_jobs"),
        sa.UniqueConstraint("project_id", "id", name="uq_jobs_project_id_id"),
    )
    op.create_index("ix_jobs_claimed_at", "jobs", ["project_id", "claimed_at", "worker"], **where_set("claimed_at"))
    op.create_index("ix_jobs_failed_at", "jobs", ["project_id", "failed_at"], **where_set("failed_at"))
    op.create_index("ix_jobs_finished_at", "jobs", ["project_id", "finished_at"], **where_set("finished_at"))
    op.create_index("ix_jobs_project_id_claimed_status", "jobs", ["project_id", "claimed", "status"])
    op.create_index("ix_jobs_worker", "jobs", ["project_id", "worker"], **where_set("worker"))
    op.create_table(
        "workers",
        sa.Column("project_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("last_active_at", sa.DateTime(), nullable=False),
        sa.Column("nr_claims", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_workers_project_id"),
        sa.PrimaryKeyConstraint("project_id", "name", name="pk_workers"),
    )
