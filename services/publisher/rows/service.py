"""Settles batches of rows: publishes rows that pass the checks, and decides every row's outcome.

docs/explanation/architecture.md numbers the invariants.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias
from uuid import UUID

import structlog

from services.publisher.model import Failure, Origin, build_failure
from services.publisher.rows.cancellation import JobCanceled, RecordPosition, find_canceled
from services.publisher.rows.key_snapshot import Decisions, KeyReleased, KeySnapshot, RecordedState
from services.publisher.rows.keys import (
    FindFailure,
    decide_one_by_one,
    may_change_pins,
    needs_locking_path,
    select_candidates,
)
from services.publisher.rows.outcomes import (
    UNPROCESSABLE,
    FailedRow,
    Outcome,
    add_differences,
    decide_all,
    decide_unreadable,
    select_differing,
    select_new_failures,
)
from services.publisher.rows.snapshot import (
    KeyedRow,
    RecordedOutcomes,
    StoredOutcome,
    StoreSnapshot,
    collect_destinations,
    key_and_sort_rows,
    mark_connected,
)
from shared.access.model import BoardResult, Destination, DestinationChecks
from shared.contract.errors import ValueRejected
from shared.contract.event_times import EARLIEST, LATEST
from shared.contract.events import PinContent, RowAccepted
from shared.contract.row_identity import UnreadableRow
from shared.kafka.positions.advance import Advance

log = structlog.get_logger()

FailingBoards: TypeAlias = Mapping[Destination, BoardResult]
"""The destinations that failed their check, and the reason."""
Locate: TypeAlias = Callable[[], Mapping[int, RecordPosition]]
"""Returns where the rows' records stand, by the id of the row's object."""


class SettlementTransaction(Protocol):
    async def publish(
        self, rows: Sequence[KeyedRow], passed: Sequence[KeyedRow]
    ) -> StoreSnapshot: ...

    async def read_recorded(
        self, rows: Sequence[UnreadableRow]
    ) -> Mapping[Origin, StoredOutcome]: ...

    async def record(self, failures: Sequence[FailedRow]) -> None: ...

    async def read_contents(self, pin_ids: Collection[UUID]) -> Mapping[UUID, PinContent]: ...


class DecisionTransaction(Protocol):
    async def read_state(self, rows: Sequence[KeyedRow]) -> RecordedState: ...

    async def lock_keys(
        self, rows: Sequence[KeyedRow], candidates: Sequence[KeyedRow], recorded: RecordedOutcomes
    ) -> KeySnapshot: ...

    async def write(self, decisions: Decisions) -> None: ...


class Store(Protocol):
    def transaction(
        self, advance: Advance, *, moves: bool = False
    ) -> AbstractAsyncContextManager[SettlementTransaction]: ...

    def key_transaction(
        self, advance: Advance, *, moves: bool = False
    ) -> AbstractAsyncContextManager[DecisionTransaction]: ...


class Boards(Protocol):
    async def check(self, destinations: Collection[Destination]) -> DestinationChecks: ...


@dataclass(slots=True)
class Settlement:
    """The outcomes of a batch."""

    outcomes: list[Outcome] = field(default_factory=list)
    rejected: list[tuple[RowAccepted, str]] = field(default_factory=list)
    """Rows with a value that Postgres rejected, and its error message."""

    def add(self, other: "Settlement") -> None:
        self.outcomes += other.outcomes
        self.rejected += other.rejected


class RowService:
    """Settles batches, idempotently.

    After DatabaseUnavailable or PositionBehind the result is unknown. The caller repeats the batch.
    """

    def __init__(self, store: Store, boards: Boards) -> None:
        self._store = store
        self._boards = boards

    async def settle(
        self,
        rows: Sequence[RowAccepted],
        unreadable: Sequence[UnreadableRow] = (),
        *,
        advance: Advance,
        locate: Locate = dict,
    ) -> Settlement:
        """Settles a batch's rows. `locate` is called only if a job of the batch is canceled.

        Every transaction locks the advance's positions, so no two publishers settle one partition
        at the same time. If one transaction is enough for the batch, it also moves them. Rows that
        update or revive pins may need a second one: then the caller moves the positions, so that a
        cancellation between the two fails the rows without an outcome. Only the failure of a hash
        collision may be recorded in a further transaction, without a lock.
        """
        keyed = key_and_sort_rows(rows)
        checks = await self._boards.check(collect_destinations(keyed))
        settlement = Settlement()
        if keyed:
            batch = _Batch(checks.failing, advance, locate)
            moves = not unreadable and not may_change_pins(rows)
            marked = mark_connected(keyed, checks.connected)
            settlement.add(await self._settle(marked, batch, moves=moves))
        if unreadable:
            settlement.outcomes += await self._fail_unreadable(unreadable, advance)
        return settlement

    async def _settle(
        self, rows: Sequence[KeyedRow], batch: "_Batch", *, moves: bool = False
    ) -> Settlement:
        """Settles sorted rows. Halves them until only a row with a rejected value fails."""
        try:
            return Settlement(await self._publish(rows, batch, moves=moves))
        except ValueRejected as error:
            if len(rows) == 1:
                return await self._settle_rejected(rows[0], error, batch)
        middle = len(rows) // 2
        settlement = await self._settle(rows[:middle], batch)
        settlement.add(await self._settle(rows[middle:], batch))
        return settlement

    async def _publish(
        self, rows: Sequence[KeyedRow], batch: "_Batch", *, moves: bool
    ) -> list[Outcome]:
        """Publishes and decides sorted rows. Raises ValueRejected."""
        if rows[0].row.accepted_at < EARLIEST or rows[-1].row.accepted_at >= LATEST:
            raise ValueRejected("accepted_at is out of range")
        try:
            outcomes = await self._publish_new(rows, batch, moves=moves)
        except (JobCanceled, KeyReleased, _NotPublished):
            return await self._publish_on_locking_path(rows, batch, batch.find_failure, moves=moves)
        if outcomes is None:
            # Without `moves`: the first transaction was committed, and has moved the positions
            return await self._publish_on_locking_path(rows, batch, batch.find_failure)
        return outcomes

    async def _publish_new(
        self, rows: Sequence[KeyedRow], batch: "_Batch", *, moves: bool
    ) -> list[Outcome] | None:
        """Publishes and decides rows in one transaction.

        Raises ValueRejected, JobCanceled, KeyReleased. Returns None if the rows must take the
        locking path. The rows of new keys are published nevertheless, if all rows passed their
        checks. Otherwise raises _NotPublished: a row that failed its checks must not meet the pin
        of a later row.
        """
        passed, failing = rows, batch.failing
        if failing:
            passed = [keyed for keyed in rows if keyed.destination not in failing]
        async with self._store.transaction(batch.advance, moves=moves) as transaction:
            snapshot = await transaction.publish(rows, passed)
            outcomes = decide_all(rows, failing, snapshot)
            if snapshot.inserted < len(rows) and needs_locking_path(outcomes, snapshot):
                if len(passed) < len(rows):
                    raise _NotPublished
                return None
            await transaction.record(select_new_failures(outcomes, snapshot.recorded))
            if snapshot.inserted < len(rows):  # otherwise every row has created its pin
                outcomes = await _compare_existing(transaction, outcomes)
        return outcomes

    async def _publish_on_locking_path(
        self,
        rows: Sequence[KeyedRow],
        batch: "_Batch",
        find_failure: FindFailure,
        *,
        moves: bool = False,
    ) -> list[Outcome]:
        """Publishes and decides rows on the locking path, in one transaction.

        Raises ValueRejected.
        """
        async with self._store.key_transaction(batch.advance, moves=moves) as transaction:
            state = await transaction.read_state(rows)
            canceled = set[int]()
            if state.cancellations:
                canceled = find_canceled(rows, batch.locate(), state.cancellations)
            candidates = select_candidates(rows, state.outcomes, canceled, find_failure)
            snapshot = await transaction.lock_keys(rows, candidates, state.outcomes)
            decisions = decide_one_by_one(rows, snapshot, find_failure, canceled)
            await transaction.write(decisions)
        return decisions.outcomes

    async def _settle_rejected(
        self, keyed: KeyedRow, error: ValueRejected, batch: "_Batch"
    ) -> Settlement:
        """Fails a row that can't be stored, unless its key already has a pin.

        Ignores the checks, because otherwise the outcome would change with the row's board
        (invariant 4): a row that fails its checks is never sent to Postgres.
        """
        row = keyed.row
        log.error(
            "row_rejected_by_database",
            job_id=str(row.job_id),
            row_number=row.row_number,
            error=str(error),
        )
        outcomes = await self._publish_on_locking_path([keyed], batch, lambda _: UNPROCESSABLE)
        return Settlement(outcomes, [(row, str(error))])

    async def _fail_unreadable(
        self, rows: Sequence[UnreadableRow], advance: Advance
    ) -> list[Outcome]:
        """Fails rows that can't be read, unless another outcome is recorded for them."""
        async with self._store.transaction(advance) as transaction:
            recorded = await transaction.read_recorded(rows)
            outcomes: list[Outcome] = [decide_unreadable(row, recorded) for row in rows]
            await transaction.record(select_new_failures(outcomes, recorded))
        return outcomes


class _NotPublished(Exception):
    """The rows must take the locking path. Nothing was written."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """Holds the values that all transactions of a batch need."""

    failing: FailingBoards
    advance: Advance
    locate: Locate

    def find_failure(self, keyed: KeyedRow) -> Failure | None:
        """Returns why a row's account or board failed its check, or None."""
        if not self.failing:
            return None
        destination = keyed.destination
        check = self.failing.get(destination)
        return None if check is None else build_failure(check, destination)


async def _compare_existing(
    transaction: SettlementTransaction, outcomes: list[Outcome]
) -> list[Outcome]:
    """Adds the differing fields of existing rows. Reads contents only if a fingerprint differs."""
    if not (pin_ids := select_differing(outcomes)):
        return outcomes
    return add_differences(outcomes, await transaction.read_contents(pin_ids))
