"""Decides rows one after the other under locks on their keys (the locking path). Does no I/O.

The usual path is outcomes.py. It is not enough if a key was released, a row updates or revives its
key's pin, or a job was canceled. Then the service locks the keys and decides here, and the
repository writes the decisions. A dry run decides here too, without locks.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias
from uuid import UUID

from msgspec.structs import replace

from services.publisher.existing_pins import find_differences
from services.publisher.ids import compute_generation_id
from services.publisher.key_state import TakenKey
from services.publisher.model import Failure, Origin, PinState, StoredPin
from services.publisher.rows.key_snapshot import Decisions, HeldPin, Key, KeySnapshot, PinUpdate
from services.publisher.rows.outcomes import (
    CANCELED,
    COLLISION,
    UNPROCESSABLE,
    CreatedRow,
    ExistingRow,
    FailedRow,
    Outcome,
    build_failed,
    build_recorded,
    build_reserved,
    find_state,
    is_origin,
)
from services.publisher.rows.snapshot import (
    KeyedRow,
    RecordedOutcomes,
    StoredOutcome,
    StoreSnapshot,
    build_inserted_pin,
)
from shared.contract.events import OnExisting, RowAccepted, RowStatus
from shared.contract.schedule_ids import derive_pin_id

FindFailure: TypeAlias = Callable[[KeyedRow], Failure | None]
"""Returns why a row can't be published, or None."""
NO_ROWS: frozenset[int] = frozenset()


def may_change_pins(rows: Iterable[RowAccepted]) -> bool:
    """Returns whether rows update or revive the pins that already have their keys."""
    return any(row.on_existing is not OnExisting.REPORT for row in rows)


def needs_locking_path(outcomes: Iterable[Outcome], snapshot: StoreSnapshot) -> bool:
    """Returns whether a batch without released keys must take the locking path."""
    return any(map(_changes_pins, snapshot.recorded.values())) or any(
        isinstance(outcome, ExistingRow) and outcome.keyed.row.on_existing is not OnExisting.REPORT
        for outcome in outcomes
    )


def _changes_pins(recorded: StoredOutcome) -> bool:
    """Returns whether a restored Postgres may lack what the row changed."""
    return recorded.promised_generation is not None or recorded.updated is True


def select_candidates(
    rows: Iterable[KeyedRow],
    recorded: RecordedOutcomes,
    canceled: set[int],
    find_failure: FindFailure,
) -> list[KeyedRow]:
    """Selects the rows to insert if their keys were never used, or to restore."""
    candidates = []
    for keyed in rows:
        failure = find_failure(keyed)
        if recorded.is_created(keyed.row):
            is_candidate = failure is not UNPROCESSABLE
        else:
            is_candidate = failure is None and id(keyed.row) not in canceled
        if is_candidate:
            candidates.append(keyed)
    return candidates


def decide_one_by_one(
    rows: Iterable[KeyedRow],
    snapshot: KeySnapshot,
    find_failure: FindFailure,
    canceled: set[int] | frozenset[int] = NO_ROWS,
) -> Decisions:
    """Decides sorted rows one after the other, each from what the earlier ones have changed."""
    decider = _KeyDecider(snapshot)
    decided: dict[Origin, Outcome] = {}
    for keyed in rows:
        origin = Origin(keyed.row.job_id, keyed.row.row_number)
        if origin not in decided:
            is_canceled = id(keyed.row) in canceled
            decided[origin] = decider.decide(keyed, find_failure(keyed), is_canceled=is_canceled)
        decider.decisions.outcomes.append(decided[origin])
    return decider.decisions


class _KeyDecider:
    def __init__(self, snapshot: KeySnapshot) -> None:
        self._snapshot = snapshot
        self._keys = dict(snapshot.keys)
        self.decisions = Decisions()

    def decide(self, keyed: KeyedRow, failure: Failure | None, *, is_canceled: bool) -> Outcome:
        """Decides a row. `failure` is why it can't be published, or None.

        Precedence: its recorded outcome, its own pin, a cancellation, a reservation of its key, the
        key's pin, the failure.
        """
        row, key = keyed.row, self._keys.get(keyed.pin_id)
        recorded = self._snapshot.outcomes.by_row.get(Origin(row.job_id, row.row_number))
        if recorded is not None:
            return self._repeat(keyed, recorded, key, failure)
        if key is not None and is_origin(row, key.pin.stored):
            return CreatedRow(keyed, key.pin.stored)
        if is_canceled:
            return self._fail(row, CANCELED)
        return self._decide_new(keyed, key, failure)

    def _decide_new(self, keyed: KeyedRow, key: Key | None, failure: Failure | None) -> Outcome:
        if (creator := self._find_reservation(keyed, key)) is not None:
            return build_reserved(keyed, creator)
        if key is not None:
            return self._decide_used_key(keyed, key, failure)
        return self._fail(keyed.row, failure) if failure else self._create(keyed, 0)

    def _decide_used_key(self, keyed: KeyedRow, key: Key, failure: Failure | None) -> Outcome:
        row, stored = keyed.row, key.pin.stored
        owner = (stored.workspace_id, stored.idempotency_key)
        if owner != (row.workspace_id, row.row.idempotency_key):
            return self._fail(row, COLLISION)
        if key.is_free:
            if key.released_at is None or row.accepted_at <= key.released_at:
                return self._report(keyed, key)
            return self._fail(row, failure) if failure else self._start_generation(keyed, key)
        if row.on_existing is OnExisting.REVIVE and _can_revive(row, key.pin):
            return self._fail(row, failure) if failure else self._start_generation(keyed, key)
        if row.on_existing is OnExisting.UPDATE and _can_update(row, key.pin):
            return self._fail(row, failure) if failure else self._report_update(keyed, key)
        return self._report(keyed, key)

    def _repeat(
        self,
        keyed: KeyedRow,
        recorded: StoredOutcome,
        key: Key | None,
        failure: Failure | None,
    ) -> Outcome:
        """Repeats a recorded outcome. Restores what a lost Postgres had for it."""
        if recorded.failure is not None:
            return build_failed(keyed.row, recorded.failure)
        if failure is UNPROCESSABLE:  # it can't be stored, so it can't be restored
            return build_recorded(keyed.row, recorded)
        if recorded.status is RowStatus.CREATED:
            return self._repeat_created(keyed, recorded, key)
        is_holder = key is not None and _holds_key(key, recorded)
        # A usual redelivery can't update again: the update has set the pin's content_as_of
        if key is not None and is_holder and recorded.updated and _can_update(keyed.row, key.pin):
            self._update(keyed, key)
        return build_recorded(keyed.row, recorded)

    def _repeat_created(self, keyed: KeyedRow, recorded: StoredOutcome, key: Key | None) -> Outcome:
        generation = recorded.promised_generation or 0
        if key is None and not generation:
            return self._create(keyed, 0)
        if generation and key is None:
            raise AssertionError("A row that restores a later generation has no tombstone.")
        if generation and key is not None and key.generation < generation:
            # A later generation proves that the earlier pin was released
            if not key.is_free:
                self.decisions.released.append((keyed.pin_id, key.pin.stored.pin_id))
            return self._create(keyed, generation)
        pins = [key.pin] if key is not None else []
        if (pin := self._snapshot.created.get(_find_pin_id(recorded))) is not None:
            pins.append(pin)
        for stored in (pin.stored for pin in pins):
            if is_origin(keyed.row, stored):
                return CreatedRow(keyed, stored)
        return build_recorded(keyed.row, recorded)

    def _find_reservation(self, keyed: KeyedRow, key: Key | None) -> StoredOutcome | None:
        """Returns the outcome of the row that must restore the key's pin first, if there is one."""
        if (reservation := self._snapshot.outcomes.reserved.get(keyed.pin_id)) is None:
            return None
        _, creator = reservation
        is_restored = key is not None and key.generation >= (creator.promised_generation or 0)
        return None if is_restored else creator

    def _start_generation(self, keyed: KeyedRow, key: Key) -> CreatedRow:
        if not key.is_free:
            self.decisions.released.append((keyed.pin_id, key.pin.stored.pin_id))
        return self._create(keyed, key.generation + 1)

    def _create(self, keyed: KeyedRow, generation: int) -> CreatedRow:
        row, first_pin_id = keyed.row, keyed.pin_id
        released_at = None
        if generation:
            key = row.row.idempotency_key
            pin_id = compute_generation_id(row.workspace_id, key, generation)
            keyed = replace(keyed, pin_id=pin_id)
            self.decisions.generations.append((keyed, generation))
            self.decisions.taken[first_pin_id] = TakenKey(first_pin_id, pin_id, generation)
            released_at = self._snapshot.settled_at
        else:
            self.decisions.inserted.add(first_pin_id)
        stored = build_inserted_pin(keyed, self._snapshot.settled_at)
        pin = HeldPin(stored, replace(row.row, run_at=keyed.scheduled_for), row.accepted_at)
        self._keys[first_pin_id] = Key(generation, pin, released_at, is_free=False)
        return CreatedRow(keyed, stored)

    def _report_update(self, keyed: KeyedRow, key: Key) -> ExistingRow:
        stored = self._update(keyed, key)
        state = find_state(stored, self._snapshot.settled_at)
        return self._record(ExistingRow(keyed, stored, state, updated=True))

    def _update(self, keyed: KeyedRow, key: Key) -> StoredPin:
        """Gives the key's pin the row's content. Without a time in the future it is due at once.

        A schedule stays one then: its creator's row keeps reporting its schedule_id.
        """
        row, before = keyed.row, key.pin.stored
        is_delivered = before.delivery is not None
        run_at = keyed.scheduled_for
        if run_at is None and (before.run_at is not None or not is_delivered):
            run_at = min(row.accepted_at, self._snapshot.settled_at)
        is_queued = is_delivered and keyed.scheduled_for is None
        state = PinState.QUEUED.value if is_queued else PinState.SCHEDULED.value
        stored = replace(before, fingerprint=row.fingerprint, run_at=run_at, state=state)
        is_moved = before.run_at != run_at and not is_queued
        is_announced = is_moved or before.state != state
        becomes_schedule = before.run_at is None and run_at is not None
        if (earlier := self.decisions.updates.get(before.pin_id)) is not None:
            is_announced = is_announced or earlier.is_announced
            becomes_schedule = becomes_schedule or earlier.becomes_schedule
        self.decisions.updates[before.pin_id] = PinUpdate(
            replace(keyed, pin_id=before.pin_id, scheduled_for=run_at),
            stored,
            is_announced,
            becomes_schedule,
        )
        pin = HeldPin(stored, replace(row.row, run_at=run_at), row.accepted_at)
        self._keys[keyed.pin_id] = key._replace(pin=pin)
        return stored

    def _report(self, keyed: KeyedRow, key: Key) -> ExistingRow:
        """Reports the key's pin. Records it if a redelivery could decide otherwise."""
        row, stored = keyed.row, key.pin.stored
        state = find_state(stored, self._snapshot.settled_at)
        differences = None
        if stored.fingerprint != row.fingerprint:
            differences = find_differences(key.pin.content, stored.fingerprint, row.row)
        outcome = ExistingRow(keyed, stored, state, differences)
        if key.released_at is not None or row.on_existing is not OnExisting.REPORT:
            self._record(outcome)
        return outcome

    def _fail(self, row: RowAccepted, failure: Failure) -> FailedRow:
        failed = build_failed(row, failure)
        self.decisions.recorded.append(failed)
        return failed

    def _record(self, outcome: ExistingRow) -> ExistingRow:
        self.decisions.recorded.append(outcome)
        return outcome


def _can_update(row: RowAccepted, pin: HeldPin) -> bool:
    """Returns whether the row may change the pin.

    A pin of another account stays as it is: the import's API key may not be allowed to use it.
    """
    is_newer = row.accepted_at > pin.content_as_of
    return pin.is_waiting and is_newer and pin.content.account_id == row.row.account_id


def _can_revive(row: RowAccepted, pin: HeldPin) -> bool:
    """Returns whether the row may publish its key anew.

    It may not if a person deleted or canceled the pin after the import was accepted, or if the pin
    may still be on Pinterest, where it would be twice. A pin of another account keeps its key: the
    import's API key may not be allowed to use that account.
    """
    if row.accepted_at <= pin.content_as_of or pin.may_be_on_pinterest:
        return False
    is_gone = pin.stored.deleted_at is not None or pin.stored.state == PinState.CANCELED
    return is_gone and pin.content.account_id == row.row.account_id


def _holds_key(key: Key, recorded: StoredOutcome) -> bool:
    """Returns whether the pin of a recorded outcome still has the key."""
    return not key.is_free and key.pin.stored.pin_id == _find_pin_id(recorded)


def _find_pin_id(recorded: StoredOutcome) -> UUID:
    pin_id = recorded.pin_id or (recorded.schedule_id and derive_pin_id(recorded.schedule_id))
    if pin_id is None:
        raise AssertionError("Only a failed row has no pin.")
    return pin_id


def collect_recorded_pins(outcomes: RecordedOutcomes) -> set[UUID]:
    """Collects the pins of rows that are recorded as created."""
    return {
        _find_pin_id(outcome)
        for outcome in outcomes.by_row.values()
        if outcome.status is RowStatus.CREATED
    }


def select_restored(rows: Sequence[KeyedRow], outcomes: RecordedOutcomes) -> list[KeyedRow]:
    """Selects the rows that must restore a later generation of their key."""
    return [
        keyed
        for keyed in rows
        if (recorded := outcomes.by_row.get(Origin(keyed.row.job_id, keyed.row.row_number)))
        and recorded.promised_generation is not None
    ]
