"""Builds the snapshot of the store from which each row's outcome is decided. Does no I/O.

outcome_history.py explains reserved keys.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
from msgspec.structs import replace

from services.publisher.ids import compute_pin_id
from services.publisher.model import DELIVERY, Failure, Origin, PinState, StoredPin
from shared.access.model import Destination
from shared.contract.events import ExistingState, FieldDifference, RowAccepted, RowStatus

# The plain texts: to read a member of an enum takes several times as long
_PUBLISHED, _SCHEDULED = PinState.PUBLISHED.value, PinState.SCHEDULED.value
_QUEUED = PinState.QUEUED.value

# A type is a struct if a batch has one for each row: creating it takes a fifth of a NamedTuple's
# time, and the garbage collector does not walk it


class StoredOutcome(NamedTuple):
    """A row's outcome in publisher.row_outcomes. A redelivery reports it again (invariant 4)."""

    status: RowStatus
    pin_id: UUID | None = None
    schedule_id: UUID | None = None
    payload_matches: bool | None = None
    failure: Failure | None = None
    existing_state: ExistingState | None = None
    differing_fields: list[FieldDifference] | None = None
    updated: bool | None = None
    """True if the pin took the row's content."""
    promised_generation: int | None = None
    """The generation of the pin that the row created in a lost Postgres. None for the first."""


class KeyedRow(msgspec.Struct, frozen=True, gc=False):
    """A row of a batch, with the values that are computed from it."""

    row: RowAccepted
    pin_id: UUID
    """Computed from the workspace and the idempotency key. A row that starts a new generation of
    its key gets that generation's id."""
    scheduled_for: datetime | None
    """The time to publish the row. None means at once."""
    is_connected: bool = False
    """True if the row's account was ever connected to Pinterest."""

    @property
    def destination(self) -> Destination:
        pin = self.row.row
        return Destination(self.row.workspace_id, pin.account_id, pin.board_id)


@dataclass(frozen=True, slots=True)
class RecordedOutcomes:
    """The recorded outcomes of a batch's rows, and of other rows with the same keys."""

    by_row: Mapping[Origin, StoredOutcome]
    """The outcomes of the batch's rows, by row."""
    reserved: Mapping[UUID, tuple[Origin, StoredOutcome]]
    """The row that created the pin in a lost Postgres, and its outcome, by pin id."""

    @property
    def is_empty(self) -> bool:
        return not self.by_row and not self.reserved

    def is_created(self, row: RowAccepted) -> bool:
        """Returns whether a row is recorded as created. Such a row no longer fails a check."""
        recorded = self.by_row.get(Origin(row.job_id, row.row_number))
        return recorded is not None and recorded.status is RowStatus.CREATED


@dataclass(frozen=True, slots=True)
class StoreSnapshot:
    """The store's content that concerns a batch's rows and keys.

    Inserted pins are not read back: the content of `stored` follows from what was inserted.
    """

    recorded: Mapping[Origin, StoredOutcome]
    """The outcomes that were recorded before this batch, by row."""
    reserved: Mapping[UUID, tuple[Origin, StoredOutcome]]
    """The row that created the pin in a lost Postgres, and its outcome, by pin id. The pin's key is
    reserved for that row until the row is processed again."""
    existing: Mapping[UUID, StoredPin]
    """The pins under the batch's pin ids that were stored before the batch, by pin id."""
    stored: Mapping[UUID, StoredPin]
    """The pins under the batch's pin ids that are stored now, by pin id."""
    settled_at: datetime
    """The transaction's time by the database's clock."""

    @property
    def inserted(self) -> int:
        return len(self.stored) - len(self.existing)


def key_and_sort_rows(rows: Iterable[RowAccepted]) -> list[KeyedRow]:
    """Sorts a batch, and computes each row's pin id and time of publication.

    The earliest job comes first, then the lowest row number. Among rows with the same key, the
    first one creates the pin (invariant 7).
    """
    ordered = sorted(rows, key=lambda row: (row.accepted_at, row.job_id.int, row.row_number))
    return [
        KeyedRow(
            row, compute_pin_id(row.workspace_id, row.row.idempotency_key), _scheduled_for(row)
        )
        for row in ordered
    ]


def mark_connected(
    rows: Sequence[KeyedRow], connected: Collection[Destination]
) -> Sequence[KeyedRow]:
    """Marks the rows of connected accounts. Most batches have none and stay as they are."""
    if not connected:
        return rows
    return [
        replace(keyed, is_connected=True) if keyed.destination in connected else keyed
        for keyed in rows
    ]


def _scheduled_for(row: RowAccepted) -> datetime | None:
    """Returns the time to publish the row. None means at once.

    `run_at` counts only if it was in the future when the import was accepted. So a redelivery at a
    later time decides the same.
    """
    run_at = row.row.run_at
    return run_at if run_at is not None and run_at > row.accepted_at else None


def is_key_available(keyed: KeyedRow, recorded: RecordedOutcomes) -> bool:
    """Returns whether a row may create its pin.

    A recorded outcome other than created prevents it, and so does a reservation for another row.
    Only the locking path creates a later generation of a key (keys.py).
    """
    origin = Origin(keyed.row.job_id, keyed.row.row_number)
    if (outcome := recorded.by_row.get(origin)) is not None:
        return outcome.status is RowStatus.CREATED and outcome.promised_generation is None
    return keyed.pin_id not in recorded.reserved


def select_publishable(
    rows: Sequence[KeyedRow], passed: Sequence[KeyedRow], recorded: RecordedOutcomes
) -> Sequence[KeyedRow]:
    """Selects the rows that passed the checks, and the rows that are recorded as created.

    A row that is recorded as created does not fail a later check.
    """
    if not recorded.by_row:
        return passed
    passed_ids = {id(keyed) for keyed in passed}
    return [keyed for keyed in rows if id(keyed) in passed_ids or recorded.is_created(keyed.row)]


def build_snapshot(
    publishable: Iterable[KeyedRow],
    recorded: RecordedOutcomes,
    existing: Mapping[UUID, StoredPin],
    settled_at: datetime,
) -> StoreSnapshot:
    """Builds the snapshot after the batch's insert. `existing` are the pins from before the insert.

    For each other key, the first row that may create its pin was inserted. Its pin is computed from
    the row, because reading the pins back would cost as much as the insert.
    """
    stored = dict(existing)
    for keyed in publishable:
        if keyed.pin_id not in stored and (recorded.is_empty or is_key_available(keyed, recorded)):
            stored[keyed.pin_id] = build_inserted_pin(keyed, settled_at)
    return StoreSnapshot(recorded.by_row, recorded.reserved, existing, stored, settled_at)


def build_inserted_pin(keyed: KeyedRow, settled_at: datetime) -> StoredPin:
    """Builds the pin that a row's insert stores."""
    row, run_at = keyed.row, keyed.scheduled_for
    published_at, delivery = None, None
    if keyed.is_connected:
        state, delivery = _QUEUED if run_at is None else _SCHEDULED, DELIVERY
    elif run_at is None:
        state, published_at = _PUBLISHED, settled_at
    else:
        state = _SCHEDULED
    key = row.row.idempotency_key
    return StoredPin(
        keyed.pin_id,
        row.workspace_id,
        key,
        row.job_id,
        row.row_number,
        row.fingerprint,
        run_at,
        published_at,
        state,
        None,
        delivery,
    )


def collect_destinations(rows: Iterable[KeyedRow]) -> set[Destination]:
    """Collects the distinct destinations of the rows, usually a handful.

    Compares numbers: Python hashes and compares UUIDs slowly.
    """
    distinct = {
        (keyed.row.row.board_id, keyed.row.row.account_id.int, keyed.row.workspace_id.int): keyed
        for keyed in rows
    }
    return {keyed.destination for keyed in distinct.values()}
