"""Keys that may publish to some accounts only, when each was last used, and what the publisher may
write of all that.
"""

from alembic import op

from deploy.migrations.grants import grant_on

revision = "0008"
down_revision = "0007"

ROLES = ("pinflow_ingest", "pinflow_publisher", "pinflow_status")


def upgrade() -> None:
    # No foreign key can hold an array's members; an account is never deleted, and the publisher
    # asks before it writes
    op.execute("""
        alter table access.api_keys
            add column account_ids uuid[] constraint api_keys_account_ids
                check (cardinality(account_ids) > 0),
            add column last_used_at timestamptz
    """)
    # Keys that were revoked stay for ever: whoever lists or counts the active ones must not walk
    # through them
    op.execute(
        "create index api_keys_active on access.api_keys (workspace_id) where revoked_at is null"
    )
    op.execute(
        "create index api_keys_revoked on access.api_keys (workspace_id, revoked_at) where "
        "revoked_at is not null"
    )
    for role in ROLES:
        grant_on("access.api_keys", role, "update (last_used_at)")
    grant_on("access.accounts", "pinflow_ingest", "select")  # of the rate meter
    # Columns, not tables: whose a key, an account or a board is, and a key's hash, stay what they
    # were
    grant_on(
        "access.api_keys",
        "pinflow_publisher",
        "insert, update (name, scopes, account_ids, revoked_at)",
    )
    grant_on("access.accounts", "pinflow_publisher", "update (revoked_at, updated_at)")
    grant_on(
        "access.boards", "pinflow_publisher", "insert, delete, update (name, description, privacy)"
    )
