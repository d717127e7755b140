"""Creates the indexes for lists of a workspace's pins and schedules by time (ADR 0021)."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    # Replaces an index without a condition. It costs an imported row the same, but a list of pins
    # does not scan a hundred thousand schedules or deleted pins, and counts without reading the
    # table
    op.execute("drop index publisher.pins_of_workspace")
    op.execute("""
        create index pins_shown on publisher.pins (workspace_id, created_at)
        where deleted_at is null and state in ('published', 'failed')
    """)
    # The other indexes contain only rare rows. Any number of schedules may have the same time, so
    # their order includes the id
    op.execute(
        "create index pins_failed on publisher.pins (workspace_id, created_at) where deleted_at is "
        "null and state = 'failed'"
    )
    op.execute("""
        create index pins_scheduled on publisher.pins (workspace_id, run_at, pin_id)
        where deleted_at is null and run_at is not null
    """)
    # `like` instead of `=`, which the planner could also serve from pins_due. That index has the
    # rows of all workspaces
    op.execute("""
        create index pins_waiting on publisher.pins (workspace_id, run_at, pin_id)
        where deleted_at is null and run_at is not null and state like 'scheduled'
    """)
