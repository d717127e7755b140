"""Runs the migrations, one runner at a time, and creates the services' roles before them."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import Connection, create_engine

from deploy.services import SERVICES
from shared.postgres.database import sqlalchemy_url

ROLES = tuple(service.role for service in SERVICES.values())
MIGRATION_LOCK = 7_103_548_221
"""The advisory lock that a runner holds: two at the same time would collide."""


def migrate(database_url: str, passwords: Mapping[str, str] | None = None) -> None:
    """Brings a database to the newest revision. Idempotent. The URL is the owner's.

    `passwords` sets passwords by role. A role without one keeps its password; a new role then has
    none and needs trusted or certificate connections. Raises psycopg.OperationalError if Postgres
    does not answer.
    """
    with psycopg.connect(database_url, autocommit=True, connect_timeout=5) as connection:
        connection.execute("select pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        ensure_roles(connection, passwords or {})
        _close(connection)
        _upgrade(database_url)


def alembic_config(connection: Connection) -> Config:
    """Returns the configuration with which alembic's commands use this connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def ensure_roles(
    connection: psycopg.Connection[tuple[object, ...]], passwords: Mapping[str, str]
) -> None:
    """Creates the services' roles that don't exist, and sets the given passwords."""
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
    """Lets only the owner and the services' roles connect, and the roles create nothing.

    Not even a temporary table. This is no revision, because a copy of a database keeps the rights
    on its tables but not those on the database.
    """
    row = connection.execute("select current_database()").fetchone()
    database = sql.Identifier(str(row[0] if row else ""))
    roles = sql.SQL(", ").join(map(sql.Identifier, ROLES))
    connection.execute(sql.SQL("revoke all on database {} from public").format(database))
    connection.execute(sql.SQL("grant connect on database {} to {}").format(database, roles))


def _upgrade(database_url: str) -> None:
    engine = create_engine(sqlalchemy_url(database_url))
    try:
        with engine.begin() as connection:
            command.upgrade(alembic_config(connection), "head")
    finally:
        engine.dispose()
