"""Adds what delivery needs after a restore (ADR 0046)."""

from alembic import op

from deploy.migrations.grants import grant_on

revision = "0020"
down_revision = "0019"

ROLE = "pinflow_publisher"


def upgrade() -> None:
    # is_applied: false for an attempt that was read from the topic `deliveries` until its pin
    # reflects it. It stays false while Postgres has no such pin
    op.execute("""
        alter table publisher.delivery_attempts
            add column is_applied boolean not null default true
    """)
    op.execute("""
        create index delivery_attempts_to_apply on publisher.delivery_attempts (pin_id)
        where not is_applied
    """)
    # Written by `pinflow recover`: Kafka lost records of `deliveries` that were written after
    # `since`. Pins that were queued at accepted_at may have been sent, so the delivery process
    # confirms them before it sends any. pins: their number
    op.execute("""
        create table publisher.delivery_losses (
            loss_id bigint generated always as identity primary key,
            since timestamptz not null,
            accepted_at timestamptz not null default now(),
            pins integer not null default 0,
            applied_at timestamptz
        )
    """)
    grant_on("publisher.delivery_losses", ROLE, "select, update")
