"""Pauses: how long, and how they grow."""

from datetime import UTC, datetime, timedelta

import pytest

from services.publisher.delivery.accounts.pauses import (
    CONFIRMING_CODES,
    NOT_PAUSED,
    AppState,
    PauseCause,
    PauseState,
    compute_fetch_delay,
    grow,
    judge_app,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
EARLIER, LATER = NOW - timedelta(seconds=1), NOW + timedelta(days=2)


def pause_seconds(
    state: PauseState, cause: PauseCause, seconds: float | None = None
) -> float | None:
    pause = grow(state, cause, NOW, seconds=seconds)
    return None if pause is None else (pause.until - NOW).total_seconds()


@pytest.mark.parametrize(
    ("cause", "hours"), [(PauseCause.SPAM_BLOCK, [1, 4, 12, 24, 24])], ids=["spam"]
)
def test_spam_blocks_grow_to_a_day(cause: PauseCause, hours: list[int]) -> None:
    state, lengths = NOT_PAUSED, []
    for _ in hours:
        pause = grow(state, cause, NOW)
        assert pause is not None
        lengths.append((pause.until - NOW).total_seconds() / 3600)
        state = PauseState(EARLIER, pause.code, pause.step)
    assert lengths == hours


def test_an_unreachable_pinterest_is_asked_again_within_a_minute() -> None:
    lengths = [
        pause_seconds(PauseState(EARLIER, "pinterest_unavailable", step), PauseCause.UNAVAILABLE)
        for step in range(7)
    ]
    assert lengths == [5, 10, 20, 40, 60, 60, 60]


def test_requests_that_were_in_flight_do_not_make_a_pause_grow() -> None:
    running = PauseState(NOW + timedelta(seconds=4), "pinterest_unavailable", 1)
    assert grow(running, PauseCause.UNAVAILABLE, NOW) is None


def test_a_rate_limit_lasts_as_long_as_pinterest_says_and_keeps_the_steps_of_spam() -> None:
    assert pause_seconds(NOT_PAUSED, PauseCause.RATE_LIMIT) == 60
    pause = grow(PauseState(EARLIER, "rate_limited", 2), PauseCause.RATE_LIMIT, NOW, seconds=7)
    assert pause is not None
    assert ((pause.until - NOW).total_seconds(), pause.step) == (7, 2)


def test_a_pause_of_another_code_begins_with_the_first_step() -> None:
    assert pause_seconds(PauseState(EARLIER, "token_revoked", 3), PauseCause.SPAM_BLOCK) == 3600


def test_a_longer_pause_is_never_shortened() -> None:
    assert grow(PauseState(LATER, "quota_exceeded", 0), PauseCause.UNAVAILABLE, NOW) is None


def test_a_block_by_pinterest_replaces_a_longer_pause_for_new_pins_only() -> None:
    assert pause_seconds(PauseState(LATER, "quota_exceeded", 0), PauseCause.SPAM_BLOCK) == 3600
    assert pause_seconds(PauseState(LATER, "rate_limited", 2), PauseCause.RATE_LIMIT) is None
    assert pause_seconds(PauseState(LATER, "token_revoked", 1), PauseCause.SPAM_BLOCK) is None


def test_an_image_that_cant_be_fetched_is_tried_again_after_minutes_then_an_hour() -> None:
    assert [compute_fetch_delay(tries) / 60 for tries in (1, 2, 3, 4)] == [2, 10, 60, 60]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (NOT_PAUSED, AppState.OPEN),
        (PauseState(LATER, "pinterest_unavailable", 1), AppState.PAUSED),
        (PauseState(LATER, "app_not_approved", 0), AppState.PAUSED_FOR_PINS),
        (PauseState(LATER, "quota_exceeded", 0), AppState.PAUSED_FOR_PINS),
        (PauseState(EARLIER, "app_not_approved", 0), AppState.PROBING),
    ],
)
def test_an_app_pause_for_new_pins_lets_attempts_be_confirmed(
    state: PauseState, expected: AppState
) -> None:
    assert judge_app(NOW, state) is expected


def test_the_third_consecutive_lost_answer_pauses_the_account_and_the_pauses_grow() -> None:
    state, lengths = NOT_PAUSED, []
    for _ in range(8):
        pause = grow(state, PauseCause.ANSWERS_LOST, NOW)
        assert pause is not None
        lengths.append((pause.until - NOW).total_seconds())
        state = PauseState(EARLIER, pause.code, pause.step)
    assert lengths == [0, 0, 30, 60, 120, 300, 900, 900]


def test_a_lost_answer_that_only_counts_is_over_at_once() -> None:
    pause = grow(NOT_PAUSED, PauseCause.ANSWERS_LOST, NOW)
    assert pause is not None
    counted = PauseState(pause.until, pause.code, pause.step)
    following = grow(counted, PauseCause.ANSWERS_LOST, NOW)
    assert following is not None, "not even at the same instant is it a pause that runs"
    assert (following.until, following.step) == (NOW, 2)


def test_a_lost_answer_since_a_block_keeps_the_steps_of_blocks_and_pauses_the_account() -> None:
    state = PauseState(EARLIER, "rate_limited", 2)
    for _ in range(3):
        pause = grow(state, PauseCause.ANSWERS_LOST, NOW)
        assert pause is not None
        assert ((pause.until - NOW).total_seconds(), pause.code, pause.step) == (
            60,
            "rate_limited",
            2,
        )
        state = PauseState(EARLIER, pause.code, pause.step)
    assert pause_seconds(state, PauseCause.SPAM_BLOCK) == 12 * 3600
    running = PauseState(LATER, "rate_limited", 2)
    assert grow(running, PauseCause.ANSWERS_LOST, NOW) is None


def test_a_lost_answer_after_a_limit_without_steps_only_counts() -> None:
    assert pause_seconds(PauseState(EARLIER, "rate_limited", 0), PauseCause.ANSWERS_LOST) == 0


def test_a_wait_for_a_token_does_not_end_a_row_of_lost_answers() -> None:
    waiting = grow(PauseState(EARLIER, "pinterest_unavailable", 2), PauseCause.TOKEN_WAIT, NOW)
    assert waiting is not None
    assert waiting.step == 2


def test_attempts_are_confirmed_during_the_pauses_that_do_not_need_a_person() -> None:
    codes = {str(cause.code) for cause in PauseCause}
    assert codes - set(CONFIRMING_CODES) == {"token_revoked", "scope_missing"}
