"""Each service's database role can do what the service does, and nothing else."""

import psycopg
import pytest
from psycopg import sql

from deploy.migrations import migrate
from deploy.migrations.runner import ROLES
from tests.infrastructure import with_role

TABLES = {
    "access": ("workspaces", "api_keys", "accounts", "boards"),
    "ingest": ("requests",),
    "publisher": ("pins", "row_failures", "outbox"),
    "status": ("jobs", "row_results", "fold_progress"),
}
MAY_READ = {role: {role.removeprefix("pinflow_"), "access"} for role in ROLES}
MAY_WRITE = {"pinflow_ingest": {"ingest"}, "pinflow_publisher": {"publisher", "access"}, "pinflow_status": {"status"}}
ALL = [(schema, table) for schema, tables in TABLES.items() for table in tables]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("schema", "table"), ALL)
def test_a_role_reads_and_writes_its_own(database_url: str, role: str, schema: str, table: str) -> None:
    name = sql.Identifier(schema, table)
    with psycopg.connect(with_role(database_url, role), autocommit=True) as connection:
        assert _allowed(connection, sql.SQL("select * from {} limit 0").format(name)) is (schema in MAY_READ[role])
        assert _allowed(connection, sql.SQL("delete from {} where false").format(name)) is (schema in MAY_WRITE[role])
        assert not _allowed(connection, sql.SQL("drop table {}").format(name))


@pytest.mark.parametrize("role", ROLES)
def test_a_role_can_make_nothing_new(database_url: str, role: str) -> None:
    with psycopg.connect(with_role(database_url, role), autocommit=True) as connection:
        for statement in ("create table public.x (a int)", "create schema x", "create role x", "create table status.x (a int)"):
            assert not _allowed(connection, sql.SQL(statement))


def test_migrating_again_changes_nothing(database_url: str) -> None:
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select version_num from alembic_version").fetchall() == [("0005",)]


def _allowed(connection: "psycopg.Connection[tuple[object, ...]]", statement: sql.SQL | sql.Composed) -> bool:
    try:
        connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
