"""Adds uploads, and a decision to each request; drops fold_progress (ADR 0025, 0028, 0029)."""

from alembic import op

from deploy.migrations.grants import grant_on

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    # Decisions and uploads are compressed already, so Postgres should not compress them
    op.execute("alter table ingest.requests add column decision bytea")
    op.execute("alter table ingest.requests alter column decision set storage external")
    op.execute("""
        create table status.uploads (
            job_id uuid not null,
            workspace_id uuid not null,
            format text not null constraint uploads_format
                check (format in ('csv', 'json', 'request')),
            size integer not null,
            content bytea not null,
            uploaded_at timestamptz not null default now(),
            constraint uploads_once primary key (job_id, workspace_id)
        )
    """)
    op.execute("alter table status.uploads alter column content set storage external")
    op.execute("create index uploads_by_age on status.uploads (uploaded_at)")
    grant_on("status.uploads", "pinflow_status", "select, insert, delete")
    op.execute("drop table status.fold_progress")
