"""Statements of the revisions that grant and revoke the privileges of the services' roles."""

from alembic import op

READ = "select"
WRITE = "select, insert, update, delete"


def create_schema(name: str) -> None:
    op.execute(f"create schema {name}")


def grant(schema: str, role: str, privileges: str) -> None:
    """Grants privileges on all present and future tables of a schema; WRITE includes sequences.

    Only the first revisions use it. Revision 0006 revoked these privileges; since then `grant_on`
    grants the needed privileges on each table.
    """
    op.execute(f"grant usage on schema {schema} to {role}")
    op.execute(f"grant {privileges} on all tables in schema {schema} to {role}")
    op.execute(
        f"alter default privileges in schema {schema} grant {privileges} on tables to {role}"
    )
    if privileges == WRITE:
        op.execute(f"grant usage on all sequences in schema {schema} to {role}")
        op.execute(
            f"alter default privileges in schema {schema} grant usage on sequences to {role}"
        )


def grant_on(table: str, role: str, privileges: str) -> None:
    """Grants privileges on one table. Without a grant no service can use a new table."""
    op.execute(f"grant {privileges} on {table} to {role}")


def revoke_all(schema: str, role: str) -> None:
    """Revokes all privileges of `grant` except the usage of the schema, also on future tables."""
    for kind in ("tables", "sequences"):
        op.execute(f"revoke all on all {kind} in schema {schema} from {role}")
        op.execute(f"alter default privileges in schema {schema} revoke all on {kind} from {role}")
