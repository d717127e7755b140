"""How far the imports of each partition are folded, so that any replica can tell a job that does
not exist from one that is late.
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # Updated every second or so: room for that without touching the index
    op.execute("""
        create table status.fold_progress (
            partition integer primary key,
            folded_until timestamptz not null
        ) with (fillfactor = 50)
    """)
