"""Creates the index of pins that are deferred by themselves: the metrics count them."""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    # Few pins have a deferral of their own, so the index is small. But Postgres reads all pins to
    # build it, and the publisher writes meanwhile. A build that fails leaves an invalid index, and
    # the next run begins this revision again
    with op.get_context().autocommit_block():
        op.execute("drop index concurrently if exists publisher.pins_deferred")
        op.execute("""
            create index concurrently pins_deferred on publisher.pins (pin_id)
            where state = 'queued' and deleted_at is null and deferral_code is not null
        """)
