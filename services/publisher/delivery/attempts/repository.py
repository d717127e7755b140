"""Writes what an attempt's outcome means for the pin, the account and the app."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import NamedTuple, TypeVar, assert_never
from uuid import UUID

from psycopg.errors import UniqueViolation

from services.publisher.delivery.accounts import pauses
from services.publisher.delivery.accounts.statements import (
    lock_app,
    lock_pause,
    pause_account,
    pause_app,
    resume_account,
    resume_account_from,
    resume_app,
)
from services.publisher.delivery.attempts.outcomes import (
    ConfirmPin,
    DeferPin,
    FailPin,
    PauseAccount,
    PauseApp,
    RefreshToken,
    SettledMeaning,
    describe_unconfirmed,
)
from services.publisher.delivery.attempts.settlements import (
    Deferral,
    adopt_late_pin,
    adopt_pinterest_pin,
    begin_confirming_pin,
    defer_pin,
    fail_pin,
    fail_settled_pin,
    lock_queued_pin,
    publish_pin,
    queue_pin,
)
from services.publisher.delivery.attempts.statements import (
    AttemptSettlement,
    find_newer_attempt,
    insert_attempt,
)
from services.publisher.delivery.budgets.repository import Budgets
from services.publisher.delivery.model import AttemptOutcome, BegunAttempt, DeliveryAttempt
from shared.contract.errors import ErrorCode
from shared.pinterest.model import Category, RateLimits
from shared.postgres.database import Database, DriverConnection
from shared.postgres.row import Row

ENDED_BY_ANSWER = (ErrorCode.PINTEREST_UNAVAILABLE,)
"""The codes of pauses that any definite answer of Pinterest ends."""
ENDED_BY_PIN = (*ENDED_BY_ANSWER, ErrorCode.APP_NOT_APPROVED)
"""The codes of the app's pauses that any created pin ends."""
ENDED_BY_PROBE = (*ENDED_BY_PIN, ErrorCode.QUOTA_EXCEEDED)
"""The codes of the app's pauses that a created probe ends: all of them. A probe is the one pin that
is sent when a pause is over."""
T = TypeVar("T")


class LateAnswer(NamedTuple):
    """The effect of an id that came after its attempt was settled."""

    is_adopted: bool
    """The attempt's pin has the id, so nothing is lost."""
    newer: Row | None = None
    """The id and the outcome of the pin's last attempt after this one."""
    is_stored: bool = True
    """False if Postgres lacks the attempt, because it was replaced by an older copy."""


class SettlementRepository:
    """Settles attempts, and pauses accounts and the app. Each method is one transaction.

    A method that returns a bool returns False if the attempt has an outcome already: the answer
    came late. Raises DatabaseUnavailable if Postgres is down: then the attempt stays unsettled.
    """

    def __init__(self, database: Database, budgets: Budgets, mode: str) -> None:
        self._database = database
        self._budgets = budgets
        self._mode = mode

    async def publish(
        self, begun: BegunAttempt, pinterest_pin_id: str, limits: RateLimits | None
    ) -> bool:
        """Publishes the pin, with the id that Pinterest answered."""
        attempt = begun.attempt

        async def settle(driver: DriverConnection) -> bool:
            is_first = await publish_pin(driver, attempt, AttemptOutcome.CREATED, pinterest_pin_id)
            if begun.had_pause:
                await resume_account(driver, attempt.account_id)
            await self._feed(driver, attempt, limits)
            if begun.had_pause:
                await resume_app(
                    driver, self._mode, ENDED_BY_PROBE if begun.is_probe else ENDED_BY_PIN
                )
            return is_first

        try:
            return await self._run(settle)
        except UniqueViolation:
            # An earlier look took this pin for another one: both are unconfirmed now
            failure = describe_unconfirmed(
                f"Pinterest answered the id {pinterest_pin_id}, which belongs to another pin"
            )
            return await self._run(
                lambda driver: fail_pin(driver, attempt, AttemptOutcome.UNCONFIRMED, failure)
            )

    async def adopt(self, attempt: DeliveryAttempt, pinterest_pin_id: str) -> None:
        """Publishes a queued pin that an earlier attempt created: a restore makes such pins."""
        await self._run(lambda driver: adopt_pinterest_pin(driver, attempt, pinterest_pin_id))

    async def adopt_late(self, attempt: DeliveryAttempt, pinterest_pin_id: str) -> LateAnswer:
        """Publishes the pin of an attempt that was settled without an id, if it waits again."""

        async def settle(driver: DriverConnection) -> LateAnswer:
            is_adopted = await adopt_late_pin(driver, attempt, pinterest_pin_id)
            newer = await find_newer_attempt(driver, attempt)
            return LateAnswer(bool(is_adopted), newer, is_stored=is_adopted is not None)

        try:
            return await self._run(settle)
        except UniqueViolation:  # another pin of Pinflow has the id
            return LateAnswer(is_adopted=False)

    async def leave_unsettled(self, begun: BegunAttempt, meaning: ConfirmPin) -> bool:
        """Records that the answer was lost: the pin becomes `confirming` (confirming/).

        Counts the account's consecutive lost answers, which pause it (LOST_STEPS).
        """
        account_id = begun.attempt.account_id

        async def settle(driver: DriverConnection) -> bool:
            lost = PauseAccount(pauses.PauseCause.ANSWERS_LOST)
            await self._pause_account(driver, account_id, lost)
            is_first = await begin_confirming_pin(driver, begun.attempt, meaning.reason)
            await self._end_probe(driver, begun)
            return is_first

        return await self._run(settle)

    async def refuse(
        self,
        begun: BegunAttempt,
        outcome: AttemptOutcome,
        meaning: SettledMeaning,
        *,
        message: str,
        limits: RateLimits | None = None,
    ) -> bool:
        """Settles an attempt that surely made no pin. `outcome`: REFUSED or NOT_SENT."""
        attempt = begun.attempt

        async def settle(driver: DriverConnection) -> bool:
            # In the order of locks: the account, the attempt, the pin, the budgets, the app
            if isinstance(meaning, PauseAccount):
                await self._pause_account(driver, attempt.account_id, meaning)
            elif outcome is AttemptOutcome.REFUSED and begun.had_pause:
                await resume_account_from(driver, attempt.account_id, ENDED_BY_ANSWER)
            is_first = await _settle(driver, attempt, outcome, meaning, message)
            await self._budgets.give_back(driver, self._mode, attempt.account_id)
            await self._feed(driver, attempt, limits)
            if isinstance(meaning, PauseApp):
                await self._pause_app(driver, meaning.cause, is_probe=begun.is_probe)
            else:
                if outcome is AttemptOutcome.REFUSED and begun.is_probe:
                    await resume_app(driver, self._mode, ENDED_BY_ANSWER)
                await self._end_probe(driver, begun)
            return is_first

        return await self._run(settle)

    async def withdraw(self, begun: BegunAttempt, reason: str) -> bool:
        """Settles an attempt whose request Pinflow did not send, and queues its pin again."""
        attempt = begun.attempt

        async def settle(driver: DriverConnection) -> bool:
            settlement = AttemptSettlement(AttemptOutcome.NOT_SENT, error_message=reason)
            is_first = await queue_pin(driver, attempt, settlement)
            await self._budgets.give_back(driver, self._mode, attempt.account_id)
            await self._end_probe(driver, begun)
            return is_first

        return await self._run(settle)

    async def record_media_failure(
        self,
        attempt: DeliveryAttempt,
        meaning: FailPin | DeferPin,
        message: str,
        *,
        updated_at: datetime,
    ) -> None:
        """Records that the image or video of a queued pin is not at hand.

        Does nothing if the pin was changed since `updated_at`: it may have another image by now.
        """
        code = meaning.code if isinstance(meaning, DeferPin) else meaning.failure.error_code

        async def settle(driver: DriverConnection) -> None:
            if not await lock_queued_pin(driver, attempt.pin_id, updated_at):
                return
            if code is not None:
                settlement = AttemptSettlement(
                    AttemptOutcome.NOT_SENT, error_code=code, error_message=message
                )
                await insert_attempt(driver, attempt, settlement)
            if isinstance(meaning, FailPin):
                await fail_settled_pin(driver, attempt, meaning.failure)
            else:
                await defer_pin(driver, attempt, Deferral(meaning.seconds, meaning.code))

        await self._run(settle)

    async def pause_account(self, account_id: UUID, meaning: PauseAccount) -> None:
        """Pauses an account without an attempt."""

        async def settle(driver: DriverConnection) -> None:
            await self._pause_account(driver, account_id, meaning)

        await self._run(settle)

    async def pause_given_up_account(self, account_id: UUID, code: str, message: str) -> None:
        """Pauses an account that the access service has given up, with its code."""

        async def settle(driver: DriverConnection) -> None:
            now, state = await lock_pause(driver, account_id)
            if state.until is not None and state.until > now and state.code in pauses.CHANGE_CODES:
                # Removals go on during such a pause, so one of them found that the account is given
                # up. Pinterest's limit or block lasts nevertheless
                return
            pause = pauses.grow(state._replace(until=None), pauses.PauseCause.GIVEN_UP, now)
            if pause is not None:
                await pause_account(driver, account_id, pause._replace(code=code, message=message))

        await self._run(settle)

    async def pause_app(self, cause: pauses.PauseCause, seconds: float | None = None) -> None:
        """Pauses all accounts without an attempt."""

        async def settle(driver: DriverConnection) -> None:
            await self._pause_app(driver, cause, is_probe=False, seconds=seconds)

        await self._run(settle)

    async def _pause_account(
        self,
        driver: DriverConnection,
        account_id: UUID,
        meaning: PauseAccount,
    ) -> None:
        now, state = await lock_pause(driver, account_id)
        pause = pauses.grow(state, meaning.cause, now, seconds=meaning.seconds)
        if pause is not None:
            await pause_account(driver, account_id, pause)

    async def _pause_app(
        self,
        driver: DriverConnection,
        cause: pauses.PauseCause,
        *,
        is_probe: bool,
        seconds: float | None = None,
    ) -> None:
        now, state = await lock_app(driver, self._mode)
        if is_probe:
            # The pause was over, and `until` only kept other pins waiting for this one's result
            state = state._replace(until=None)
        if (pause := pauses.grow(state, cause, now, seconds=seconds)) is not None:
            await pause_app(driver, self._mode, pause)

    async def _end_probe(self, driver: DriverConnection, begun: BegunAttempt) -> None:
        """Lets the next pin probe, if this one's outcome says nothing about the app's pause."""
        if begun.is_probe:
            await driver.execute(
                "update publisher.delivery_apps set paused_until = clock_timestamp() "
                "where mode = %s and pause_code is not null",
                (self._mode,),
            )

    async def _feed(
        self, driver: DriverConnection, attempt: DeliveryAttempt, limits: RateLimits | None
    ) -> None:
        if limits is not None:
            await self._budgets.feed(driver, self._mode, attempt.account_id, Category.WRITE, limits)

    async def _run(self, settle: Callable[[DriverConnection], Awaitable[T]]) -> T:
        async with self._database.pipeline() as driver:
            result = await settle(driver)
            await driver.commit()  # in the pipeline, so it takes no round trip of its own
            return result


async def _settle(
    driver: DriverConnection,
    attempt: DeliveryAttempt,
    outcome: AttemptOutcome,
    meaning: SettledMeaning,
    message: str,
) -> bool:
    match meaning:
        case FailPin(failure):
            return await fail_pin(driver, attempt, outcome, failure)
        case DeferPin(seconds, code, _):
            settlement = AttemptSettlement(outcome, error_code=code, error_message=message)
            return await queue_pin(driver, attempt, settlement, Deferral(seconds, code))
        case PauseAccount(cause, _) | PauseApp(cause):
            settlement = AttemptSettlement(outcome, error_code=cause.code, error_message=message)
            return await queue_pin(driver, attempt, settlement)
        case RefreshToken():
            settlement = AttemptSettlement(
                outcome, error_code=ErrorCode.TOKEN_EXPIRED, error_message=message
            )
            return await queue_pin(driver, attempt, settlement)
        case _:
            assert_never(meaning)
