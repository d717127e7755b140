"""Adds the accounts and the last use of API keys, and the publisher's privileges on them."""

from alembic import op

from deploy.migrations.grants import grant_on

revision = "0008"
down_revision = "0007"

ROLES = ("pinflow_ingest", "pinflow_publisher", "pinflow_status")


def upgrade() -> None:
    # A foreign key can't check an array's elements. The publisher checks them before it writes, and
    # accounts are never deleted
    op.execute("""
        alter table access.api_keys
            add column account_ids uuid[] constraint api_keys_account_ids
                check (cardinality(account_ids) > 0),
            add column last_used_at timestamptz
    """)
    # Revoked keys are never deleted. Queries of active keys must not scan them
    op.execute(
        "create index api_keys_active on access.api_keys (workspace_id) where revoked_at is null"
    )
    op.execute(
        "create index api_keys_revoked on access.api_keys (workspace_id, revoked_at) where "
        "revoked_at is not null"
    )
    for role in ROLES:
        grant_on("access.api_keys", role, "update (last_used_at)")
    grant_on("access.accounts", "pinflow_ingest", "select")  # for the rate meter
    # Only these columns: the owner of a key, an account or a board never changes, nor a key's hash
    grant_on(
        "access.api_keys",
        "pinflow_publisher",
        "insert, update (name, scopes, account_ids, revoked_at)",
    )
    grant_on("access.accounts", "pinflow_publisher", "update (revoked_at, updated_at)")
    grant_on(
        "access.boards", "pinflow_publisher", "insert, delete, update (name, description, privacy)"
    )
