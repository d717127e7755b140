"""What becomes of a row: decided here, from what the store says, without any I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec
from pydantic import Field

from services.publisher.ids import pin_id_of
from services.publisher.model import Failure, Origin, StoredPin, failure_of
from shared.access.model import BoardCheck, Destination
from shared.contract.errors import ErrorCode
from shared.contract.events import MAX_ROWS, RowAccepted, RowStatus
from shared.contract.schedule_ids import schedule_id_of

# What there is one of for each row of a usual batch is a struct: a fifth of a NamedTuple's price,
# and not the collector's to walk


class Recorded(NamedTuple):
    """A row's recorded outcome. Every repetition of the row reports it again (invariant 4)."""

    status: RowStatus
    pin_id: UUID | None = None
    schedule_id: UUID | None = None
    payload_matches: bool | None = None
    failure: Failure | None = None


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
class History:
    """The recorded outcomes of a batch's rows, and of other rows with the same keys."""

    recorded: Mapping[Origin, Recorded]
    promised: Mapping[UUID, tuple[Origin, Recorded]]

    @property
    def is_empty(self) -> bool:
        return not self.recorded and not self.promised

    def is_created(self, row: RowAccepted) -> bool:
        """Tells whether a row is recorded as created. Then no check may refuse it any more."""
        recorded = self.recorded.get(Origin(row.job_id, row.row_number))
        return recorded is not None and recorded.status is RowStatus.CREATED


NO_HISTORY = History({}, {})


@dataclass(frozen=True, slots=True)
class Found:
    """The store's answer to a batch."""

    recorded: Mapping[Origin, Recorded]
    """The outcomes that were recorded before this batch."""
    promised: Mapping[UUID, tuple[Origin, Recorded]]
    """By pin id: the row that created the pin in a lost Postgres, and its outcome. The key belongs
    to that row until it is replayed."""
    standing: Mapping[UUID, StoredPin]
    """The pins that stood under the batch's ids before, by pin id."""
    stored: Mapping[UUID, StoredPin]
    """The pins that stand under them now, by pin id."""

    @property
    def inserted(self) -> int:
        return len(self.stored) - len(self.standing)


class Created(msgspec.Struct, frozen=True, gc=False):
    """Published, or scheduled, for this row.

    Announced in the same breath: `stored` has what the event needs.
    """

    ask: Ask
    stored: StoredPin


class Existing(msgspec.Struct, frozen=True, gc=False):
    ask: Ask
    stored: StoredPin


class Failed(NamedTuple):
    """`row` is None for one that can't be read."""

    job_id: UUID
    workspace_id: UUID
    row_number: int
    failure: Failure
    row: RowAccepted | None = None


class Replayed(NamedTuple):
    """A row that reports its recorded outcome. It announces no event."""

    job_id: UUID
    workspace_id: UUID
    row_number: int
    idempotency_key: str | None
    recorded: Recorded


Outcome = Created | Existing | Failed | Replayed

UNREADABLE = Failure(
    ErrorCode.INTERNAL_ERROR, "This row could not be processed; send it again in a new import."
)
COLLISION = Failure(
    ErrorCode.INTERNAL_ERROR, "This idempotency key collides with another; choose a different one."
)


def in_order(rows: Iterable[RowAccepted]) -> list[Ask]:
    """The batch in the order in which rows win their keys: earliest job first, then by row number
    (invariant 7).
    """
    ordered = sorted(rows, key=lambda row: (row.accepted_at, row.job_id.int, row.row_number))
    return [Ask(row, pin_id_of(row.workspace_id, row.row.idempotency_key)) for row in ordered]


def scheduled_for(row: RowAccepted) -> datetime | None:
    """When the row is to be published, if that lay in the future when its import was accepted: a
    clock that moves must not decide it.
    """
    run_at = row.row.run_at
    return run_at if run_at is not None and run_at > row.accepted_at else None


def is_published(ask: Ask, history: History) -> bool:
    """Tells whether a row may publish: no recorded outcome and no promise takes its key."""
    origin = Origin(ask.row.job_id, ask.row.row_number)
    if (recorded := history.recorded.get(origin)) is not None:
        return recorded.status is RowStatus.CREATED
    return ask.pin_id not in history.promised


def found_of(
    publishable: Iterable[Ask],
    history: History,
    standing: Mapping[UUID, StoredPin],
    settled_at: datetime,
) -> Found:
    """What the store holds after the batch. `standing` stood there before; of the rest, the first
    in order of each key was inserted.

    What was inserted is known from the rows themselves: reading it back costs as much as inserting
    it.
    """
    stored = dict(standing)
    for ask in publishable:
        if ask.pin_id not in stored and (history.is_empty or is_published(ask, history)):
            stored[ask.pin_id] = _as_stored(ask, settled_at)
    return Found(history.recorded, history.promised, standing, stored)


def _as_stored(ask: Ask, settled_at: datetime) -> StoredPin:
    row, run_at = ask.row, scheduled_for(ask.row)
    published_at = settled_at if run_at is None else None
    key = row.row.idempotency_key
    return StoredPin(
        ask.pin_id,
        row.workspace_id,
        key,
        row.job_id,
        row.row_number,
        row.fingerprint,
        run_at,
        published_at,
    )


def jobs_of(rows: Iterable[RowAccepted | Doomed]) -> dict[int, UUID]:
    """The rows' jobs, by their numbers: UUIDs are hashed and compared in Python."""
    return {row.job_id.int: row.job_id for row in rows}


def destinations_of(rows: Iterable[RowAccepted]) -> set[Destination]:
    """Where they go: a handful, whatever the number of rows.

    Told apart by numbers: UUIDs are hashed and compared in Python.
    """
    distinct = {
        (row.row.board_id, row.row.account_id.int, row.workspace_id.int): row for row in rows
    }
    return {destination_of(row) for row in distinct.values()}


def destination_of(row: RowAccepted) -> Destination:
    return Destination(row.workspace_id, row.row.account_id, row.row.board_id)


def decide_all(
    asks: Sequence[Ask], failing: Mapping[Destination, BoardCheck], found: Found
) -> list[Outcome]:
    """The outcome of each row, the same under any redelivery and any cut into batches (invariant
    4).
    """
    if not failing:
        return [decide(ask, found, None, came_first=False) for ask in asks]
    winners = _positions_of_winners(asks, found)
    outcomes: list[Outcome] = []
    for position, ask in enumerate(asks):
        destination = destination_of(ask.row)
        refused = failure_of(check, destination) if (check := failing.get(destination)) else None
        outcomes.append(
            decide(ask, found, refused, came_first=winners.get(ask.pin_id, -1) < position)
        )
    return outcomes


def decide(ask: Ask, found: Found, refused: Failure | None, *, came_first: bool) -> Outcome:
    """Decides a row. Precedence: its recorded outcome, the store, a promise, the checks.

    `refused` is what the checks say of the row; `came_first` whether what the store holds under the
    key was there before this row in the order of the batch: a row that may not be published must
    not look like a repetition of a later one.
    """
    row = ask.row
    stored = found.stored.get(ask.pin_id)
    if found.recorded and (recorded := found.recorded.get(Origin(row.job_id, row.row_number))):
        return _as_recorded(ask, recorded, stored)
    if stored is None:
        return _without_pin(ask, found, refused)
    if stored.idempotency_key != row.row.idempotency_key or stored.workspace_id != row.workspace_id:
        return _failed(row, COLLISION)
    if _is_origin(row, stored):
        return Created(ask, stored)
    if refused is not None and not came_first:
        return _failed(row, refused)
    return Existing(ask, stored)


def _without_pin(ask: Ask, found: Found, refused: Failure | None) -> Failed | Replayed:
    if promise := found.promised.get(ask.pin_id):
        _, creator = promise
        return _replayed(ask.row, creator._replace(status=RowStatus.EXISTING, payload_matches=None))
    return _failed(ask.row, refused or UNREADABLE)


def _as_recorded(ask: Ask, recorded: Recorded, stored: StoredPin | None) -> Outcome:
    if recorded.failure is not None:
        return _failed(ask.row, recorded.failure)
    if recorded.status is RowStatus.CREATED and stored is not None and _is_origin(ask.row, stored):
        return Created(ask, stored)
    return _replayed(ask.row, recorded)


def _replayed(row: RowAccepted, recorded: Recorded) -> Replayed:
    return Replayed(row.job_id, row.workspace_id, row.row_number, row.row.idempotency_key, recorded)


def _is_origin(row: RowAccepted, stored: StoredPin) -> bool:
    return stored.origin_row == row.row_number and stored.origin_job_id == row.job_id


def give_up(row: Doomed, found: Found) -> Failed | Replayed:
    """Decides an unreadable row: it fails, unless another outcome is recorded."""
    recorded = found.recorded.get(Origin(row.job_id, row.row_number))
    if recorded is None:
        return Failed(*row, UNREADABLE)
    if recorded.failure is not None:
        return Failed(*row, recorded.failure)
    return Replayed(*row, None, recorded)


def new_failures(outcomes: Iterable[Outcome], found: Found) -> list[Failed]:
    """Returns the failures to record with the batch, so that a redelivery reads them back."""
    return [
        outcome
        for outcome in outcomes
        if isinstance(outcome, Failed)
        and Origin(outcome.job_id, outcome.row_number) not in found.recorded
    ]


def result_ids(outcome: Created | Existing) -> tuple[UUID | None, UUID | None]:
    """(pin_id, schedule_id) as the row reports them.

    Created: the first choice, whatever has happened since; existing: as it stands.
    """
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
        if _is_origin(ask.row, stored):
            winners[ask.pin_id] = position
    return winners


def _failed(row: RowAccepted, failure: Failure) -> Failed:
    return Failed(row.job_id, row.workspace_id, row.row_number, failure, row)
