"""Adds the time since which an account has been paused: the metrics show the longest pause."""

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    # paused_since: when the first of the pauses began that have no created pin between them
    op.execute("alter table publisher.delivery_accounts add column paused_since timestamptz")
    # When a pause began is not known. It was after the account was served for the last time
    op.execute("""
        update publisher.delivery_accounts
        set paused_since = coalesce(served_at, clock_timestamp())
        where paused_until > clock_timestamp()
    """)
