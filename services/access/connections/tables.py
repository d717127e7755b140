"""Describes the tables of connections that only the access service uses.

`access.connections`, which others may read, is in shared/access/tables.py. The migrations create
all of them.
"""

from sqlalchemy import BigInteger, Column, DateTime, Integer, LargeBinary, Table, Text, Uuid, func

from shared.access.tables import metadata

_NOW = func.now()

tokens = Table(
    "tokens",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("secret", LargeBinary, nullable=False),
    Column("refresh_at", DateTime(timezone=True)),
    Column("refresh_failures", Integer, nullable=False, server_default="0"),
    Column("lease_fence", BigInteger, nullable=False, server_default="0"),
    Column("lease_until", DateTime(timezone=True)),
    Column("refused_since", DateTime(timezone=True)),
    Column("refused_tries", Integer, nullable=False, server_default="0"),
    Column("refused_version", BigInteger),
)

oauth_attempts = Table(
    "oauth_attempts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    Column("account_id", Uuid),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True)),
    Column("connected_account_id", Uuid),
    Column("error_code", Text),
    Column("error_message", Text),
)

board_requests = Table(
    "board_requests",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("board_id", Text),
    Column("attempt", Integer, nullable=False, server_default="1"),
    Column("busy_until", DateTime(timezone=True)),
)
