"""Workers that deliver pins, step by step, on a store in memory and a model of Pinterest.

The rules are those of the delivery process: the real Confirmer with its matching, the digest that
blocks equal pins, and the decisions after a restore. The test decides when each step happens.
"""

from collections.abc import Awaitable, Generator
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any, TypeVar, assert_never, cast
from uuid import UUID

from services.publisher.delivery.attempts.outcomes import ConfirmPin, PinHistory, decide_failure
from services.publisher.delivery.confirming.confirmer import Confirmer
from services.publisher.delivery.log.rules import (
    Confirm,
    Keep,
    LeaveUnconfirmed,
    PinDecision,
    Publish,
    QueueAgain,
    ReadAttempt,
    RestoredPin,
    decide_pin,
)
from services.publisher.delivery.model import (
    AccessToken,
    AccountLease,
    AttemptOutcome,
    ComparedTexts,
    DeliveryAttempt,
)
from services.publisher.model import PinState
from shared.contract.errors import ErrorCode
from shared.pinterest.failures import AnswerLost, Cause, NotSent, PinterestFailure, Refused
from shared.pinterest.model import Category
from tests.support.delivery.memory_store import AttemptRow, MemoryStore, PinRow, Tables
from tests.support.delivery.pinterest_model import HAND, PinterestModel

TIMEOUT_SECONDS = 20.0
LEASE_SECONDS = 30.0
CONFIRM_SECONDS = 120.0
MAX_LATE_SECONDS = CONFIRM_SECONDS
"""A list may show a new pin so late. Later than that, no rule can tell."""

T = TypeVar("T")


class Answer(Enum):
    """Names what becomes of a request that creates a pin."""

    CREATED = auto()
    LOST_AFTER = auto()
    LOST_BEFORE = auto()
    REFUSED = auto()
    NOT_SENT = auto()


class Step(Enum):
    """The next step of a worker."""

    LEASE = auto()
    BEGIN = auto()
    ANNOUNCE = auto()
    SEND = auto()
    SETTLE = auto()


@dataclass
class Worker:
    """One process of the delivery, with at most one turn."""

    step: Step = Step.LEASE
    lease: AccountLease | None = None
    attempt: DeliveryAttempt | None = None
    result: str | PinterestFailure | None = None


class MemoryLog:
    """The topic `deliveries`. It survives every restore (ports.DeliveryLog)."""

    def __init__(self, now: Any) -> None:
        self._now = now
        self.attempts: dict[UUID, ReadAttempt] = {}
        self.announced: dict[UUID, DeliveryAttempt] = {}
        self.loses_settlements = False

    async def require_open(self, connected_at: float) -> None:
        """Is always open: the test applies the log in the same step as a restore."""

    async def announce(self, attempt: DeliveryAttempt) -> None:
        self.announced[attempt.attempt_id] = attempt
        self.attempts[attempt.attempt_id] = ReadAttempt(
            attempt.attempt_id, attempt.started_at, attempt.deadline_at, None, None, None
        )

    async def settle(
        self, attempt: DeliveryAttempt, outcome: AttemptOutcome, pinterest_pin_id: str | None
    ) -> None:
        if attempt.attempt_id in self.attempts and not self.loses_settlements:
            self.attempts[attempt.attempt_id] = ReadAttempt(
                attempt.attempt_id,
                attempt.started_at,
                attempt.deadline_at,
                outcome,
                pinterest_pin_id,
                self._now(),
            )


class FixedTokens:
    """Provides the same token always (ports.TokenSource)."""

    async def get(self, _account_id: UUID) -> AccessToken:
        return cast("AccessToken", _Token())

    async def refresh(self, account_id: UUID, _refused_version: int) -> AccessToken:
        return await self.get(account_id)

    async def report_scope_missing(self, _account_id: UUID, _version: int) -> bool:
        return False


@dataclass
class _Token:
    value: Any = None
    version: int = 1
    expires_at: datetime | None = None


class NoBudget:
    """Limits nothing."""

    async def require(self, account_id: UUID, category: Category) -> None: ...


@dataclass
class Publication:
    """Holds the content of a pin that must be published."""

    account_id: UUID
    board_id: str
    texts: ComparedTexts
    may_double: int = 0
    """The number of times that a person sent it again, and accepted that it may double."""


@dataclass
class World:
    """Pinflow's delivery and Pinterest."""

    store: MemoryStore = field(default_factory=MemoryStore)
    publications: dict[UUID, Publication] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pinterest = PinterestModel(self.store.now)
        self.log = MemoryLog(self.store.now)
        self.workers = [Worker(), Worker()]
        self.confirmer = Confirmer(
            self.store,
            self.pinterest.client,
            FixedTokens(),
            NoBudget(),
            self.log,
            confirm_seconds=CONFIRM_SECONDS,
            max_pages=50,
        )

    async def queue(self, account_id: UUID, board_id: str, texts: ComparedTexts) -> UUID:
        pin_id = self.store.new_id()
        self.publications[pin_id] = Publication(account_id, board_id, texts)
        await self.store.add_pin(pin_id, account_id, board_id, texts)
        return pin_id

    # The steps of a turn (services/publisher/delivery/creating/creator.py)

    async def lease(self, worker: Worker, account_id: UUID) -> None:
        worker.lease = await self.store.lease(account_id, LEASE_SECONDS)
        if worker.lease is not None:
            worker.step = Step.BEGIN

    async def begin(self, worker: Worker) -> None:
        """Commits the attempt. The fence decides whether the lease is still held."""
        lease = worker.lease
        assert lease is not None
        worker.step = Step.LEASE
        current = self.store.extend(lease, LEASE_SECONDS)
        if current is None:
            return
        attempt = await self.store.begin(current, LEASE_SECONDS)
        if attempt is None:
            self.store.release(current)
            return
        worker.lease, worker.attempt, worker.step = current, attempt, Step.ANNOUNCE

    async def announce(self, worker: Worker) -> None:
        assert worker.attempt is not None
        await self.log.announce(worker.attempt)
        worker.step = Step.SEND

    async def send(self, worker: Worker, answer: Answer, late_seconds: float) -> None:
        """Sends the request, unless the deadline is too near or Postgres lacks the attempt."""
        attempt, lease = worker.attempt, worker.lease
        assert attempt is not None
        assert lease is not None
        has_time = self.store.time.timestamp() + TIMEOUT_SECONDS <= attempt.deadline_at.timestamp()
        if not has_time or not self.store.is_open(attempt) or not self.store.has_fence(lease):
            answer = Answer.NOT_SENT
        worker.result = self._create(attempt, answer, late_seconds)
        worker.step = Step.SETTLE

    def _create(
        self, attempt: DeliveryAttempt, answer: Answer, late_seconds: float
    ) -> str | PinterestFailure:
        if answer in {Answer.CREATED, Answer.LOST_AFTER}:
            pin_id = self.pinterest.create(
                attempt.board_id, attempt.texts, attempt.pin_id, late_seconds=late_seconds
            )
            return pin_id if answer is Answer.CREATED else AnswerLost("pins/create", "cut")
        if answer is Answer.LOST_BEFORE:
            return AnswerLost("pins/create", "cut")
        if answer is Answer.NOT_SENT:
            return NotSent("pins/create", "not sent")
        return Refused("pins/create", "wait", status=429, code=8, cause=Cause.RATE_LIMIT)

    async def settle(self, worker: Worker) -> None:
        """Writes the outcome, however late: unless the attempt has one (transaction 2)."""
        attempt, result = worker.attempt, worker.result
        assert attempt is not None
        outcome, pin_id = AttemptOutcome.CREATED, None
        if isinstance(result, str):
            pin_id = result
            is_first = self.store.settle(attempt, outcome, pin_id)
        else:
            assert result is not None
            meaning = decide_failure(result, PinHistory(), 5)
            is_lost = isinstance(meaning, ConfirmPin)
            is_refused = isinstance(result, Refused)
            outcome = AttemptOutcome.REFUSED if is_refused else AttemptOutcome.NOT_SENT
            if is_lost:
                self.store.leave_unsettled(attempt)
            is_first = not is_lost and self.store.settle(attempt, outcome)
        if is_first:
            await self.log.settle(attempt, outcome, pin_id)
        if worker.lease is not None:
            self.store.release(worker.lease)
        self.workers[self.workers.index(worker)] = Worker()

    async def step(
        self, number: int, account_id: UUID, answer: Answer, late_seconds: float
    ) -> None:
        """Takes a worker's next step. Without a turn, it leases the account."""
        worker = self.workers[number]
        match worker.step:
            case Step.LEASE:
                await self.lease(worker, account_id)
            case Step.BEGIN:
                await self.begin(worker)
            case Step.ANNOUNCE:
                await self.announce(worker)
            case Step.SEND:
                await self.send(worker, answer, late_seconds)
            case Step.SETTLE:
                await self.settle(worker)
            case _:
                assert_never(worker.step)

    def crash(self, number: int) -> None:
        """Ends a worker's process. Its lease and its attempt stay as they are."""
        self.workers[number] = Worker()

    async def confirm(self, account_id: UUID) -> bool:
        """Takes one look, as the holder of some lease. Two at once are possible.

        A person's pin may only be adopted if the pin itself is not listed.
        """
        lease = AccountLease(account_id, self.store.workspace_id, 0, self.store.time)
        before, listed_at = self._published(), self.store.time
        has_looked = await self.confirmer.run(lease)
        for pin_id, pinterest_pin_id in self._published().items() - before.items():
            if self.pinterest.find(pinterest_pin_id).origin is HAND:
                own = self.pinterest.made_for(pin_id)
                assert all(pin.visible_at > listed_at for pin in own), (pinterest_pin_id, own)
        return has_looked

    def _published(self) -> dict[UUID, str]:
        pins = self.store.tables.pins.values()
        return {pin.pin_id: pin.pinterest_pin_id for pin in pins if pin.pinterest_pin_id}

    # Users and restores

    def retry(self, pin_id: UUID) -> None:
        """Sends a failed pin again. The user has seen that it may double."""
        pin = self.store.tables.pins[pin_id]
        if pin.state is PinState.FAILED:
            pin.state, pin.error_code = PinState.QUEUED, None
            self.publications[pin_id].may_double += 1

    async def restore(self, tables: Tables) -> None:
        """Restores an older store, reads its rows again, and applies the announced attempts."""
        self.store.restore(tables)
        for pin_id, publication in self.publications.items():
            if pin_id not in self.store.tables.pins:
                destination = (publication.account_id, publication.board_id, publication.texts)
                await self.store.add_pin(pin_id, *destination)
        missing: dict[UUID, list[ReadAttempt]] = {}
        for read in self.log.attempts.values():
            row = self.store.tables.attempts.get(read.attempt_id)
            if row is None or (row.outcome is None and read.outcome is not None):
                attempt = self.log.announced[read.attempt_id]
                missing.setdefault(attempt.pin_id, []).append(read)
                self.store.tables.attempts[read.attempt_id] = AttemptRow(
                    attempt, read.outcome, read.pinterest_pin_id
                )
        for pin_id, attempts in missing.items():
            self._apply(self.store.tables.pins[pin_id], attempts)

    def _apply(self, pin: PinRow, attempts: list[ReadAttempt]) -> None:
        newest = max(attempt.started_at for attempt in attempts)
        has_later_unsettled = any(
            row.attempt.pin_id == pin.pin_id
            and row.outcome is None
            and row.attempt.started_at > newest
            for row in self.store.tables.attempts.values()
        )
        restored = RestoredPin(
            pin.state, is_delivered=True, is_deleted=False, pinterest_pin_id=pin.pinterest_pin_id
        )
        self._carry_out(
            pin, decide_pin(restored, attempts, has_later_unsettled=has_later_unsettled)
        )

    def _carry_out(self, pin: PinRow, decision: PinDecision) -> None:
        match decision:
            case Publish(pinterest_pin_id, _):
                pin.state, pin.pinterest_pin_id = PinState.PUBLISHED, pinterest_pin_id
            case Confirm():
                pin.state = PinState.CONFIRMING
            case LeaveUnconfirmed():
                pin.state, pin.error_code = PinState.FAILED, ErrorCode.PUBLISH_UNCONFIRMED
            case QueueAgain():
                pin.state = PinState.QUEUED
            case Keep():
                pass

    # The end of a test

    async def finish(self) -> None:
        """Lets everything end: no more faults, until no pin waits."""
        self.workers = [Worker()]
        for _ in range(200):
            if not self._unfinished():
                return
            await self.store.advance(LEASE_SECONDS + 1)
            for account_id in sorted({pub.account_id for pub in self.publications.values()}):
                await self.confirm(account_id)
                for _ in Step:
                    await self.step(0, account_id, Answer.CREATED, 0)
        raise AssertionError(f"Pins did not end: {self._unfinished()}")

    def _unfinished(self) -> list[PinRow]:
        ended = {PinState.PUBLISHED, PinState.FAILED}
        return [pin for pin in self.store.tables.pins.values() if pin.state not in ended]


def run(step: Awaitable[T]) -> T:
    """Runs a step of the test. Nothing in it waits for anything."""
    coroutine: Generator[Any, Any, T] = step.__await__()
    try:
        next(coroutine)
    except StopIteration as end:
        return cast("T", end.value)
    raise AssertionError("A step waited for something.")
