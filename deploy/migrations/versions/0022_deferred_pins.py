"""Creates the index of pins that are deferred by themselves: the metrics count them."""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    # Few pins have a deferral of their own, so the index is small
    op.execute("""
        create index pins_deferred on publisher.pins (pin_id)
        where state = 'queued' and deleted_at is null and deferral_code is not null
    """)
