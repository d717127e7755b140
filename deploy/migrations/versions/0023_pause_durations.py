"""Adds the time since which an account has been paused: the metrics show the longest pause."""

from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    # paused_since: when the first of the pauses began that follow each other without a success
    op.execute("alter table publisher.delivery_accounts add column paused_since timestamptz")
