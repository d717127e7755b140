"""Creates the ledger of import requests that have a request id."""

from alembic import op

from deploy.migrations.grants import WRITE, create_schema, grant

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    create_schema("ingest")
    op.execute("""
        create table ingest.requests (
            workspace_id uuid,
            request_id text,
            body_hash bytea not null,
            job_id uuid not null,
            accepted_at timestamptz not null,
            state text not null default 'pending' constraint requests_state
                check (state in ('pending', 'committed')),
            primary key (workspace_id, request_id)
        )
    """)
    grant("ingest", "pinflow_ingest", WRITE)
