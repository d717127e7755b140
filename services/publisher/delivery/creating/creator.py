"""Creates one pin on Pinterest: the part of a turn that is never repeated blindly.

The order of the steps keeps a pin from being created twice (ADR 0046). The attempt is committed,
Kafka acknowledges it, and Postgres is asked whether it still has it. Then the request is sent once,
and its outcome is written. After a crash in between, the attempt is unsettled, so the pin is
confirmed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar, assert_never

import structlog

from services.publisher.delivery.accounts.pauses import PauseCause
from services.publisher.delivery.attempts.account_failures import AccountFailures
from services.publisher.delivery.attempts.outcomes import (
    ConfirmPin,
    DeferPin,
    FailPin,
    LookUpBoard,
    PauseAccount,
    PauseApp,
    PinHistory,
    RefreshToken,
    SettledMeaning,
    decide_failure,
    decide_media_failure,
)
from services.publisher.delivery.attempts.repository import LateAnswer, SettlementRepository
from services.publisher.delivery.creating.pin_document import build_pin_document
from services.publisher.delivery.creating.repository import (
    ChosenPin,
    CreationRepository,
    QuotaUsedUp,
    build_attempt,
)
from services.publisher.delivery.media_failures import MediaFailure
from services.publisher.delivery.model import (
    AccessToken,
    AccountLease,
    AttemptOutcome,
    BegunAttempt,
    DeliveryAttempt,
    Postponed,
)
from services.publisher.delivery.ports import (
    BoardExplainer,
    CallBudget,
    DeliveryLog,
    MediaSource,
    ReportingTokenSource,
)
from services.publisher.model import Failure
from shared.contract.errors import (
    ApiError,
    DatabaseUnavailable,
    ErrorCode,
    Unavailable,
)
from shared.pinterest import failures
from shared.pinterest.client import PinterestClient
from shared.pinterest.failures import PinterestFailure, Refused
from shared.pinterest.model import Category, RateLimits
from shared.postgres.row import Row
from shared.runtime import metrics

log = structlog.get_logger()

OPERATION = "pins/create"
SETTLE_TRIES = 6
"""Maximum tries to write an outcome while Postgres is down. After them, the pin is confirmed."""
SETTLE_PAUSE_SECONDS = 0.5
"""Seconds before the second try. Each further pause is twice as long."""

T = TypeVar("T")


class PinCreator:
    """Creates the account's next pin. The last part of a turn (ports.TurnPart)."""

    def __init__(
        self,
        creations: CreationRepository,
        settlements: SettlementRepository,
        account_failures: AccountFailures,
        client: PinterestClient,
        tokens: ReportingTokenSource,
        media: MediaSource,
        boards: BoardExplainer,
        budget: CallBudget,
        delivery_log: DeliveryLog,
        *,
        max_fetch_tries: int,
    ) -> None:
        self._creations = creations
        self._settlements = settlements
        self._account_failures = account_failures
        self._client = client
        self._tokens = tokens
        self._media = media
        self._boards = boards
        self._budget = budget
        self._delivery_log = delivery_log
        self._max_fetch_tries = max_fetch_tries

    async def run(self, lease: AccountLease) -> bool:
        """Creates at most one pin. Returns False if no request was sent.

        Raises Postponed if it has to wait: by 0 s if only this pin can't be sent.
        """
        try:
            token = await self._tokens.get(lease.account_id)
        except (ApiError, Unavailable) as failure:
            if await self._choose(lease, lambda _pin: False) is not None:
                await self._account_failures.pause_without_token(lease.account_id, failure)
            return False
        chosen = await self._choose(lease, self._media.is_ready)
        if chosen is None:
            return False
        pin = chosen.pin
        try:
            async with self._media.open(pin) as media_source:
                begun = chosen.begun or await self._within_quota(
                    lease, self._creations.begin(lease, pin)
                )
                return begun is not None and await self._create(begun, pin, token, media_source)
        except MediaFailure as failure:
            await self._record_media_failure(lease, pin, failure)
            raise Postponed(0) from None

    async def _choose(
        self, lease: AccountLease, is_ready: Callable[[Row], bool]
    ) -> ChosenPin | None:
        """Chooses the next pin. Begins its attempt if `is_ready`.

        After a restore, a queued pin may have an earlier attempt. Instead of being sent, it is then
        confirmed, or published with the id that the attempt got. Raises Postponed after that.
        """
        chosen = await self._within_quota(lease, self._creations.begin_next(lease, is_ready))
        if chosen is None or chosen.begun is not None:
            return chosen
        pin = chosen.pin
        if pin["unsettled_attempt_id"] is not None:
            await self._creations.begin_confirming(pin["unsettled_attempt_id"])
            raise Postponed(0)
        if pin["made_pin_id"] is not None:
            await self._settlements.adopt(_build_unsent_attempt(lease, pin), pin["made_pin_id"])
            raise Postponed(0)
        return chosen

    async def _within_quota(self, lease: AccountLease, begin: Awaitable[T | None]) -> T | None:
        """Begins an attempt. If a quota of the day is used up, pauses instead and returns None."""
        try:
            return await begin
        except QuotaUsedUp as used_up:
            await self._account_failures.pause_quota(lease.account_id, used_up.exhausted)
            return None

    async def _create(
        self,
        begun: BegunAttempt,
        pin: Row,
        token: AccessToken,
        media_source: dict[str, object],
    ) -> bool:
        """Sends a pin whose attempt has begun. Returns False if no request was sent."""
        attempt = begun.attempt
        try:
            await self._delivery_log.announce(attempt)
            may_send = await self._creations.may_send(attempt)
        except Unavailable as error:
            await self._withdraw(begun, str(error))
            raise
        # If this process was frozen since the check, another one may already confirm the attempt
        if not may_send or time.monotonic() > begun.send_until:
            await self._withdraw(begun, "The time for the request was over before it was sent.")
            return False
        document = build_pin_document(pin, media_source, attempt.texts.link)
        await self._send(begun, pin, token, document)
        return True

    async def _send(
        self, begun: BegunAttempt, pin: Row, token: AccessToken, document: dict[str, Any]
    ) -> None:
        """Sends the request once, and settles the attempt."""
        limits: list[RateLimits] = []
        try:
            answer = await self._client.call(
                OPERATION,
                "POST",
                "/pins",
                token=token.value,
                document=document,
                on_limits=limits.append,
            )
        except PinterestFailure as failure:
            await self._settle_failure(begun, pin, token, failure, limits[-1] if limits else None)
        else:
            await self._publish(begun, pin, answer["id"], limits[-1] if limits else None)

    async def _publish(
        self,
        begun: BegunAttempt,
        pin: Row,
        pinterest_pin_id: str,
        limits: RateLimits | None,
    ) -> None:
        """Publishes the pin. If its attempt was settled before, tries to adopt the late id."""
        attempt = begun.attempt
        is_first = await self._settle(
            lambda: self._settlements.publish(begun, pinterest_pin_id, limits)
        )
        if is_first:
            metrics.DELIVERY_SECONDS.observe(_compute_delay(pin))
        else:
            late = await self._settle(
                lambda: self._settlements.adopt_late(attempt, pinterest_pin_id)
            )
            _log_late_id(attempt, pinterest_pin_id, late)
            if not late.is_adopted and late.is_stored:
                return
            # If Postgres lacks the attempt, it takes it from the topic, with this id
        await self._delivery_log.settle(attempt, AttemptOutcome.CREATED, pinterest_pin_id)

    async def _settle_failure(
        self,
        begun: BegunAttempt,
        pin: Row,
        token: AccessToken,
        failure: PinterestFailure,
        limits: RateLimits | None,
    ) -> None:
        attempt = begun.attempt
        meaning = decide_failure(failure, _read_history(pin), self._max_fetch_tries)
        if isinstance(meaning, ConfirmPin):
            await self._settle(lambda: self._settlements.leave_unsettled(begun, meaning))
            metrics.DELIVERY_ATTEMPTS.labels("answer_lost").inc()
            return
        settled = await self._look_up(attempt, token, failure, meaning)
        is_refusal = isinstance(failure, Refused)
        outcome = AttemptOutcome.REFUSED if is_refusal else AttemptOutcome.NOT_SENT
        is_first = await self._settle(
            lambda: self._settlements.refuse(
                begun, outcome, settled, message=failure.message, limits=limits
            )
        )
        await self._settle_in_topic(attempt, outcome, is_first)
        _log_failure(attempt, failure, settled)
        await self._follow_up(attempt, token, settled)

    async def _look_up(
        self,
        attempt: DeliveryAttempt,
        token: AccessToken,
        failure: PinterestFailure,
        meaning: SettledMeaning | LookUpBoard,
    ) -> SettledMeaning:
        """Asks Pinterest for the board if it may be why the pin was refused."""
        if not isinstance(meaning, LookUpBoard):
            return meaning
        if not isinstance(failure, Refused):
            raise TypeError("Only a refusal makes a lookup necessary.")
        try:
            await self._budget.require(attempt.account_id, Category.READ)
        except Postponed:
            return FailPin(Failure(ErrorCode.BOARD_ACCESS_DENIED, meaning.message))
        return FailPin(await self._boards.explain(token, attempt.board_id, failure))

    async def _follow_up(
        self,
        attempt: DeliveryAttempt,
        token: AccessToken,
        meaning: SettledMeaning,
    ) -> None:
        """Tells the access service what Pinterest refused. The pin is queued meanwhile."""
        match meaning:
            case RefreshToken():
                await self._refresh(attempt, token)
            case PauseAccount(cause, _):
                if cause is PauseCause.TOKEN:
                    await self._refresh(attempt, token)
                elif cause is PauseCause.SCOPE:
                    try:
                        await self._tokens.report_scope_missing(attempt.account_id, token.version)
                    except (ApiError, Unavailable) as error:
                        log.warning("scope_missing_not_reported", error=str(error))
            case FailPin() | DeferPin() | PauseApp():
                pass
            case _:
                assert_never(meaning)

    async def _refresh(self, attempt: DeliveryAttempt, token: AccessToken) -> None:
        try:
            await self._tokens.refresh(attempt.account_id, token.version)
        except (ApiError, Unavailable) as failure:
            await self._account_failures.pause_without_token(attempt.account_id, failure)

    async def _withdraw(self, begun: BegunAttempt, reason: str) -> None:
        """Settles an attempt whose request was not sent, and queues its pin again."""
        is_first = await self._settle(lambda: self._settlements.withdraw(begun, reason))
        await self._settle_in_topic(begun.attempt, AttemptOutcome.NOT_SENT, is_first)

    async def _record_media_failure(
        self, lease: AccountLease, pin: Row, failure: MediaFailure
    ) -> None:
        meaning = decide_media_failure(failure, _read_history(pin), self._max_fetch_tries)
        await self._settlements.record_media_failure(
            _build_unsent_attempt(lease, pin),
            meaning,
            failure.message,
            updated_at=pin["updated_at"],
        )

    async def _settle_in_topic(
        self,
        attempt: DeliveryAttempt,
        outcome: AttemptOutcome,
        is_first: bool,
    ) -> None:
        """Tells the topic that no pin was created, unless another process settled the attempt."""
        if is_first:
            await self._delivery_log.settle(attempt, outcome, None)
        else:
            metrics.DELIVERY_ATTEMPTS.labels("late").inc()
            # Not `delivery_answer_late`: no pin was made, so nobody has to look at the board
            log.info("delivery_outcome_late", **_log_fields(attempt), outcome=outcome)

    async def _settle(self, settle: Callable[[], Awaitable[T]]) -> T:
        """Writes an outcome. Repeats that while Postgres is down: only this process knows it."""
        for number in range(SETTLE_TRIES):
            try:
                return await settle()
            except DatabaseUnavailable:
                if number == SETTLE_TRIES - 1:
                    raise
                await asyncio.sleep(SETTLE_PAUSE_SECONDS * 2**number)
        raise AssertionError("The loop returns or raises.")


def _read_history(pin: Row) -> PinHistory:
    return PinHistory(pin["fetch_tries"], pin["last_code"] == ErrorCode.TOKEN_EXPIRED)


def _build_unsent_attempt(lease: AccountLease, pin: Row) -> DeliveryAttempt:
    """Builds an attempt for which no request is sent.

    It has the database's time, as a user's change of the pin has: failed tries are counted from the
    last change.
    """
    return build_attempt(lease, pin, "", started_at=pin["read_at"], deadline_at=pin["read_at"])


def _compute_delay(pin: Row) -> float:
    """Returns the seconds since the pin was due, by this machine's clock."""
    times = (pin["run_at"], pin["created_at"], pin["touched_at"])
    due_at: datetime = max(filter(None, times))
    return max(0.0, time.time() - due_at.timestamp())


def _log_late_id(attempt: DeliveryAttempt, pinterest_pin_id: str, late: LateAnswer) -> None:
    """Logs an id that came after its attempt was settled. The pin may be on Pinterest twice."""
    metrics.DELIVERY_ATTEMPTS.labels("late").inc()
    if late.is_adopted:
        log.warning(
            "delivery_late_id_adopted", **_log_fields(attempt), pinterest_pin_id=pinterest_pin_id
        )
        return
    if not late.is_stored:
        log.warning(
            "delivery_attempt_missing", **_log_fields(attempt), pinterest_pin_id=pinterest_pin_id
        )
        return
    newer = late.newer or {}
    log.error(
        "delivery_answer_late",
        **_log_fields(attempt),
        outcome=AttemptOutcome.CREATED,
        pinterest_pin_id=pinterest_pin_id,
        newer_attempt_id=str(newer["attempt_id"]) if newer else None,
        newer_outcome=newer.get("outcome"),
        newer_pinterest_pin_id=newer.get("pinterest_pin_id"),
        board_id=attempt.board_id,
        next="look at the board: the pin may be there twice, or Pinflow may not know it",
    )


def _log_fields(attempt: DeliveryAttempt) -> dict[str, str]:
    return {
        "attempt_id": str(attempt.attempt_id),
        "pin_id": str(attempt.pin_id),
        "workspace_id": str(attempt.workspace_id),
        "account_id": str(attempt.account_id),
    }


def _log_failure(
    attempt: DeliveryAttempt, failure: PinterestFailure, meaning: SettledMeaning
) -> None:
    level = log.error if getattr(failure, "cause", None) == failures.Cause.APP else log.info
    level(
        "delivery_refused",
        **_log_fields(attempt),
        cause=getattr(failure, "cause", "not_sent"),
        meaning=type(meaning).__name__,
        pinterest_request_id=getattr(failure, "request_id", None),
    )
