"""Who may do what in which schema, written once."""

from alembic import op

READ = "select"
WRITE = "select, insert, update, delete"


def create_schema(name: str) -> None:
    op.execute(f"create schema {name}")


def grant(schema: str, role: str, privileges: str) -> None:
    """Give `role` these privileges on every table and sequence of `schema`, those to come included."""
    op.execute(f"grant usage on schema {schema} to {role}")
    op.execute(f"grant {privileges} on all tables in schema {schema} to {role}")
    op.execute(f"alter default privileges in schema {schema} grant {privileges} on tables to {role}")
    if privileges == WRITE:
        op.execute(f"grant usage on all sequences in schema {schema} to {role}")
        op.execute(f"alter default privileges in schema {schema} grant usage on sequences to {role}")
