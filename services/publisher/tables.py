"""The tables of pins and of the outbox, and the conditions of indexes, for queries.

The migrations define the tables and their constraints.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    Uuid,
)

from services.publisher.model import PIN_TEXTS

# The conditions of partial indexes of publisher.pins, which queries repeat so that the planner uses
# these indexes. Together they match every pin
IS_SHOWN = "deleted_at is null and state in ('published', 'failed')"
"""The condition of the index pins_shown (migration 0007)."""
IS_NOT_SHOWN = "(deleted_at is not null or state in ('scheduled', 'cancelled'))"
"""The condition of the index pins_not_shown (migration 0016)."""
IS_DELIVERING = "deleted_at is null and state in ('queued', 'publishing', 'confirming')"
"""The condition of the index pins_delivering (migration 0021)."""

metadata = MetaData(schema="publisher")


def _time(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True))


pins = Table(
    "pins",
    metadata,
    Column("pin_id", Uuid, primary_key=True),
    Column("workspace_id", Uuid),
    Column("account_id", Uuid),
    Column("asset_id", Uuid),
    Column("cover_image_asset_id", Uuid),
    Column("fingerprint", Uuid),
    Column("origin_job_id", Uuid),
    _time("run_at"),
    _time("created_at"),
    _time("updated_at"),
    _time("published_at"),
    _time("failed_at"),
    _time("deleted_at"),
    _time("touched_at"),
    _time("released_at"),
    Column("generation", Integer),
    Column("current_pin_id", Uuid),
    Column("origin_row", Integer),
    Column("state", Text),
    *(Column(name, Text) for name in PIN_TEXTS),
    Column("related_terms", JSON),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("delivery", Text),
    Column("pinterest_pin_id", Text),
    _time("deliver_after"),
    Column("deferral_code", Text),
    _time("removed_at"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", BigInteger, primary_key=True),
    Column("event_type", Text),
    Column("event_id", Text),
    Column("key", Text),
    Column("payload", LargeBinary),
    _time("occurred_at"),
)
