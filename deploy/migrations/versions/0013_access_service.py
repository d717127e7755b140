"""Gives the access service alone the privileges to write in the schema `access`."""

from alembic import op

from deploy.migrations.grants import grant_on

revision = "0013"
down_revision = "0012"

ROLE = "pinflow_access"
READERS = ("pinflow_ingest", "pinflow_publisher", "pinflow_status", "pinflow_webhooks")
TABLES = "access.api_keys, access.accounts, access.boards, access.workspaces"


def upgrade() -> None:
    # Revoking a privilege on a table also revokes it on the table's columns
    for reader in READERS:
        op.execute(f"revoke insert, update, delete on {TABLES} from {reader}")
    op.execute(f"grant usage on schema access to {ROLE}")
    # Only these columns: the owner of a key, an account or a board never changes, nor a key's hash
    grant_on(
        "access.api_keys",
        ROLE,
        "select, insert, update (name, scopes, account_ids, revoked_at, last_used_at)",
    )
    grant_on("access.accounts", ROLE, "select, update (revoked_at, updated_at)")
    grant_on(
        "access.boards",
        ROLE,
        "select, insert, delete, update (name, description, privacy)",
    )
