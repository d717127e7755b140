"""Runs the migrations, one runner at a time, and makes the services' roles before them."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import create_engine

from deploy.services import SERVICES
from shared.postgres.database import sqlalchemy_url

ROLES = tuple(service.role for service in SERVICES.values())
MIGRATION_LOCK = 7_103_548_221
"""An advisory lock of this number is held meanwhile: two runners at once would collide."""


def migrate(
    database_url: str, passwords: Mapping[str, str] | None = None, *, revision: str = "head"
) -> None:
    """Bring the database at `database_url`, an owner's URL, to the newest revision, or up to
    `revision`. Idempotent.

    `passwords` gives roles theirs, by role; a role without one keeps what it has (none, when new:
    then only trusted or certificate connections can use it). Raises psycopg.OperationalError when
    Postgres is away.
    """
    with psycopg.connect(database_url, autocommit=True, connect_timeout=5) as connection:
        connection.execute("select pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        _ensure_roles(connection, passwords or {})
        _close(connection)
        _upgrade(database_url, revision)


def _ensure_roles(
    connection: psycopg.Connection[tuple[object, ...]], passwords: Mapping[str, str]
) -> None:
    there = {name for (name,) in connection.execute("select rolname from pg_roles")}
    for role in ROLES:
        name = sql.Identifier(role)
        if role not in there:
            # Roles belong to the cluster: another database's migration may make it at this moment
            with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                connection.execute(sql.SQL("create role {} login").format(name))
        if role in passwords:
            # Hashed here, as psql's \password does: the statement may end up in the server's log
            verifier = connection.pgconn.encrypt_password(
                passwords[role].encode(), role.encode(), b"scram-sha-256"
            )
            connection.execute(
                sql.SQL("alter role {} password {}").format(name, sql.Literal(verifier.decode()))
            )


def _close(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Nobody but the owner and the services' roles may connect, and these may make nothing, not
    even a temporary table. Here and not in a revision: a copy of a database has its tables' rights,
    but not its own.
    """
    row = connection.execute("select current_database()").fetchone()
    database = sql.Identifier(str(row[0] if row else ""))
    roles = sql.SQL(", ").join(map(sql.Identifier, ROLES))
    connection.execute(sql.SQL("revoke all on database {} from public").format(database))
    connection.execute(sql.SQL("grant connect on database {} to {}").format(database, roles))


def _upgrade(database_url: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    engine = create_engine(sqlalchemy_url(database_url))
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    finally:
        engine.dispose()
