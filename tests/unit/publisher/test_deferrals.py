"""The reason why a queued pin is deferred, and the statuses of pins and schedules."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.publisher.model import PinState
from services.publisher.pins.deferrals import NO_PAUSES, Pauses, PinDeferral, find_deferral
from services.publisher.pins.statuses import translate_pin_state, translate_schedule_state

NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
ACCOUNT = UUID(int=1)


def pin(**fields: Any) -> dict[str, Any]:
    return {
        "state": "queued",
        "account_id": ACCOUNT,
        "deliver_after": None,
        "deferral_code": None,
        **fields,
    }


def pause(code: str, minutes: int) -> PinDeferral:
    return PinDeferral(code, f"The cause is {code}.", NOON + timedelta(minutes=minutes))


def test_a_queued_pin_without_a_pause_is_not_deferred() -> None:
    pauses = Pauses(None, {UUID(int=2): pause("rate_limited", 5)})
    assert find_deferral(pin(), pauses, NOON) is None


@pytest.mark.parametrize("state", [state for state in PinState if state != "queued"])
def test_only_queued_pins_are_deferred(state: PinState) -> None:
    pauses = Pauses(pause("app_not_approved", 5), {ACCOUNT: pause("rate_limited", 5)})
    assert find_deferral(pin(state=state), pauses, NOON) is None


def test_the_accounts_pause_is_named_first_and_the_longest_one_counts() -> None:
    pauses = Pauses(pause("pinterest_unavailable", 30), {ACCOUNT: pause("token_revoked", 1)})
    deferral = find_deferral(pin(), pauses, NOON)
    assert deferral == PinDeferral(
        "token_revoked",
        "The cause is token_revoked. After that, Pinflow sends it, but not before "
        "2026-11-30T12:30:00Z.",
        NOON + timedelta(minutes=30),
    )


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("token_revoked", "After that, it is sent within a minute."),
        ("token_expired", "After that, it is sent within a minute."),
        ("scope_missing", "After that, it is sent within a minute."),
        ("rate_limited", "Pinflow does not send it before 2026-11-30T12:05:00Z."),
    ],
)
def test_a_pause_that_a_person_has_to_end_has_no_time(code: str, end: str) -> None:
    deferral = find_deferral(pin(), Pauses(None, {ACCOUNT: pause(code, 5)}), NOON)
    assert deferral is not None
    assert deferral.message == f"The cause is {code}. {end}"


def test_an_app_that_is_not_approved_is_tried_within_ten_minutes() -> None:
    deferral = find_deferral(pin(), Pauses(pause("app_not_approved", 5), {}), NOON)
    assert deferral is not None
    assert deferral.message.endswith("After that, it is sent within ten minutes.")


def test_a_pin_may_wait_for_its_own_image() -> None:
    waiting = pin(deliver_after=NOON + timedelta(hours=1), deferral_code="media_unreachable")
    deferral = find_deferral(waiting, NO_PAUSES, NOON)
    assert deferral is not None
    assert (deferral.code, deferral.until) == ("media_unreachable", NOON + timedelta(hours=1))
    assert "could not be fetched" in deferral.message
    assert find_deferral(pin(deliver_after=NOON), NO_PAUSES, NOON) is None


@pytest.mark.parametrize(
    ("state", "is_deferred", "pin_status", "schedule_status"),
    [
        ("queued", False, "queued", "queued"),
        ("queued", True, "deferred", "deferred"),
        ("publishing", False, "publishing", "running"),
        ("confirming", False, "publishing", "running"),
        ("published", False, "published", "done"),
        ("failed", False, "failed", "failed"),
        ("scheduled", False, "queued", "queued"),
    ],
)
def test_states_are_shown_with_the_words_of_pinbridge(
    state: str, is_deferred: bool, pin_status: str, schedule_status: str
) -> None:
    assert translate_pin_state(state, is_deferred=is_deferred) == pin_status
    shown = translate_schedule_state(state, is_due=True, is_deferred=is_deferred)
    assert shown == schedule_status


def test_a_pin_that_waits_for_its_video_to_be_uploaded_is_not_deferred() -> None:
    waiting = pin(deliver_after=NOON + timedelta(minutes=10))
    assert find_deferral(waiting, NO_PAUSES, NOON) is None
