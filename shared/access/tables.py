"""Describes the tables of schema `access` for queries. The migrations create them.

Every service reads some of them. Only the access service and operators' commands write them.
"""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
)

metadata = MetaData(schema="access")

_NOW = func.now()

workspaces = Table(
    "workspaces",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("workspace_id", ForeignKey("access.workspaces.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("key_hash", LargeBinary, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("account_ids", ARRAY(Uuid)),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("revoked_at", DateTime(timezone=True)),
    Column("last_used_at", DateTime(timezone=True)),
    UniqueConstraint("key_hash", name="api_keys_key_hash"),
    CheckConstraint("scopes <@ array['read', 'write', 'destructive']", name="api_keys_scopes"),
    CheckConstraint("cardinality(account_ids) > 0", name="api_keys_account_ids"),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("workspace_id", ForeignKey("access.workspaces.id"), nullable=False),
    Column("display_name", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("revoked_at", DateTime(timezone=True)),
    UniqueConstraint("workspace_id", "id", name="accounts_of_workspace"),
)

boards = Table(
    "boards",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("board_id", Text, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("description", Text),
    Column("privacy", Text, nullable=False, server_default="PUBLIC"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("synced_at", DateTime(timezone=True)),
    ForeignKeyConstraint(
        ["workspace_id", "account_id"], ["access.accounts.workspace_id", "access.accounts.id"]
    ),
)

connections = Table(
    "connections",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid, nullable=False),
    Column("mode", Text, nullable=False),
    Column("pinterest_user_id", Text, nullable=False),
    Column("grant_type", Text, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("token_version", BigInteger, nullable=False),
    Column("token_expires_at", DateTime(timezone=True), nullable=False),
    Column("refresh_expires_at", DateTime(timezone=True)),
    Column("connected_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("disconnected_at", DateTime(timezone=True)),
    Column("health_code", Text),
    Column("health_message", Text),
    Column("checked_at", DateTime(timezone=True)),
    Column("boards_synced_at", DateTime(timezone=True)),
    Column("boards_message", Text),
    Column("boards_due_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("refresh_asked_at", DateTime(timezone=True)),
    Column("boards_failures", Integer, nullable=False, server_default="0"),
    Column("boards_version", BigInteger, nullable=False, server_default="0"),
    ForeignKeyConstraint(
        ["workspace_id", "account_id"], ["access.accounts.workspace_id", "access.accounts.id"]
    ),
)
