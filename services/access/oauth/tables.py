"""Describes the table of attempts to connect an account. The migrations create it."""

from sqlalchemy import Column, DateTime, Table, Text, Uuid, func

from shared.access.tables import metadata

oauth_attempts = Table(
    "oauth_attempts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    Column("account_id", Uuid),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("used_at", DateTime(timezone=True)),
    Column("connected_account_id", Uuid),
    Column("error_code", Text),
    Column("error_message", Text),
)
