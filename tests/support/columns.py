"""A table with a column of each type, and a statement that returns its rows in order."""

from shared.postgres.arrays import column_names, unnest

TABLE = (
    ("id", "uuid"),
    ("name", "text"),
    ("small", "int2"),
    ("number", "int4"),
    ("large", "int8"),
    ("yes", "bool"),
    ("at", "timestamptz"),
    ("content", "bytea"),
)
STATEMENT = (
    f"select {column_names(TABLE)} from {unnest(TABLE)} with ordinality "
    f"as r({column_names(TABLE)}, position) order by position"
).encode()
