"""Decides the outcome of each row from a snapshot of the store. Does no I/O.

docs/explanation/architecture.md numbers the invariants.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from services.publisher.existing_pins import find_differences, find_existing_state
from services.publisher.model import Failure, Origin, PinState, StoredPin, build_failure
from services.publisher.rows.snapshot import KeyedRow, StoredOutcome, StoreSnapshot
from shared.access.model import BoardResult, Destination
from shared.contract.errors import ErrorCode
from shared.contract.events import (
    ExistingState,
    FieldDifference,
    PinContent,
    RowAccepted,
    RowStatus,
)
from shared.contract.row_identity import UnreadableRow
from shared.contract.schedule_ids import derive_schedule_id

# Structs, as in snapshot.py: a batch has one for each row


class CreatedRow(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a row that created its pin: published, scheduled or queued for Pinterest.

    The pin's event is sent with the outcome and built from `stored`.
    """

    keyed: KeyedRow
    stored: StoredPin


class ExistingRow(msgspec.Struct, frozen=True, gc=False):
    """The outcome of a row whose key already had a pin from another row or call."""

    keyed: KeyedRow
    stored: StoredPin
    state: ExistingState
    differing_fields: list[FieldDifference] | None = None
    """The differences from the pin, after `add_differences`. None if the payload matches."""
    updated: bool = False
    """True if the pin took the row's content."""

    @property
    def payload_matches(self) -> bool:
        return self.stored.fingerprint == self.keyed.row.fingerprint


class FailedRow(NamedTuple):
    """The outcome of a row that failed. `row` is None for an unreadable row."""

    job_id: UUID
    workspace_id: UUID
    row_number: int
    failure: Failure
    row: RowAccepted | None = None


class RecordedRow(NamedTuple):
    """The outcome of a row as it was recorded before. No pin event is sent with it."""

    job_id: UUID
    workspace_id: UUID
    row_number: int
    idempotency_key: str | None
    line: int | None
    recorded: StoredOutcome


Outcome = CreatedRow | ExistingRow | FailedRow | RecordedRow

UNPROCESSABLE = Failure(
    ErrorCode.INTERNAL_ERROR, "This row could not be processed. Send it again in a new import."
)
"""The failure of a row that can't be read, or that Postgres can't store."""
CANCELED = Failure(
    ErrorCode.CANCELED,
    "The import was canceled before this row was settled. Nothing was published for it. To import "
    "its failed rows again, retry the import.",
)
COLLISION = Failure(
    ErrorCode.INTERNAL_ERROR,
    "This idempotency key has the same hash as another key. Use a different key.",
)


def decide_all(
    rows: Sequence[KeyedRow], failing: Mapping[Destination, BoardResult], snapshot: StoreSnapshot
) -> list[Outcome]:
    """Decides every row. `failing` are the destinations that failed their check.

    A redelivery in different batches gives the same outcomes (invariant 4).
    """
    if not failing:
        return [decide(keyed, snapshot, None, existed_before=False) for keyed in rows]
    winners = _find_winners(rows, snapshot)
    outcomes: list[Outcome] = []
    for index, keyed in enumerate(rows):
        destination = keyed.destination
        check_failure = (
            build_failure(check, destination) if (check := failing.get(destination)) else None
        )
        existed_before = winners.get(keyed.pin_id, -1) < index
        outcomes.append(decide(keyed, snapshot, check_failure, existed_before=existed_before))
    return outcomes


def decide(
    keyed: KeyedRow, snapshot: StoreSnapshot, check_failure: Failure | None, *, existed_before: bool
) -> Outcome:
    """Decides a row. Precedence: its recorded outcome, the stored pin, a reservation, the checks.

    `check_failure` is the reason if account or board failed its check. `existed_before` is true if
    the pin existed before this row in the batch's order: only then is a row that failed its checks
    existing. If a later row of the batch created the pin, this row fails.
    """
    row = keyed.row
    stored = snapshot.stored.get(keyed.pin_id)
    if snapshot.recorded:
        recorded = snapshot.recorded.get(Origin(row.job_id, row.row_number))
        if recorded is not None:
            return _repeat_recorded(keyed, recorded, stored)
    if stored is None:
        return _decide_without_pin(keyed, snapshot, check_failure)
    if not _has_key(stored, row):
        return build_failed(row, COLLISION)
    if is_origin(row, stored):
        return CreatedRow(keyed, stored)
    if check_failure is not None and not existed_before:
        return build_failed(row, check_failure)
    return ExistingRow(keyed, stored, find_state(stored, snapshot.settled_at))


def find_state(stored: StoredPin, time: datetime) -> ExistingState:
    """Returns the state of a pin at a time."""
    is_due = stored.run_at is not None and stored.run_at <= time
    is_deleted = stored.deleted_at is not None
    return find_existing_state(stored.state, is_deleted=is_deleted, is_due=is_due)


def _decide_without_pin(
    keyed: KeyedRow, snapshot: StoreSnapshot, check_failure: Failure | None
) -> FailedRow | RecordedRow:
    if reservation := snapshot.reserved.get(keyed.pin_id):
        _, creator = reservation
        return build_reserved(keyed, creator)
    return build_failed(keyed.row, check_failure or UNPROCESSABLE)


def build_reserved(keyed: KeyedRow, creator: StoredOutcome) -> RecordedRow:
    """Builds the outcome of a row whose key is reserved. `creator` is its creator's outcome."""
    # The content of the lost pin is unknown, and so is what became of it later
    if creator.pin_id is None:
        state = ExistingState.SCHEDULED
    else:
        state = ExistingState.QUEUED if keyed.is_connected else ExistingState.PUBLISHED
    existing = StoredOutcome(
        RowStatus.EXISTING, creator.pin_id, creator.schedule_id, existing_state=state
    )
    return build_recorded(keyed.row, existing)


def _repeat_recorded(keyed: KeyedRow, recorded: StoredOutcome, stored: StoredPin | None) -> Outcome:
    if recorded.failure is not None:
        return build_failed(keyed.row, recorded.failure)
    is_created = recorded.status is RowStatus.CREATED
    if is_created and stored is not None and is_origin(keyed.row, stored):
        return CreatedRow(keyed, stored)
    return build_recorded(keyed.row, recorded)


def build_recorded(row: RowAccepted, recorded: StoredOutcome) -> RecordedRow:
    """Builds the repetition of a recorded outcome."""
    return RecordedRow(
        row.job_id, row.workspace_id, row.row_number, row.row.idempotency_key, row.line, recorded
    )


# A pin of the same batch has the row's own ids. So identity is tried first: Python compares two
# UUIDs slowly


def _has_key(stored: StoredPin, row: RowAccepted) -> bool:
    """Returns whether a pin has a row's key, and not another one with the same hash."""
    return stored.idempotency_key == row.row.idempotency_key and (
        stored.workspace_id is row.workspace_id or stored.workspace_id == row.workspace_id
    )


def is_origin(row: RowAccepted, stored: StoredPin) -> bool:
    """Returns whether a row created a pin."""
    job_id = stored.origin_job_id
    return stored.origin_row == row.row_number and (job_id is row.job_id or job_id == row.job_id)


def decide_unreadable(
    row: UnreadableRow, recorded: Mapping[Origin, StoredOutcome]
) -> FailedRow | RecordedRow:
    """Fails an unreadable row, unless another outcome is recorded."""
    outcome = recorded.get(Origin(row.job_id, row.row_number))
    if outcome is None:
        return FailedRow(*row, UNPROCESSABLE)
    if outcome.failure is not None:
        return FailedRow(*row, outcome.failure)
    return RecordedRow(*row, None, None, outcome)


def select_differing(outcomes: Iterable[Outcome]) -> set[UUID]:
    """Returns the ids of the pins whose content is needed for `add_differences`."""
    return {
        outcome.stored.pin_id
        for outcome in outcomes
        if isinstance(outcome, ExistingRow) and not outcome.payload_matches
    }


def add_differences(
    outcomes: Iterable[Outcome], contents: Mapping[UUID, PinContent]
) -> list[Outcome]:
    """Adds to existing rows how they differ from their pins. `contents` are by pin id."""
    return [
        outcome
        if not isinstance(outcome, ExistingRow) or outcome.payload_matches
        else _add_difference(outcome, contents[outcome.stored.pin_id])
        for outcome in outcomes
    ]


def _add_difference(outcome: ExistingRow, content: PinContent) -> ExistingRow:
    differences = find_differences(content, outcome.stored.fingerprint, outcome.keyed.row.row)
    return ExistingRow(outcome.keyed, outcome.stored, outcome.state, differences)


def select_new_failures(
    outcomes: Iterable[Outcome], recorded: Mapping[Origin, StoredOutcome]
) -> list[FailedRow]:
    """Returns the failures to record with the batch, so that a redelivery reads them back."""
    return [
        outcome
        for outcome in outcomes
        if isinstance(outcome, FailedRow)
        and Origin(outcome.job_id, outcome.row_number) not in recorded
    ]


def find_result_ids(outcome: CreatedRow | ExistingRow) -> tuple[UUID | None, UUID | None]:
    """Returns the pin_id and schedule_id that the row reports.

    A created row always reports the same ids, even if an update has given a queued pin a time. An
    existing row reports the ids of the pin's current state.
    """
    stored = outcome.stored
    if isinstance(outcome, CreatedRow):
        if outcome.keyed.scheduled_for is None:
            return stored.pin_id, None
        return None, derive_schedule_id(stored.pin_id)
    if stored.run_at is None:
        return stored.pin_id, None
    schedule_id = derive_schedule_id(stored.pin_id)
    return (stored.pin_id if _is_visible_pin(stored) else None), schedule_id


def _is_visible_pin(stored: StoredPin) -> bool:
    """Returns whether a schedule has become a pin: it was published, or queued for Pinterest."""
    if stored.delivery is None:
        return stored.published_at is not None
    return stored.state not in (PinState.SCHEDULED, PinState.CANCELED)


def _find_winners(rows: Sequence[KeyedRow], snapshot: StoreSnapshot) -> dict[UUID, int]:
    """Finds the index in the batch of the row that created a pin in this batch, by pin id."""
    winners: dict[UUID, int] = {}
    for index, keyed in enumerate(rows):
        stored = snapshot.stored.get(keyed.pin_id)
        if stored is None or keyed.pin_id in snapshot.existing:
            continue
        if is_origin(keyed.row, stored):
            winners[keyed.pin_id] = index
    return winners


def build_failed(row: RowAccepted, failure: Failure) -> FailedRow:
    """Builds the outcome of a readable row that failed."""
    return FailedRow(row.job_id, row.workspace_id, row.row_number, failure, row)
