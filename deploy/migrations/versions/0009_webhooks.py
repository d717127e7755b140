"""Creates the tables of webhooks and of their deliveries."""

from alembic import op

from deploy.migrations.grants import create_schema, grant_on

revision = "0009"
down_revision = "0008"

ROLE = "pinflow_webhooks"


def upgrade() -> None:
    create_schema("webhooks")
    # The secret is stored in plain text, because it signs requests. Only this service's role can
    # read the table
    op.execute("""
        create table webhooks.endpoints (
            webhook_id uuid primary key,
            workspace_id uuid not null,
            url text not null,
            secret text not null,
            events text[] not null constraint endpoints_events check (cardinality(events) > 0),
            is_enabled boolean not null,
            disabled_reason text constraint endpoints_disabled_reason
                check (disabled_reason in ('gone', 'failing')),
            failures_in_a_row integer not null default 0,
            failed_attempts integer not null default 0,
            failing_since timestamptz,
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            constraint endpoints_disabled check (not is_enabled or disabled_reason is null)
        )
    """)
    op.execute(
        "create index endpoints_of_workspace on webhooks.endpoints (workspace_id, created_at, "
        "webhook_id)"
    )
    # No foreign key: each delivery would lock the webhook's row, and deleting a webhook would
    # delete all its deliveries at once. The service deletes orphaned deliveries in portions
    op.execute("""
        create table webhooks.deliveries (
            webhook_id uuid,
            delivery_id uuid,
            event_id text not null,
            event_type text not null,
            body text not null,
            status text not null default 'pending' constraint deliveries_status
                check (status in ('pending', 'delivered', 'failed')),
            tries integer not null default 0,
            attempt_count integer not null default 0,
            last_status_code integer,
            last_error text,
            next_attempt_at timestamptz default now(),
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            primary key (webhook_id, delivery_id),
            constraint deliveries_once unique (webhook_id, event_id),
            constraint deliveries_pending
                check ((status = 'pending') = (next_attempt_at is not null))
        ) with (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05,
            autovacuum_analyze_scale_factor = 0.05)
    """)
    op.execute(
        "create index deliveries_due on webhooks.deliveries (webhook_id, next_attempt_at) where "
        "status = 'pending'"
    )
    op.execute(
        "create index deliveries_failed on webhooks.deliveries (webhook_id, delivery_id) where "
        "status = 'failed'"
    )
    op.execute(f"grant usage on schema webhooks, access to {ROLE}")
    grant_on("access.api_keys", ROLE, "select, update (last_used_at)")
    grant_on("webhooks.endpoints", ROLE, "select, insert, update, delete")
    grant_on("webhooks.deliveries", ROLE, "select, insert, update, delete")
