"""Indexes for the lists of pins and schedules, each with one workspace's rows in the order of a
time (docs/decisions/0021).
"""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    # In the place of one without a condition, at the same price for an imported row: so that a list
    # of pins does not have to walk through a hundred thousand schedules or deleted pins, and counts
    # without looking at the table
    op.execute("drop index publisher.pins_of_workspace")
    op.execute("""
        create index pins_shown on publisher.pins (workspace_id, created_at)
        where deleted_at is null and state in ('published', 'failed')
    """)
    # The others are in the way of rare rows only. Of schedules any number may have the same time:
    # their ids belong to the order
    op.execute(
        "create index pins_failed on publisher.pins (workspace_id, created_at) where deleted_at is "
        "null and state = 'failed'"
    )
    op.execute("""
        create index pins_scheduled on publisher.pins (workspace_id, run_at, pin_id)
        where deleted_at is null and run_at is not null
    """)
    # `like`: what is written with `=` could be had of pins_due as well, where all workspaces' rows
    # are
    op.execute("""
        create index pins_waiting on publisher.pins (workspace_id, run_at, pin_id)
        where deleted_at is null and run_at is not null and state like 'scheduled'
    """)
