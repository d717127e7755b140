"""Creates the indexes for lists of pins that wait for delivery, and for the backlog (ADR 0021)."""

from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    # All three contain only pins of connected accounts: a pin of another account costs no entry.
    # pins_shown stays as it is, so an upgrade builds no large index
    op.execute("""
        create index pins_delivering on publisher.pins (workspace_id, created_at)
        where deleted_at is null and state in ('queued', 'publishing', 'confirming')
    """)
    op.execute("""
        create index pins_delivering_schedules on publisher.pins (workspace_id, run_at, pin_id)
        where deleted_at is null and state in ('queued', 'publishing', 'confirming')
            and run_at is not null
    """)
    op.execute("""
        create index pins_removed on publisher.pins (workspace_id, created_at)
        where deleted_at is null and removed_at is not null
    """)
    # The backlog shows how fast an account's last attempts followed each other
    op.execute("""
        create index delivery_attempts_of_account
        on publisher.delivery_attempts (account_id, started_at)
    """)
