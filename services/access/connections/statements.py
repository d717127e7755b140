"""Holds the SQL of connections and their tokens.

Transactions lock in the order access.accounts, access.connections, access.tokens. Times are those
of the database's clock.
"""

from dataclasses import fields

from sqlalchemy import text

from services.access.connections.model import Connection

# Not *: a column that a migration adds would make the prepared statements of a running service
# fail, also the one that stores new tokens ("cached plan must not change result type")
COLUMNS = ", ".join(f"c.{field.name}" for field in fields(Connection))

FIND = text(f"select {COLUMNS} from access.connections c where account_id = :account_id")

OPEN = text(f"""
    select {COLUMNS}, t.version, t.secret, now() as read_at,
        t.refused_since is not null as is_refused,
        t.refused_version = t.version and t.refresh_at > now() as is_refusal_recent
    from access.connections c left join access.tokens t on t.account_id = c.account_id
    where c.account_id = :account_id
""")

CLAIMED = """
    returning t.account_id, t.version, t.lease_fence, t.secret, t.refresh_failures,
        c.connected_at, c.grant_type, c.scopes
"""

# The lease is taken and its fence raised in one statement, so two processes never get it together.
# A lease that is over belonged to a process that died, or whose request was too slow
CLAIM = text(f"""
    update access.tokens t
    set lease_fence = t.lease_fence + 1, lease_until = now() + make_interval(secs => :lease_seconds)
    from access.connections c
    where t.account_id = :account_id and t.version = :version
        and (t.lease_until is null or t.lease_until <= now())
        and c.account_id = t.account_id and c.disconnected_at is null and c.mode = :mode
    {CLAIMED}
""")

CLAIM_DUE = text(f"""
    with due as (
        select t.account_id from access.tokens t
        join access.connections c on c.account_id = t.account_id
        where t.refresh_at <= now() and (t.lease_until is null or t.lease_until <= now())
            and c.disconnected_at is null and c.mode = :mode
        order by t.refresh_at limit :limit
        for update of t skip locked
    )
    update access.tokens t
    set lease_fence = t.lease_fence + 1, lease_until = now() + make_interval(secs => :lease_seconds)
    from due d, access.connections c
    where t.account_id = d.account_id and c.account_id = t.account_id
    {CLAIMED}
""")

READ_LEASE = text("""
    select t.version, t.lease_fence, t.lease_until > now() as is_taken,
        t.lease_until is null as is_ended, c.health_code, c.health_message
    from access.tokens t join access.connections c on c.account_id = t.account_id
    where t.account_id = :account_id and c.disconnected_at is null and c.mode = :mode
""")

LOCK_CONNECTION = text(f"""
    select {COLUMNS}, now() as read_at from access.connections c
    where account_id = :account_id and connected_at = :connected_at and disconnected_at is null
    for update
""")

# The tokens are stored if nobody took the lease since, or nobody stored others since. If both
# happened, the others are newer, and Pinterest may have ended these
STORE_TOKENS = text("""
    update access.tokens set
        version = version + 1, key_id = :key_id, secret = :secret,
        refresh_at = now() + make_interval(secs => :refresh_seconds), refresh_failures = 0,
        lease_until = case when lease_fence <> :fence then lease_until end
    where account_id = :account_id and (lease_fence = :fence or version = :version)
    returning version
""")

STORE_GRANT = text("""
    update access.connections set
        token_version = :version,
        token_expires_at = now() + make_interval(secs => :lifetime),
        refresh_expires_at = coalesce(
            now() + make_interval(secs => :refresh_lifetime), refresh_expires_at
        ),
        scopes = coalesce(nullif(cast(:scopes as text[]), '{}'), scopes),
        health_code = case when health_code = :kept_health then health_code end,
        health_message = case when health_code = :kept_health then health_message end,
        checked_at = now()
    where account_id = :account_id
""")

# Only the process that has the lease plans the next refresh
POSTPONE = text("""
    update access.tokens set
        refresh_failures = refresh_failures + :failures, lease_until = null,
        refresh_at = now() + make_interval(secs => :retry_seconds)
    where account_id = :account_id and version = :version and lease_fence = :fence
    returning account_id
""")

# A fault that needs the user is not replaced by one that passes
SET_HEALTH = text("""
    update access.connections
    set health_code = :code, health_message = :message, checked_at = now()
    where account_id = :account_id and token_version = :version and disconnected_at is null
        and (health_code is null or health_code <> all(cast(:kept as text[])))
    returning account_id
""")

PLAN_REFRESH = text("""
    update access.tokens
    set refresh_at = now() + make_interval(secs => :retry_seconds)
    where account_id = :account_id and version = :version
""")

LOCK_REFUSED = text("""
    select c.refresh_expires_at, t.refused_since, t.refused_tries, now() as read_at
    from access.connections c join access.tokens t on t.account_id = c.account_id
    where c.account_id = :account_id and c.disconnected_at is null
        and c.token_version = :version and t.version = :version
    for update of c
""")

NOTE_REFUSED = text("""
    update access.tokens set
        refused_since = coalesce(refused_since, now()), refused_tries = refused_tries + 1,
        refused_version = :version, refresh_at = now() + make_interval(secs => :retry_seconds)
    where account_id = :account_id and version = :version
""")

FORGET_REFUSED = text("""
    update access.tokens
    set refused_since = null, refused_tries = 0, refused_version = null
    where account_id = :account_id and version = :version
""")

ACCEPT_TOKEN = text("""
    update access.connections set
        health_code = case when health_message = :message then null else health_code end,
        health_message = case when health_message = :message then null else health_message end,
        checked_at = now()
    where account_id = :account_id and token_version = :version
""")

SET_CHECKED = text("""
    update access.connections set checked_at = now()
    where account_id = :account_id and token_version = :version
""")

LOCK_WORKSPACE = text(
    "select pg_advisory_xact_lock(hashtextextended('connections/' || :workspace_id, 0))"
)

LOCK_ACCOUNT = text("""
    select id from access.accounts where workspace_id = :workspace_id and id = :account_id
    for update
""")

# Connected accounts come before disconnected ones, then the one that was connected last
SELECT_OF_USER = text(f"""
    select {COLUMNS} from access.connections c
    where workspace_id = :workspace_id and mode = :mode and pinterest_user_id = :user_id
    order by disconnected_at is null desc, connected_at desc
    limit 1
""")

INSERT_ACCOUNT = text("""
    insert into access.accounts (id, workspace_id, display_name, username)
    values (:account_id, :workspace_id, :username, :username)
""")

RESTORE_ACCOUNT = text("""
    update access.accounts set revoked_at = null, username = :username, updated_at = now()
    where id = :account_id
""")

UPSERT_CONNECTION = text("""
    insert into access.connections as c (
        account_id, workspace_id, mode, pinterest_user_id, grant_type, scopes, token_version,
        token_expires_at, refresh_expires_at, checked_at
    ) values (
        :account_id, :workspace_id, :mode, :user_id, :grant_type, :scopes, 1,
        now() + make_interval(secs => :lifetime),
        now() + make_interval(secs => :refresh_lifetime), now()
    )
    on conflict (account_id) do update set
        mode = excluded.mode, pinterest_user_id = excluded.pinterest_user_id,
        grant_type = excluded.grant_type, scopes = excluded.scopes,
        token_version = c.token_version + 1, token_expires_at = excluded.token_expires_at,
        refresh_expires_at = excluded.refresh_expires_at, connected_at = now(),
        disconnected_at = null, health_code = null, health_message = null, checked_at = now(),
        boards_message = null, boards_due_at = now(), boards_failures = 0,
        -- A list that is being read for the earlier connection is not stored
        boards_version = c.boards_version + 1
    returning token_version
""")

# A refresh of the earlier tokens that is in flight can't store its answer: connected_at differs
UPSERT_TOKENS = text("""
    insert into access.tokens as t (account_id, version, key_id, secret, refresh_at)
    values (
        :account_id, :version, :key_id, :secret, now() + make_interval(secs => :refresh_seconds)
    )
    on conflict (account_id) do update set
        version = excluded.version, key_id = excluded.key_id, secret = excluded.secret,
        refresh_at = excluded.refresh_at, refresh_failures = 0, lease_until = null,
        refused_since = null, refused_tries = 0, refused_version = null
""")

REVOKE_ACCOUNT = text("""
    update access.accounts set
        revoked_at = coalesce(revoked_at, now()),
        updated_at = case when revoked_at is null then now() else updated_at end
    where workspace_id = :workspace_id and id = :account_id
    returning id
""")

DISCONNECT = text("""
    update access.connections set disconnected_at = now(), health_code = null, health_message = null
    where account_id = :account_id and disconnected_at is null
""")

DELETE_TOKENS = text("delete from access.tokens where account_id = :account_id")

SELECT_SEALED_BY_OTHERS = text("""
    select account_id, secret from access.tokens
    where key_id <> :key_id and key_id = any(cast(:key_ids as text[]))
    order by account_id limit :limit
    for update skip locked
""")

RESEAL = text("""
    update access.tokens set key_id = :key_id, secret = :secret where account_id = :account_id
""")

COUNT = text("""
    select
        count(*) filter (
            where t.refresh_failures > 0 and c.token_expires_at < now() + interval '3 days'
                and c.is_usable
                and coalesce(c.health_code, '') <> all(cast(:reconnect_codes as text[]))
        ) as expiring,
        count(*) filter (
            where a.revoked_at is null
                and (not c.is_usable or c.health_code = any(cast(:reconnect_codes as text[])))
        ) as reconnect_required,
        count(*) filter (
            where c.is_usable and t.key_id <> all(cast(:key_ids as text[]))
        ) as unreadable
    from (
        select account_id, token_expires_at, health_code,
            disconnected_at is null and mode = :mode as is_usable
        from access.connections
    ) c
    join access.accounts a on a.id = c.account_id
    left join access.tokens t on t.account_id = c.account_id
""")
