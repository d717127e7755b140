"""Decides what the attempts that Kafka had, and Postgres lacked, mean for their pin. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from services.publisher.delivery.model import AttemptOutcome
from services.publisher.model import PinState


@dataclass(frozen=True, slots=True)
class RestoredPin:
    """The state of a pin in the restored Postgres."""

    state: PinState
    is_delivered: bool
    """True if the pin's account is connected, so that the pin is delivered to Pinterest."""
    is_deleted: bool
    pinterest_pin_id: str | None


@dataclass(frozen=True, slots=True)
class ReadAttempt:
    """An attempt that was read from Kafka."""

    attempt_id: UUID
    started_at: datetime
    deadline_at: datetime
    outcome: AttemptOutcome | None
    pinterest_pin_id: str | None
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Publish:
    """The pin is on Pinterest with this id."""

    pinterest_pin_id: str
    published_at: datetime


@dataclass(frozen=True, slots=True)
class Confirm:
    """The request may have made the pin: Pinterest is asked after `deadline_at`."""

    attempt_id: UUID
    deadline_at: datetime


@dataclass(frozen=True, slots=True)
class LeaveUnconfirmed:
    """Nobody could tell whether the pin is on Pinterest. It fails, and a person decides."""

    failed_at: datetime


@dataclass(frozen=True, slots=True)
class QueueAgain:
    """Postgres has the pin as publishing or confirming, but its last request made no pin."""


@dataclass(frozen=True, slots=True)
class Keep:
    """The pin stays as it is. Unsettled attempts are given up: no pin can take their result."""

    is_double: bool = False
    """True if Pinterest has a pin that Pinflow can't show: the pin is deleted, or has another."""


PinDecision: TypeAlias = Publish | Confirm | LeaveUnconfirmed | QueueAgain | Keep

UNSETTLED_STATES = frozenset({PinState.PUBLISHING, PinState.CONFIRMING})


def decide_pin(
    pin: RestoredPin, attempts: Sequence[ReadAttempt], *, has_later_unsettled: bool = False
) -> PinDecision:
    """Decides what becomes of a pin whose attempts were read from Kafka.

    A pin that was on Pinterest is published with its id. One that may be there is confirmed, and
    never sent before. If the last request surely made no pin, a queued pin stays queued.

    `has_later_unsettled`: Postgres has a later attempt without an outcome, which decides then.
    """
    attempts = sorted(attempts, key=lambda attempt: attempt.started_at)
    found = [
        Publish(attempt.pinterest_pin_id, attempt.settled_at or attempt.deadline_at)
        for attempt in attempts
        if attempt.pinterest_pin_id is not None
    ]
    if not pin.is_delivered or pin.is_deleted or pin.state is PinState.PUBLISHED:
        ids = {publish.pinterest_pin_id for publish in found}
        return Keep(is_double=bool(ids - {pin.pinterest_pin_id}))
    if found:
        return found[-1]
    last = attempts[-1]
    match last.outcome:
        case None:
            return Confirm(last.attempt_id, last.deadline_at)
        case AttemptOutcome.UNCONFIRMED:
            return LeaveUnconfirmed(last.settled_at or last.deadline_at)
        case _:
            is_settled = pin.state in UNSETTLED_STATES and not has_later_unsettled
            return QueueAgain() if is_settled else Keep()
