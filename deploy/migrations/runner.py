"""Creates the services' roles and runs the migrations, one process at a time."""

import time
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
"""The advisory lock that serializes concurrent runs."""
LOCK_RETRY_SECONDS = 0.5


def migrate(database_url: str, passwords: Mapping[str, str] | None = None) -> None:
    """Brings a database to the newest revision. Can be repeated.

    Also creates missing roles, sets the given passwords and restricts who may connect.
    `database_url` is the owner's URL. `passwords` has a new password for each role. A role without
    one keeps its password. A new role without a password can log in only with trust or certificate
    authentication. Raises psycopg.OperationalError if Postgres does not answer.
    """
    with psycopg.connect(database_url, autocommit=True, connect_timeout=5) as connection:
        _lock(connection)
        ensure_roles(connection, passwords or {})
        _restrict_access(connection)
        upgrade(database_url)


def upgrade(database_url: str, revision: str = "head") -> None:
    """Runs the missing revisions up to `revision`. The caller holds the lock.

    One transaction has all of them. A revision with an autocommit block commits it before that, and
    begins another one after it.
    """
    engine = create_engine(sqlalchemy_url(database_url))
    try:
        with engine.connect() as connection:
            command.upgrade(alembic_config(connection), revision)
    finally:
        engine.dispose()


def alembic_config(connection: Connection) -> Config:
    """Returns a configuration that makes alembic's commands use this connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config


def ensure_roles(
    connection: psycopg.Connection[tuple[object, ...]], passwords: Mapping[str, str]
) -> None:
    """Creates the missing roles of the services and sets the given passwords."""
    existing = {name for (name,) in connection.execute("select rolname from pg_roles")}
    for role in ROLES:
        name = sql.Identifier(role)
        if role not in existing:
            # All databases of a cluster share the roles. Another database's migration may create
            # the role at the same time
            with suppress(psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
                connection.execute(sql.SQL("create role {} login").format(name))
        if role in passwords:
            # Hashed here, like in psql's \password: the server may log the statement
            verifier = connection.pgconn.encrypt_password(
                passwords[role].encode(), role.encode(), b"scram-sha-256"
            )
            connection.execute(
                sql.SQL("alter role {} password {}").format(name, sql.Literal(verifier.decode()))
            )


def _lock(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Waits until no other process runs migrations.

    A statement that waits for the lock would keep its snapshot. A concurrent build of an index in
    the process with the lock waits until older snapshots end, so neither would go on.
    """
    while True:
        row = connection.execute("select pg_try_advisory_lock(%s)", (MIGRATION_LOCK,)).fetchone()
        if row and row[0]:
            return
        time.sleep(LOCK_RETRY_SECONDS)


def _restrict_access(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Allows only the owner and the services' roles to connect to the database.

    The roles may not create anything, not even temporary tables. This is not a revision, because a
    copy of a database keeps the privileges on its tables but not those on the database itself.
    """
    row = connection.execute("select current_database()").fetchone()
    database = sql.Identifier(str(row[0] if row else ""))
    roles = sql.SQL(", ").join(map(sql.Identifier, ROLES))
    connection.execute(sql.SQL("revoke all on database {} from public").format(database))
    connection.execute(sql.SQL("grant connect on database {} to {}").format(database, roles))
