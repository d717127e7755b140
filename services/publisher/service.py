"""What becomes of a row: decided here, from what the store says, without any I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec
from pydantic import Field

from services.publisher.identity import pin_id_of, schedule_id_of
from shared.access.repository import BoardCheck, Destination
from shared.errors import ErrorCode
from shared.events import MAX_ROWS, RowAccepted


class PinState(StrEnum):
    """docs/states.md draws them."""

    SCHEDULED = "scheduled"
    PUBLISHED = "published"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Origin(NamedTuple):
    """The row of the import that a pin came from; (None, None) for one that came by a direct call."""

    job_id: UUID | None
    row_number: int | None


# What there is one of for each row of a usual batch is a struct: a fifth of a NamedTuple's price, and not the collector's to walk


class Stored(msgspec.Struct, frozen=True, gc=False):
    """What the keyed store holds under an id."""

    pin_id: UUID
    workspace_id: UUID
    idempotency_key: str
    origin_job_id: UUID | None
    origin_row: int | None
    fingerprint: UUID
    run_at: datetime | None
    published_at: datetime | None


class Failure(NamedTuple):
    """Why a row failed, as it is recorded and reported for ever."""

    error_code: str
    error_message: str


class Ask(msgspec.Struct, frozen=True, gc=False):
    """One row of a batch, with the id its key computes to."""

    row: RowAccepted
    pin_id: UUID


class Doomed(NamedTuple):
    """A row of which no more than its name can be read: it settles as failed."""

    job_id: UUID
    workspace_id: UUID
    row_number: Annotated[int, Field(ge=1, le=MAX_ROWS)]


@dataclass(frozen=True, slots=True)
class Found:
    """The store's answer to a batch: what was recorded before, what stood under its ids before, what stands there now."""

    failures: Mapping[Origin, Failure]
    standing: Mapping[UUID, Stored]
    stored: Mapping[UUID, Stored]

    @property
    def inserted(self) -> int:
        return len(self.stored) - len(self.standing)


class Created(msgspec.Struct, frozen=True, gc=False):
    """Published, or scheduled, for this row. Announced in the same breath: `stored` has what the event needs."""

    ask: Ask
    stored: Stored


class Existing(msgspec.Struct, frozen=True, gc=False):
    ask: Ask
    stored: Stored


class Failed(NamedTuple):
    """`row` is None for one that can't be read."""

    job_id: UUID
    workspace_id: UUID
    row_number: int
    failure: Failure
    row: RowAccepted | None = None


Outcome = Created | Existing | Failed

UNREADABLE = Failure(ErrorCode.INTERNAL_ERROR, "This row could not be processed; send it again in a new import.")
COLLISION = Failure(ErrorCode.INTERNAL_ERROR, "This idempotency key collides with another; choose a different one.")


def in_order(rows: Iterable[RowAccepted]) -> list[Ask]:
    """The batch in the order in which rows win their keys: earliest job first, then by row number (invariant 7)."""
    ordered = sorted(rows, key=lambda row: (row.accepted_at, row.job_id.int, row.row_number))
    return [Ask(row, pin_id_of(row.workspace_id, row.row.idempotency_key)) for row in ordered]


def scheduled_for(row: RowAccepted) -> datetime | None:
    """When the row is to be published, if that lay in the future when its import was accepted: a clock that moves must not decide it."""
    run_at = row.row.run_at
    return run_at if run_at is not None and run_at > row.accepted_at else None


def found_of(
    publishable: Iterable[Ask], failures: Mapping[Origin, Failure], standing: Mapping[UUID, Stored], settled_at: datetime
) -> Found:
    """What the store holds after the batch. `standing` stood there before; of the rest, the first in order of each key was inserted.

    What was inserted is known from the rows themselves: reading it back costs as much as inserting it.
    """
    stored = dict(standing)
    for ask in publishable:
        if ask.pin_id not in stored and not (failures and Origin(ask.row.job_id, ask.row.row_number) in failures):
            stored[ask.pin_id] = _as_stored(ask, settled_at)
    return Found(failures, standing, stored)


def _as_stored(ask: Ask, settled_at: datetime) -> Stored:
    row, run_at = ask.row, scheduled_for(ask.row)
    published_at = settled_at if run_at is None else None
    key = row.row.idempotency_key
    return Stored(ask.pin_id, row.workspace_id, key, row.job_id, row.row_number, row.fingerprint, run_at, published_at)


def jobs_of(rows: Iterable[RowAccepted | Doomed]) -> dict[int, UUID]:
    """The rows' jobs, by their numbers: UUIDs are hashed and compared in Python."""
    return {row.job_id.int: row.job_id for row in rows}


def destinations_of(rows: Iterable[RowAccepted]) -> set[Destination]:
    """Where they go: a handful, whatever the number of rows. Told apart by numbers: UUIDs are hashed and compared in Python."""
    distinct = {(row.row.board_id, row.row.account_id.int, row.workspace_id.int): row for row in rows}
    return {destination_of(row) for row in distinct.values()}


def destination_of(row: RowAccepted) -> Destination:
    return Destination(row.workspace_id, row.row.account_id, row.row.board_id)


def failure_of(check: BoardCheck, destination: Destination) -> Failure:
    if check is BoardCheck.NO_ACCOUNT:
        return Failure(ErrorCode.ACCOUNT_NOT_FOUND, f"account_id: no account {destination.account_id} in this workspace")
    return Failure(ErrorCode.BOARD_NOT_FOUND, f"board_id: no board {destination.board_id} on this account")


def decide_all(asks: Sequence[Ask], failing: Mapping[Destination, BoardCheck], found: Found) -> list[Outcome]:
    """The outcome of each row, the same under any redelivery and any cut into batches (invariant 4)."""
    if not failing:
        return [decide(ask, found, None, came_first=False) for ask in asks]
    winners = _positions_of_winners(asks, found)
    outcomes: list[Outcome] = []
    for position, ask in enumerate(asks):
        destination = destination_of(ask.row)
        refused = failure_of(check, destination) if (check := failing.get(destination)) else None
        outcomes.append(decide(ask, found, refused, came_first=winners.get(ask.pin_id, -1) < position))
    return outcomes


def decide(ask: Ask, found: Found, refused: Failure | None, *, came_first: bool) -> Outcome:
    """Precedence: a recorded failure, the store, the checks.

    `refused` is what the checks say of the row; `came_first` whether what the store holds under the key was there before
    this row in the order of the batch: a row that may not be published must not look like a repetition of a later one.
    """
    row = ask.row
    if found.failures and (failure := found.failures.get(Origin(row.job_id, row.row_number))):
        return _failed(row, failure)
    stored = found.stored.get(ask.pin_id)
    if stored is None:
        return _failed(row, refused or UNREADABLE)
    if stored.idempotency_key != row.row.idempotency_key or stored.workspace_id != row.workspace_id:
        return _failed(row, COLLISION)
    if stored.origin_row == row.row_number and stored.origin_job_id == row.job_id:
        return Created(ask, stored)
    if refused is not None and not came_first:
        return _failed(row, refused)
    return Existing(ask, stored)


def new_failures(outcomes: Iterable[Outcome], found: Found) -> list[Failed]:
    """Those to be recorded with the batch, so that a redelivery reads them back."""
    return [
        outcome for outcome in outcomes if isinstance(outcome, Failed) and Origin(outcome.job_id, outcome.row_number) not in found.failures
    ]


def result_ids(outcome: Created | Existing) -> tuple[UUID | None, UUID | None]:
    """(pin_id, schedule_id) as the row reports them. Created: the first choice, whatever has happened since; existing: as it stands."""
    stored = outcome.stored
    if stored.run_at is None:
        return stored.pin_id, None
    schedule_id = schedule_id_of(stored.pin_id)
    if isinstance(outcome, Created) or stored.published_at is None:
        return None, schedule_id
    return stored.pin_id, schedule_id


def _positions_of_winners(asks: Sequence[Ask], found: Found) -> dict[UUID, int]:
    """Where in this batch the rows stand that were inserted by it; ids from before are not in it."""
    winners: dict[UUID, int] = {}
    for position, ask in enumerate(asks):
        stored = found.stored.get(ask.pin_id)
        if stored is None or ask.pin_id in found.standing:
            continue
        if stored.origin_row == ask.row.row_number and stored.origin_job_id == ask.row.job_id:
            winners[ask.pin_id] = position
    return winners


def _failed(row: RowAccepted, failure: Failure) -> Failed:
    return Failed(row.job_id, row.workspace_id, row.row_number, failure, row)
