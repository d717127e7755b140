"""Describes the table of requests that create boards at Pinterest. The migrations create it.

The table of boards, which others may read, is in shared/access/tables.py.
"""

from sqlalchemy import Column, DateTime, Integer, Table, Text, Uuid, func

from shared.access.tables import metadata

board_requests = Table(
    "board_requests",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("board_id", Text),
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("busy_until", DateTime(timezone=True)),
)
