"""Decides what attempts that only Kafka had mean for their pin in a restored Postgres."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.publisher.delivery.log.rules import (
    Confirm,
    Keep,
    LeaveUnconfirmed,
    Publish,
    QueueAgain,
    ReadAttempt,
    RestoredPin,
    decide_pin,
)
from services.publisher.delivery.model import AttemptOutcome
from services.publisher.model import PinState

START = datetime(2026, 12, 1, tzinfo=UTC)
UNPUBLISHED = [
    PinState.SCHEDULED,
    PinState.QUEUED,
    PinState.PUBLISHING,
    PinState.CONFIRMING,
    PinState.FAILED,
    PinState.CANCELED,
]


def pin(state: PinState = PinState.QUEUED, **fields: Any) -> RestoredPin:
    values = {"is_delivered": True, "is_deleted": False, "pinterest_pin_id": None, **fields}
    return RestoredPin(state, **values)


def attempt(
    outcome: AttemptOutcome | None = None, pinterest_pin_id: str | None = None, *, minute: int = 0
) -> ReadAttempt:
    started_at = START + timedelta(minutes=minute)
    return ReadAttempt(
        attempt_id=uuid4(),
        started_at=started_at,
        deadline_at=started_at + timedelta(seconds=30),
        outcome=outcome,
        pinterest_pin_id=pinterest_pin_id,
        settled_at=started_at + timedelta(seconds=1) if outcome else None,
    )


CREATED = attempt(AttemptOutcome.CREATED, "813744226420795884")


@pytest.mark.parametrize("state", UNPUBLISHED)
def test_invariant_12_a_pin_that_is_on_pinterest_is_published_with_its_id(state: PinState) -> None:
    published_at = START + timedelta(seconds=1)
    assert decide_pin(pin(state), [CREATED]) == Publish("813744226420795884", published_at)


@pytest.mark.parametrize("state", UNPUBLISHED)
def test_invariant_12_a_pin_that_may_be_on_pinterest_is_confirmed(state: PinState) -> None:
    unsettled = attempt()
    assert decide_pin(pin(state), [unsettled]) == Confirm(
        unsettled.attempt_id, unsettled.deadline_at
    )


SURELY_NOT_MADE = [AttemptOutcome.REFUSED, AttemptOutcome.NOT_SENT, AttemptOutcome.ABSENT]


@pytest.mark.parametrize("outcome", SURELY_NOT_MADE)
def test_a_pin_that_is_surely_not_on_pinterest_stays_queued(outcome: AttemptOutcome) -> None:
    assert decide_pin(pin(), [attempt(outcome)]) == Keep()


@pytest.mark.parametrize("outcome", SURELY_NOT_MADE)
@pytest.mark.parametrize("state", [PinState.PUBLISHING, PinState.CONFIRMING])
def test_an_unsettled_pin_is_queued_again_if_its_last_request_made_none(
    outcome: AttemptOutcome, state: PinState
) -> None:
    assert decide_pin(pin(state), [attempt(outcome)]) == QueueAgain()
    assert decide_pin(pin(state), [attempt(outcome)], has_later_unsettled=True) == Keep()


def test_the_last_attempt_decides() -> None:
    absent, unsettled = attempt(AttemptOutcome.ABSENT), attempt(minute=1)
    assert decide_pin(pin(), [unsettled, absent]) == Confirm(
        unsettled.attempt_id, unsettled.deadline_at
    )


def test_an_id_counts_even_if_a_later_attempt_is_unsettled() -> None:
    assert isinstance(decide_pin(pin(), [attempt(minute=1), CREATED]), Publish)


def test_what_nobody_could_tell_stays_unconfirmed() -> None:
    unconfirmed = attempt(AttemptOutcome.UNCONFIRMED)
    assert decide_pin(pin(), [unconfirmed]) == LeaveUnconfirmed(START + timedelta(seconds=1))


def test_a_published_pin_keeps_its_id() -> None:
    same = pin(PinState.PUBLISHED, pinterest_pin_id="813744226420795884")
    other = pin(PinState.PUBLISHED, pinterest_pin_id="1")
    assert decide_pin(same, [CREATED]) == Keep()
    assert decide_pin(other, [CREATED]) == Keep(is_double=True)


@pytest.mark.parametrize(
    "fields", [{"is_deleted": True}, {"is_delivered": False}], ids=["deleted", "undelivered"]
)
def test_a_deleted_or_undelivered_pin_is_not_changed(fields: dict[str, Any]) -> None:
    assert decide_pin(pin(**fields), [CREATED]) == Keep(is_double=True)
    assert decide_pin(pin(**fields), [attempt()]) == Keep()
