"""Each service's database role has the rights that the service needs, and no others."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import psycopg
import pytest
from psycopg import sql

from deploy import migrations
from deploy.migrations import migrate
from deploy.migrations.runner import ROLES
from deploy.services import SERVICES
from tests.support.infrastructure import with_role

READ, APPEND, UPSERT, QUEUE = (
    {"SELECT"},
    {"SELECT", "INSERT"},
    {"SELECT", "INSERT", "UPDATE"},
    {"SELECT", "INSERT", "UPDATE", "DELETE"},
)
TAKE = {"SELECT", "DELETE"}

RIGHTS: dict[str, dict[str, set[str]]] = {
    "pinflow_ingest": {
        "access.api_keys": READ,
        "access.accounts": READ,
        "access.boards": READ,
        "access.workspaces": READ,
        "access.connections": READ,
        "ingest.requests": QUEUE,
    },
    "pinflow_publisher": {
        "access.api_keys": READ,
        "access.accounts": READ,
        "access.boards": READ,
        "access.connections": READ,
        "publisher.pins": UPSERT,
        "publisher.row_outcomes": {*APPEND, "MAINTAIN"},
        "publisher.positions": UPSERT,
        "publisher.position_seed": TAKE,
        "publisher.outbox": QUEUE,
        "publisher.canceled_jobs": {*APPEND, "DELETE"},
        "publisher.undos": QUEUE,
        "publisher.delivery_accounts": QUEUE,
        "publisher.delivery_apps": QUEUE,
        "publisher.delivery_attempts": QUEUE,
        "publisher.delivery_losses": {"SELECT", "UPDATE"},
        "publisher.delivery_media": QUEUE,
        "publisher.pinterest_budgets": QUEUE,
        "publisher.removals": QUEUE,
    },
    "pinflow_access": {
        "access.api_keys": APPEND,
        "access.accounts": APPEND,
        "access.workspaces": READ,
        "access.boards": {"SELECT", "INSERT", "DELETE"},
        "access.connections": QUEUE,
        "access.tokens": QUEUE,
        "access.oauth_attempts": QUEUE,
        "access.board_requests": QUEUE,
    },
    "pinflow_status": {
        "access.api_keys": READ,
        "status.jobs": UPSERT,
        "status.results": APPEND,
        "status.uploads": {"SELECT", "INSERT", "DELETE"},
        "status.positions": UPSERT,
        "status.position_seed": TAKE,
    },
    "pinflow_webhooks": {
        "access.api_keys": READ,
        "webhooks.endpoints": QUEUE,
        "webhooks.deliveries": QUEUE,
        "webhooks.positions": UPSERT,
        "webhooks.position_seed": TAKE,
    },
}
"""All rights of each role on tables. A role has no other rights, on any table."""

UPDATABLE: dict[str, dict[str, set[str]]] = {
    "pinflow_access": {
        "access.api_keys": {"last_used_at", "name", "scopes", "account_ids", "revoked_at"},
        "access.accounts": {"revoked_at", "updated_at", "display_name", "username"},
        "access.boards": {"name", "description", "privacy", "synced_at"},
    },
}
"""The columns that a role may update, in tables for which it has no UPDATE right."""

FUNCTIONS = {
    "pinflow_ingest": set[str](),
    "pinflow_publisher": {
        "publisher.hold_positions",
        "publisher.require_all_rules",
        "publisher.require_not_canceled",
    },
    "pinflow_access": set[str](),
    "pinflow_status": {"status.job_status", "status.hold_positions"},
    "pinflow_webhooks": {"webhooks.hold_positions"},
}
PRIVILEGES = (
    "SELECT",
    "INSERT",
    "UPDATE",
    "DELETE",
    "TRUNCATE",
    "REFERENCES",
    "TRIGGER",
    "MAINTAIN",
)
STATEMENTS = {
    "SELECT": "select * from {} limit 0",
    "INSERT": "insert into {} overriding user value select * from {} where false",
    "UPDATE": "update {} set {} = {} where false",
    "DELETE": "delete from {} where false",
    "TRUNCATE": "truncate {}",
    "TRIGGER": (
        "create trigger t after insert on {} execute function suppress_redundant_updates_trigger()"
    ),
    "DROP": "drop table {}",
    "ALTER": "alter table {} add column x int",
    "INDEX": "create index on {} ((1))",
}
Catalog: TypeAlias = "psycopg.Connection[tuple[object, ...]]"
LATEST_VERSION = max(
    file.name[:4] for file in (Path(migrations.__file__).parent / "versions").glob("[0-9]*.py")
)
OURS = "n.nspname !~ '^pg_' and n.nspname <> 'information_schema'"


@pytest.fixture(scope="module", name="url")
def migrated(database_url: str) -> str:
    """Migrates the module's database again, because a copy lacks the rights on the database."""
    migrate(database_url)
    return database_url


@pytest.fixture
def catalog(url: str) -> Iterator[Catalog]:
    with psycopg.connect(url) as connection:
        yield connection


def list_tables(catalog: Catalog) -> list[str]:
    query = f"""
        select n.nspname || '.' || relname from pg_class c
        join pg_namespace n on n.oid = relnamespace
        where relkind in ('r', 'v', 'm', 'p', 'f') and {OURS}
    """
    return [str(name) for (name,) in catalog.execute(query).fetchall()]


@pytest.mark.parametrize("role", ROLES)
def test_a_roles_privileges_are_the_declared_ones(catalog: Catalog, role: str) -> None:
    tables = list_tables(catalog)
    assert set(RIGHTS[role]) <= set(tables)
    has = (
        "select privilege from unnest(%s::text[]) privilege where has_table_privilege(%s, %s, "
        "privilege)"
    )
    held = {
        table: {
            str(privilege) for (privilege,) in catalog.execute(has, (list(PRIVILEGES), role, table))
        }
        for table in tables
    }
    assert {table: privileges for table, privileges in held.items() if privileges} == RIGHTS[role]
    columns = f"""
        select n.nspname || '.' || relname, attname, privilege_type from pg_attribute a
        join pg_class c on c.oid = attrelid
        join pg_namespace n on n.oid = relnamespace, aclexplode(attacl)
        where (grantee = 0 or grantee = %s::regrole) and {OURS}
    """
    by_column = {
        (table, column, "UPDATE")
        for table, some in UPDATABLE.get(role, {}).items()
        for column in some
    }
    assert (
        set(catalog.execute(columns, (role,)).fetchall()) == by_column
    )  # no other rights on single columns
    sequences = f"""
        select n.nspname || '.' || relname from pg_class c
        join pg_namespace n on n.oid = relnamespace
        where {OURS} and case when relkind = 'S'
            then has_sequence_privilege(%s, c.oid, 'USAGE, SELECT, UPDATE') end
    """
    assert catalog.execute(sequences, (role,)).fetchall() == []
    functions = f"""
        select n.nspname || '.' || proname from pg_proc p
        join pg_namespace n on n.oid = pronamespace
        where {OURS} and has_function_privilege(%s, p.oid, 'EXECUTE')
    """
    assert {name for (name,) in catalog.execute(functions, (role,))} == FUNCTIONS[role]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_can_use_only_its_schemas_and_create_in_none(catalog: Catalog, role: str) -> None:
    schemas = (
        "select nspname, has_schema_privilege(%s, oid, 'USAGE'), has_schema_privilege(%s, oid, "
        f"'CREATE') from pg_namespace n where {OURS}"
    )
    held = {name: (usage, create) for name, usage, create in catalog.execute(schemas, (role, role))}
    (service,) = (service for service in SERVICES.values() if service.role == role)
    used = {service.schema, *service.reads}
    assert {table.partition(".")[0] for table in RIGHTS[role]} == used
    # `public` holds only the version of the schema, which no role may read
    known = {"public", *(service.schema for service in SERVICES.values())}
    assert held == {name: (name in used | {"public"}, False) for name in known}


def test_only_the_access_service_and_the_owner_may_write_in_access(catalog: Catalog) -> None:
    writers = """
        select distinct r.rolname from pg_roles r, pg_class c
        join pg_namespace n on n.oid = c.relnamespace
        where n.nspname = 'access' and c.relkind in ('r', 'p') and not r.rolsuper
            and r.oid <> c.relowner and not pg_has_role(r.oid, 'pg_write_all_data', 'usage')
            and (
                has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
                or has_any_column_privilege(r.oid, c.oid, 'INSERT, UPDATE')
            )
    """
    assert catalog.execute(writers).fetchall() == [("pinflow_access",)]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_has_no_attributes_memberships_or_objects(catalog: Catalog, role: str) -> None:
    attributes = (
        "select rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolcanlogin "
        "from pg_roles where rolname = %s"
    )
    assert catalog.execute(attributes, (role,)).fetchone() == (
        False,
        False,
        False,
        False,
        False,
        True,
    )
    member = (
        "select count(*) from pg_auth_members m join pg_roles r on r.oid = m.member where "
        "r.rolname = %s"
    )
    assert catalog.execute(member, (role,)).fetchone() == (0,)
    database = """
        select privilege from unnest(array['CONNECT', 'TEMPORARY', 'CREATE']) privilege
        where has_database_privilege(%s, current_database(), privilege)
    """
    assert catalog.execute(database, (role,)).fetchall() == [("CONNECT",)]
    owned = "select count(*) from pg_class c join pg_roles r on r.oid = relowner where rolname = %s"
    assert catalog.execute(owned, (role,)).fetchone() == (0,)


def test_future_objects_get_no_privileges(catalog: Catalog) -> None:
    grants = catalog.execute(
        "select defaclobjtype::text, acl.grantee::regrole::text from pg_default_acl, "
        "aclexplode(defaclacl) acl"
    ).fetchall()
    owner = catalog.execute("select current_user::regrole::text").fetchone()
    assert owner is not None
    assert set(grants) <= {("f", owner[0])}  # functions: only the owner, instead of everyone
    catalog.execute("create table status.to_come (a int)")
    catalog.execute("create function status.to_come() returns int language sql return 1")
    for role in ROLES:
        for kind, what, privilege in (
            ("table", "status.to_come", "select"),
            ("function", "status.to_come()", "execute"),
        ):
            assert catalog.execute(
                f"select has_{kind}_privilege(%s, %s, %s)", (role, what, privilege)
            ).fetchone() == (False,)
    catalog.rollback()


@pytest.mark.parametrize("role", ROLES)
def test_ungranted_statements_are_refused(url: str, catalog: Catalog, role: str) -> None:
    """Executes the statements. The tests above read the privileges from the catalog."""
    tables = [name for name in list_tables(catalog) if name != "public.alembic_version"]
    columns = {name: _first_column(catalog, name) for name in tables}
    with psycopg.connect(with_role(url, role), autocommit=True) as connection:
        for table in tables:
            name, column = sql.Identifier(*table.split(".")), sql.Identifier(columns[table])
            for privilege, statement in STATEMENTS.items():
                arguments = {"UPDATE": (name, column, column), "INSERT": (name, name)}.get(
                    privilege, (name,)
                )
                allowed = _is_allowed(connection, sql.SQL(statement).format(*arguments))
                assert allowed is (privilege in RIGHTS[role].get(table, ())), (
                    f"{role} {privilege} {table}"
                )
        for statement in (
            "create table public.x (a int)",
            "create table status.x (a int)",
            "create temporary table x (a int)",
            "create schema x",
            "create role x",
            "create database x",
            "alter role pinflow_ingest superuser",
            "select pg_read_file('postgresql.conf')",
            "copy access.api_keys to program 'true'",
            "select rolpassword from pg_authid",
            "select * from public.alembic_version",
        ):
            assert not _is_allowed(connection, sql.SQL(statement)), statement


def test_migrating_again_changes_nothing(url: str) -> None:
    migrate(url)
    with psycopg.connect(url) as connection:
        assert connection.execute("select version_num from alembic_version").fetchall() == [
            (LATEST_VERSION,)
        ]


def _first_column(catalog: Catalog, table: str) -> str:
    # No identity column: no role can update one
    query = (
        "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0 and "
        "attidentity = '' order by attnum limit 1"
    )
    row = catalog.execute(query, (table,)).fetchone()
    assert row is not None
    return str(row[0])


def _is_allowed(connection: Catalog, statement: sql.SQL | sql.Composed) -> bool:
    try:
        connection.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
