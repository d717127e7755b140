"""Adds the connections of accounts to Pinterest, their tokens, and the attempts to connect."""

from alembic import op

from deploy.migrations.grants import READ, WRITE, grant_on

revision = "0017"
down_revision = "0016"

ROLE = "pinflow_access"


def upgrade() -> None:
    _add_connections()
    _add_tokens()
    _add_attempts()
    _add_board_requests()
    # A connection creates the account of a new Pinterest user, and boards come from Pinterest
    grant_on("access.accounts", ROLE, "insert, update (display_name, username)")
    # An operator names the workspace of the app owner's account
    grant_on("access.workspaces", ROLE, READ)
    op.execute("alter table access.boards add column synced_at timestamptz")
    grant_on("access.boards", ROLE, "update (synced_at)")


def _add_connections() -> None:
    # One row for each account that was ever connected. It stays after the account is revoked, so
    # that such an account is never taken for one without Pinterest. boards_version: changes with
    # every change of the account's boards, so that an older list of Pinterest is never stored.
    # refresh_asked_at: when a client last asked for a refresh, which is possible every 30 s
    op.execute("""
        create table access.connections (
            account_id uuid primary key,
            workspace_id uuid not null,
            mode text not null
                constraint connections_mode check (mode in ('simulated', 'sandbox', 'production')),
            pinterest_user_id text not null,
            grant_type text not null
                constraint connections_grant_type
                check (grant_type in ('authorization_code', 'client_credentials')),
            scopes text[] not null,
            token_version bigint not null,
            token_expires_at timestamptz not null,
            refresh_expires_at timestamptz,
            connected_at timestamptz not null default now(),
            disconnected_at timestamptz,
            health_code text
                constraint connections_health_code check (health_code in (
                    'token_revoked', 'token_expired', 'scope_missing', 'refresh_failed'
                )),
            health_message text,
            checked_at timestamptz,
            boards_synced_at timestamptz,
            boards_message text,
            boards_due_at timestamptz not null default now(),
            boards_failures integer not null default 0,
            boards_version bigint not null default 0,
            refresh_asked_at timestamptz,
            foreign key (workspace_id, account_id) references access.accounts (workspace_id, id)
        )
    """)
    # One account of a workspace for each Pinterest user
    op.execute("""
        create unique index connections_of_user
        on access.connections (workspace_id, mode, pinterest_user_id)
        where disconnected_at is null
    """)
    op.execute("create index connections_boards_due on access.connections (boards_due_at)")
    grant_on("access.connections", ROLE, WRITE)
    for reader in ("pinflow_ingest", "pinflow_publisher"):
        grant_on("access.connections", reader, READ)


def _add_tokens() -> None:
    # secret: the account's id and both tokens, encrypted by the key key_id. refresh_at: null if no
    # refresh can succeed any more. lease_until: until then the refresh belongs to the process that
    # took lease_fence. refused_since, refused_tries: Pinterest refuses access tokens that it has
    # just issued; refused_version: the last of these
    op.execute("""
        create table access.tokens (
            account_id uuid primary key references access.connections on delete cascade,
            version bigint not null,
            key_id text not null,
            secret bytea not null,
            refresh_at timestamptz,
            refresh_failures integer not null default 0,
            lease_fence bigint not null default 0,
            lease_until timestamptz,
            refused_since timestamptz,
            refused_tries integer not null default 0,
            refused_version bigint
        )
    """)
    op.execute("create index tokens_to_refresh on access.tokens (refresh_at)")
    grant_on("access.tokens", ROLE, WRITE)


def _add_attempts() -> None:
    # account_id: the account to connect again. Null: the account of the Pinterest user
    op.execute("""
        create table access.oauth_attempts (
            id uuid primary key,
            workspace_id uuid not null references access.workspaces,
            account_id uuid,
            created_at timestamptz not null default now(),
            expires_at timestamptz not null,
            used_at timestamptz,
            connected_account_id uuid,
            error_code text,
            error_message text,
            constraint oauth_attempts_one_result
                check (num_nonnulls(connected_account_id, error_code) <= 1),
            constraint oauth_attempts_result_of_a_use
                check (num_nonnulls(connected_account_id, error_code) = 0 or used_at is not null)
        )
    """)
    op.execute("create index oauth_attempts_expired on access.oauth_attempts (expires_at)")
    grant_on("access.oauth_attempts", ROLE, WRITE)


def _add_board_requests() -> None:
    # Written before the board is created at Pinterest, which has no idempotency keys.
    # board_id: null until Pinterest's answer is known. busy_until: until then the call belongs to
    # the request that made the attempt
    op.execute("""
        create table access.board_requests (
            account_id uuid references access.connections on delete cascade,
            idempotency_key text,
            name text not null,
            started_at timestamptz not null default now(),
            board_id text,
            attempt integer not null default 1,
            busy_until timestamptz,
            primary key (account_id, idempotency_key)
        )
    """)
    grant_on("access.board_requests", ROLE, WRITE)
