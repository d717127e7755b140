"""Defines what the row pipeline and HTTP's pins share: a pin's states, columns and failures.

Does no I/O.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from shared.access.model import BoardCheck, Destination
from shared.contract.errors import ErrorCode
from shared.contract.pins import TEXTS

PIN_TEXTS = (*TEXTS, "dominant_color")
"""The columns of text, which a pin's content has under the same names."""
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
"""The columns that an insert into publisher.pins gives, and how they are sent.

`created_at` is sent as microseconds and `related_terms` as JSON: each statement converts them.
"""


class PinState(StrEnum):
    """docs/explanation/states.md draws the transitions."""

    SCHEDULED = "scheduled"
    PUBLISHED = "published"
    FAILED = "failed"
    CANCELED = "cancelled"


class Origin(NamedTuple):
    """Names the row of the import that a pin came from. A direct call's pin has (None, None)."""

    job_id: UUID | None
    row_number: int | None


class StoredPin(msgspec.Struct, frozen=True, gc=False):
    """Holds what decisions need of a row of publisher.pins, in the order of its columns' selection.

    A struct, because a batch has one for each row: it costs a fifth of a NamedTuple, and the
    garbage collector does not walk it.
    """

    pin_id: UUID
    workspace_id: UUID
    idempotency_key: str
    origin_job_id: UUID | None
    origin_row: int | None
    fingerprint: UUID
    run_at: datetime | None
    published_at: datetime | None


STORED_COLUMNS = StoredPin.__struct_fields__
"""Select these, in this order: `StoredPin(*row)` is the pin."""


class Failure(NamedTuple):
    """Says why a row or pin failed, as it is recorded and reported for ever."""

    error_code: str
    error_message: str


def build_failure(check: BoardCheck, destination: Destination) -> Failure:
    if check is BoardCheck.NO_ACCOUNT:
        return Failure(
            ErrorCode.ACCOUNT_NOT_FOUND,
            f"account_id: no account {destination.account_id} in this workspace",
        )
    return Failure(
        ErrorCode.BOARD_NOT_FOUND, f"board_id: no board {destination.board_id} on this account"
    )


def group_by_change(
    changes: Mapping[UUID, dict[str, Any]],
) -> Iterable[tuple[dict[str, Any], list[UUID]]]:
    """Groups pins by their change, so that one UPDATE serves a group. Usually there is one."""
    groups: dict[tuple[Any, ...], list[UUID]] = defaultdict(list)
    for pin_id, change in changes.items():
        groups[tuple(change.items())].append(pin_id)
    return ((dict(change), ids) for change, ids in groups.items())
