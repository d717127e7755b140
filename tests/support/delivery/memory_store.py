"""Stores pins and attempts in memory, for tests that decide on the time of each step.

tests/integration/publisher/delivery holds it against the real store: the same scenarios run on
both.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID, uuid4

from services.publisher.delivery.attempts.compared import digest
from services.publisher.delivery.confirming.confirmer import AdoptedElsewhere, StartedLook
from services.publisher.delivery.confirming.matching import SLACK
from services.publisher.delivery.model import (
    AccountLease,
    AttemptOutcome,
    ComparedTexts,
    DeliveryAttempt,
)
from services.publisher.model import Failure, PinState

MODE = "simulated"
SENDABLE = (PinState.PUBLISHING, PinState.CONFIRMING, PinState.QUEUED)
UNKNOWN = (None, AttemptOutcome.ABSENT, AttemptOutcome.UNCONFIRMED, AttemptOutcome.FOUND)


@dataclass(slots=True)
class PinRow:
    """A row of publisher.pins."""

    pin_id: UUID
    account_id: UUID
    board_id: str
    texts: ComparedTexts
    state: PinState = PinState.QUEUED
    pinterest_pin_id: str | None = None
    error_code: str | None = None
    events: list[str] = field(default_factory=list)


@dataclass(slots=True)
class AttemptRow:
    """A row of publisher.delivery_attempts."""

    attempt: DeliveryAttempt
    outcome: AttemptOutcome | None = None
    pinterest_pin_id: str | None = None
    looks: int = 0
    next_look_at: datetime | None = None
    absent_at: datetime | None = None

    @property
    def due_at(self) -> datetime:
        return max(self.next_look_at or self.attempt.deadline_at, self.attempt.deadline_at)


@dataclass
class Tables:
    pins: dict[UUID, PinRow] = field(default_factory=dict)
    attempts: dict[UUID, AttemptRow] = field(default_factory=dict)
    leases: dict[UUID, AccountLease] = field(default_factory=dict)


class MemoryStore:
    """Does what the repositories of the delivery do, with a clock that only the test moves."""

    def __init__(self) -> None:
        self.time = datetime(2026, 9, 1, 12, 0, 0, 300_000, tzinfo=UTC)
        self.tables = Tables()
        self.workspace_id = uuid4()
        self._ids = count(1)

    def new_id(self) -> UUID:
        """Returns an id that is the same in every run, as hypothesis needs it."""
        return UUID(int=next(self._ids))

    def now(self) -> datetime:
        return self.time

    async def refresh_time(self) -> None:
        """Does nothing: the time is what the test made it."""

    async def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)

    # Backups

    def copy(self) -> Tables:
        return deepcopy(self.tables)

    def restore(self, tables: Tables) -> None:
        self.tables = deepcopy(tables)

    # Pins and attempts

    async def add_pin(
        self, pin_id: UUID, account_id: UUID, board: str, texts: ComparedTexts
    ) -> None:
        self.tables.pins[pin_id] = PinRow(pin_id, account_id, board, texts)

    async def read_pin(self, pin_id: UUID) -> PinRow:
        return self.tables.pins[pin_id]

    async def read_outcomes(self, pin_id: UUID) -> list[AttemptOutcome | None]:
        """Returns the outcomes of the pin's attempts, in order."""
        rows = [row for row in self.tables.attempts.values() if row.attempt.pin_id == pin_id]
        return [row.outcome for row in sorted(rows, key=lambda row: row.attempt.number)]

    async def lease(self, account_id: UUID, seconds: float) -> AccountLease | None:
        """Leases an account. None while another has the lease."""
        before = self.tables.leases.get(account_id)
        if before is not None and before.until > self.time:
            return None
        fence = 1 if before is None else before.fence + 1
        until = self.time + timedelta(seconds=seconds)
        lease = AccountLease(account_id, self.workspace_id, fence, until)
        self.tables.leases[account_id] = lease
        return lease

    def has_fence(self, lease: AccountLease) -> bool:
        """Returns whether nobody has leased the account since."""
        current = self.tables.leases.get(lease.account_id)
        return current is not None and current.fence == lease.fence

    def extend(self, lease: AccountLease, seconds: float) -> AccountLease | None:
        """Extends a lease, also an expired one, unless another process has the account."""
        if not self.has_fence(lease):
            return None
        extended = replace(lease, until=self.time + timedelta(seconds=seconds))
        self.tables.leases[lease.account_id] = extended
        return extended

    def release(self, lease: AccountLease) -> None:
        if self.has_fence(lease):
            self.tables.leases[lease.account_id] = replace(lease, until=self.time)

    async def begin(self, lease: AccountLease, seconds: float) -> DeliveryAttempt | None:
        """Commits the intent to send the next pin that no unsettled attempt blocks."""
        unsettled = {
            digest(row.attempt.board_id, row.attempt.texts)
            for row in self.tables.attempts.values()
            if row.outcome is None and row.attempt.account_id == lease.account_id
        }
        for pin in self.tables.pins.values():
            is_due = pin.account_id == lease.account_id and pin.state is PinState.QUEUED
            if is_due and digest(pin.board_id, pin.texts) not in unsettled:
                pin.state = PinState.PUBLISHING
                attempt = self._build_attempt(pin, lease, seconds)
                await self.insert(attempt)
                return attempt
        return None

    async def send(self, pin_id: UUID, seconds: float) -> DeliveryAttempt:
        """Commits the intent to send a queued pin, without a lease."""
        pin = self.tables.pins[pin_id]
        pin.state = PinState.PUBLISHING
        lease = AccountLease(pin.account_id, self.workspace_id, 1, self.time)
        attempt = self._build_attempt(pin, lease, seconds)
        await self.insert(attempt)
        return attempt

    async def settle_late(
        self, attempt: DeliveryAttempt, outcome: AttemptOutcome, pinterest_pin_id: str | None
    ) -> bool:
        """Writes the outcome that a sender has, unless the attempt has one."""
        return self.settle(attempt, outcome, pinterest_pin_id)

    def _build_attempt(self, pin: PinRow, lease: AccountLease, seconds: float) -> DeliveryAttempt:
        earlier = [row for row in self.tables.attempts.values() if row.attempt.pin_id == pin.pin_id]
        return DeliveryAttempt(
            attempt_id=self.new_id(),
            pin_id=pin.pin_id,
            number=len(earlier) + 1,
            workspace_id=lease.workspace_id,
            account_id=lease.account_id,
            mode=MODE,
            fence=lease.fence,
            board_id=pin.board_id,
            texts=pin.texts,
            started_at=self.time,
            deadline_at=self.time + timedelta(seconds=seconds),
        )

    async def insert(self, attempt: DeliveryAttempt) -> None:
        self.tables.attempts[attempt.attempt_id] = AttemptRow(attempt)

    def is_open(self, attempt: DeliveryAttempt) -> bool:
        """Returns whether the attempt is stored, without an outcome."""
        row = self.tables.attempts.get(attempt.attempt_id)
        return row is not None and row.outcome is None

    # As settlements.py does

    def settle(
        self,
        attempt: DeliveryAttempt,
        outcome: AttemptOutcome,
        pinterest_pin_id: str | None = None,
        failure: Failure | None = None,
    ) -> bool:
        """Records an outcome, and what it means for the pin. False: it has one already."""
        if not self.is_open(attempt):
            return False
        if pinterest_pin_id is not None and pinterest_pin_id in self.published_ids():
            raise AdoptedElsewhere
        row = self.tables.attempts[attempt.attempt_id]
        row.outcome, row.pinterest_pin_id = outcome, pinterest_pin_id
        pin = self.tables.pins.get(attempt.pin_id)
        if pin is None or pin.state not in SENDABLE:
            return True
        if pinterest_pin_id is not None:
            pin.state, pin.pinterest_pin_id = PinState.PUBLISHED, pinterest_pin_id
            pin.events.append("published")
        elif failure is not None:
            pin.state, pin.error_code = PinState.FAILED, failure.error_code
            pin.events.append("failed")
        else:
            pin.state = PinState.QUEUED
        return True

    def published_ids(self) -> set[str]:
        """Returns the ids that are unique (index pins_of_pinterest)."""
        pins = self.tables.pins.values()
        return {pin.pinterest_pin_id for pin in pins if pin.pinterest_pin_id is not None}

    def known_ids(self) -> set[str]:
        attempts = self.tables.attempts.values()
        made = {row.pinterest_pin_id for row in attempts if row.pinterest_pin_id is not None}
        return made | self.published_ids()

    def leave_unsettled(self, attempt: DeliveryAttempt) -> None:
        if self.is_open(attempt):
            pin = self.tables.pins.get(attempt.pin_id)
            if pin is not None and pin.state in SENDABLE:
                pin.state = PinState.CONFIRMING

    # As Confirmer asks for

    async def start_look(self, lease: AccountLease) -> StartedLook | None:
        due = [
            row
            for row in self.tables.attempts.values()
            if row.attempt.account_id == lease.account_id
            and row.outcome is None
            and row.due_at <= self.time
        ]
        if not due:
            return None
        row = min(due, key=lambda row: row.next_look_at or row.attempt.deadline_at)
        self.leave_unsettled(row.attempt)
        return StartedLook(row.attempt, row.looks, self.time)

    @asynccontextmanager
    async def lock_attempt(
        self, attempt: DeliveryAttempt
    ) -> AsyncIterator["MemoryLockedAttempt | None"]:
        yield MemoryLockedAttempt(self, attempt) if self.is_open(attempt) else None


class MemoryLockedAttempt:
    """An attempt without an outcome."""

    def __init__(self, store: MemoryStore, attempt: DeliveryAttempt) -> None:
        self._store = store
        self._attempt = attempt
        self._row = store.tables.attempts[attempt.attempt_id]
        self.absent_at = self._row.absent_at

    async def read_known_ids(self, ids: Collection[str]) -> Collection[str]:
        return self._store.known_ids() & set(ids)

    async def read_others(self) -> Sequence[DeliveryAttempt]:
        own = self._attempt
        return [
            row.attempt
            for row in self._store.tables.attempts.values()
            if row.attempt.board_id == own.board_id
            and row.attempt.attempt_id != own.attempt_id
            and row.outcome in UNKNOWN
            and row.attempt.started_at <= own.deadline_at + 2 * SLACK
            and row.attempt.deadline_at >= own.started_at - 2 * SLACK
        ]

    async def adopt(self, pinterest_pin_id: str) -> None:
        self._store.settle(self._attempt, AttemptOutcome.FOUND, pinterest_pin_id)

    async def look_again(self, seconds: float) -> None:
        self._row.absent_at = self._row.absent_at or self._store.time
        await self.postpone(seconds)

    async def postpone(self, seconds: float) -> None:
        self._row.looks += 1
        self._row.next_look_at = self._store.time + timedelta(seconds=seconds)

    async def send_again(self) -> None:
        self._store.settle(self._attempt, AttemptOutcome.ABSENT)

    async def give_up(self, failure: Failure) -> None:
        self._store.settle(self._attempt, AttemptOutcome.UNCONFIRMED, failure=failure)
