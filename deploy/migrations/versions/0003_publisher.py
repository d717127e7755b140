"""Creates the tables of pins by idempotency key, of failed rows, and of the outbox."""

from alembic import op

from deploy.migrations.grants import WRITE, create_schema, grant

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    create_schema("publisher")
    op.execute("""
        create table publisher.pins (
            pin_id uuid primary key,
            workspace_id uuid not null,
            account_id uuid not null,
            asset_id uuid,
            cover_image_asset_id uuid,
            fingerprint uuid not null,
            origin_job_id uuid,
            run_at timestamptz,
            created_at timestamptz not null,
            updated_at timestamptz not null default now(),
            published_at timestamptz,
            failed_at timestamptz,
            deleted_at timestamptz,
            origin_row integer,
            state text not null constraint pins_state
                check (state in ('scheduled', 'published', 'failed', 'cancelled')),
            idempotency_key text not null,
            board_id text not null,
            title text not null,
            description text,
            alt_text text,
            link_url text,
            image_url text,
            cover_image_url text,
            dominant_color text,
            related_terms json,
            error_code text,
            error_message text,
            constraint pins_origin check ((origin_job_id is null) = (origin_row is null)),
            constraint pins_published check ((state = 'published') = (published_at is not null)),
            constraint pins_failed
                check ((state = 'failed') = (failed_at is not null and error_code is not null)),
            constraint pins_scheduled
                check (state not in ('scheduled', 'cancelled') or run_at is not null)
        )
    """)
    # The order of lists. New rows come at the end of each workspace's part, so inserts stay cheap
    op.execute("create index pins_of_workspace on publisher.pins (workspace_id, created_at)")
    op.execute("create index pins_due on publisher.pins (run_at) where state = 'scheduled'")
    # Rows are inserted and rarely changed, so they are frozen early and in small portions
    op.execute(
        "alter table publisher.pins set (autovacuum_vacuum_insert_scale_factor = 0.05, "
        "autovacuum_analyze_scale_factor = 0.05)"
    )
    op.execute("""
        create table publisher.row_failures (
            job_id uuid,
            row_number integer,
            error_code text not null,
            error_message text not null,
            recorded_at timestamptz not null default now(),
            primary key (job_id, row_number)
        )
    """)
    op.execute("""
        create table publisher.outbox (
            id bigint generated always as identity primary key,
            event_type text not null,
            event_id text not null,
            key text not null,
            payload bytea not null,
            occurred_at timestamptz not null default now()
        )
    """)
    grant("publisher", "pinflow_publisher", WRITE)
