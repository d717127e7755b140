"""Creates the tables of workspaces, API keys, accounts and boards."""

from alembic import op

from deploy.migrations.grants import READ, WRITE, create_schema, grant

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_schema("access")
    op.execute("revoke create on schema public from public")
    op.execute("""
        create table access.workspaces (
            id uuid primary key,
            name text not null,
            created_at timestamptz not null default now()
        )
    """)
    op.execute("""
        create table access.api_keys (
            id uuid primary key,
            workspace_id uuid not null references access.workspaces,
            name text not null,
            key_hash bytea not null constraint api_keys_key_hash unique,
            prefix text not null,
            scopes text[] not null constraint api_keys_scopes
                check (scopes <@ array['read', 'write', 'destructive']),
            created_at timestamptz not null default now(),
            revoked_at timestamptz
        )
    """)
    op.execute("create index api_keys_of_workspace on access.api_keys (workspace_id)")
    op.execute("""
        create table access.accounts (
            id uuid primary key,
            workspace_id uuid not null references access.workspaces,
            display_name text not null,
            username text not null,
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            revoked_at timestamptz,
            constraint accounts_of_workspace unique (workspace_id, id)
        )
    """)
    op.execute("""
        create table access.boards (
            account_id uuid,
            board_id text,
            workspace_id uuid not null,
            name text not null,
            description text,
            privacy text not null default 'PUBLIC',
            created_at timestamptz not null default now(),
            primary key (account_id, board_id),
            foreign key (workspace_id, account_id) references access.accounts (workspace_id, id)
        )
    """)
    for role in ("pinflow_ingest", "pinflow_status"):
        grant("access", role, READ)
    grant("access", "pinflow_publisher", WRITE)
