"""Creates the table of the progress on each partition of the imports.

It shows any replica whether an unknown job does not exist or was not read yet.
"""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # Updated about every second. With free space on the page an update does not touch the index
    op.execute("""
        create table status.fold_progress (
            partition integer primary key,
            folded_until timestamptz not null
        ) with (fillfactor = 50)
    """)
