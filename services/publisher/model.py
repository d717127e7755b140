"""The types that the row pipeline and the HTTP endpoints of pins share. No I/O.

A pin's states, columns, origin and failures.
"""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import msgspec

from shared.access.errors import describe_board_failure
from shared.access.model import BoardResult, Destination
from shared.contract.pins import TEXTS

PIN_TEXTS = (*TEXTS, "dominant_color")
"""The columns of publisher.pins for a pin's texts. Its content has fields of the same names."""
PIN_COLUMNS = (
    ("pin_id", "uuid"),
    ("workspace_id", "uuid"),
    ("account_id", "uuid"),
    ("asset_id", "uuid"),
    ("cover_image_asset_id", "uuid"),
    ("fingerprint", "uuid"),
    ("origin_job_id", "uuid"),
    ("origin_row", "int4"),
    ("run_at", "timestamptz"),
    ("created_at", "int8"),
    ("related_terms", "text"),
    *((name, "text") for name in PIN_TEXTS),
)
"""The columns whose values an insert into publisher.pins sends, and the types of these values.

`created_at` is sent as microseconds, `related_terms` as JSON text. Each statement converts them.
"""


DELIVERY = "pinterest"
"""The `delivery` of a pin whose account was ever connected when the pin was created."""


class PinState(StrEnum):
    """The states of a pin. docs/explanation/states.md draws the transitions."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    """Waits for its delivery to Pinterest. Like the next two, only if its account is connected."""
    PUBLISHING = "publishing"
    """The request to Pinterest may be on its way."""
    CONFIRMING = "confirming"
    """The answer was lost: Pinterest is asked whether it has the pin."""
    PUBLISHED = "published"
    FAILED = "failed"
    CANCELED = "cancelled"  # stored with two l's; the API says canceled


class Origin(NamedTuple):
    """The import row that created a pin. A pin of a direct call has (None, None)."""

    job_id: UUID | None
    row_number: int | None


class StoredPin(msgspec.Struct, frozen=True, gc=False):
    """The columns of publisher.pins that decide a row's outcome.

    A struct, because a batch has one for each row. Creating it takes a fifth of a NamedTuple's
    time, and the garbage collector does not walk it.
    """

    pin_id: UUID
    workspace_id: UUID
    idempotency_key: str
    origin_job_id: UUID | None
    origin_row: int | None
    fingerprint: UUID
    run_at: datetime | None
    published_at: datetime | None
    state: str
    deleted_at: datetime | None
    delivery: str | None
    """DELIVERY if the pin is delivered to Pinterest, None if it is only announced."""


class SelectedPin(StoredPin, frozen=True, gc=False):
    """A stored pin that was read back, in the order of STORED_COLUMNS.

    The pins that a batch inserts are not read back. They can't have been released.
    """

    released_at: datetime | None
    """When the key was released. Set only under a key's first pin id (generations.py)."""


STORED_COLUMNS = SelectedPin.__struct_fields__
"""The columns to select, in this order, for `SelectedPin(*row)`."""


class Failure(NamedTuple):
    """The reason why a row or pin failed.

    A row's recorded failure never changes. A retry of a failed pin clears the pin's failure.
    """

    error_code: str
    error_message: str


def build_failure(check: BoardResult, destination: Destination) -> Failure:
    """Builds the failure of a row or pin whose account or board failed its check."""
    return Failure(*describe_board_failure(check, destination))
