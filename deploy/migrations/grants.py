"""Who may do what in which schema, written once."""

from alembic import op

READ = "select"
WRITE = "select, insert, update, delete"


def create_schema(name: str) -> None:
    op.execute(f"create schema {name}")


def grant(schema: str, role: str, privileges: str) -> None:
    """Give `role` these privileges on every table and sequence of `schema`, those to come included.
    Of the first revisions: 0006 took it back, and `grant_on` says for each table what its service
    does with it.
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
    """Give `role` just these privileges on one table.

    A new table is nobody's until its revision says whose.
    """
    op.execute(f"grant {privileges} on {table} to {role}")


def revoke_all(schema: str, role: str) -> None:
    """Everything `grant` gave but the schema's usage, for tables to come too."""
    for kind in ("tables", "sequences"):
        op.execute(f"revoke all on all {kind} in schema {schema} from {role}")
        op.execute(f"alter default privileges in schema {schema} revoke all on {kind} from {role}")
