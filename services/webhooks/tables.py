"""Describes the tables of the schema `webhooks` for queries.

The migrations define them, with every constraint.
"""

from sqlalchemy import ARRAY, Boolean, Column, DateTime, Integer, MetaData, Table, Text, Uuid

metadata = MetaData(schema="webhooks")


def _time(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True))


webhooks = Table(
    "endpoints",
    metadata,
    Column("webhook_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    Column("url", Text),
    Column("secret", Text),
    Column("events", ARRAY(Text)),
    Column("is_enabled", Boolean),
    Column("disabled_reason", Text),
    Column("failures_in_a_row", Integer),
    Column("failed_attempts", Integer),
    _time("failing_since"),
    _time("created_at"),
    _time("updated_at"),
)
"""One row is a webhook."""

deliveries = Table(
    "deliveries",
    metadata,
    Column("webhook_id", Uuid, primary_key=True),
    Column("delivery_id", Uuid, primary_key=True),
    Column("event_id", Text),
    Column("event_type", Text),
    Column("body", Text),
    Column("status", Text),
    Column("tries", Integer),
    Column("attempt_count", Integer),
    Column("last_status_code", Integer),
    Column("last_error", Text),
    _time("next_attempt_at"),
    _time("created_at"),
    _time("updated_at"),
)
