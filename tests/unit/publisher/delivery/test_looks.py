"""Decisions after a look at a board."""

from datetime import UTC, datetime, timedelta

import pytest

from services.publisher.delivery.confirming.looks import (
    MAX_BACKOFF_SECONDS,
    MAX_REFUSED_LOOKS,
    MAX_UNSETTLED,
    Adopt,
    GiveUp,
    LookAgain,
    LookDecision,
    SendAgain,
    compute_backoff,
    decide_look,
    decide_unread,
)
from services.publisher.delivery.confirming.matching import (
    Found,
    Match,
    NotFound,
    Similar,
    Undecidable,
)

NOW = datetime(2026, 9, 1, tzinfo=UTC)


def decide(found: Match, seconds_since_absent: float | None = None) -> LookDecision:
    absent_at = None
    if seconds_since_absent is not None:
        absent_at = NOW - timedelta(seconds=seconds_since_absent)
    return decide_look(found, absent_at=absent_at, looked_at=NOW, confirm_seconds=120)


@pytest.mark.parametrize("since", [None, 10, 200])
def test_a_found_pin_is_adopted_at_any_look(since: float | None) -> None:
    assert decide(Found("7"), since) == Adopt("7")


@pytest.mark.parametrize("found", [NotFound(), Similar()])
def test_the_first_look_never_decides_that_a_pin_is_absent(found: Match) -> None:
    assert decide(found) == LookAgain(120)


@pytest.mark.parametrize("found", [NotFound(), Similar()])
def test_two_looks_are_at_least_the_given_time_apart(found: Match) -> None:
    assert decide(found, 100) == LookAgain(20)


def test_a_pin_that_two_looks_do_not_find_is_sent_again() -> None:
    assert decide(NotFound(), 120) == SendAgain()


def test_a_similar_pin_is_never_sent_again() -> None:
    decision = decide(Similar(), 120)
    assert isinstance(decision, GiveUp)
    assert decision.failure.error_code == "publish_unconfirmed"
    assert "may_double=true" in decision.failure.error_message


def test_an_undecidable_list_is_given_up_at_once() -> None:
    assert isinstance(decide(Undecidable("…")), GiveUp)


def unread(tries: int = 0, *, later: timedelta = timedelta(), is_refused: bool = False) -> object:
    return decide_unread(tries=tries, looked_at=NOW + later, deadline_at=NOW, is_refused=is_refused)


def test_a_board_that_can_not_be_read_is_asked_again_for_days() -> None:
    assert unread() == 5
    assert unread(9, later=MAX_UNSETTLED) == MAX_BACKOFF_SECONDS
    assert isinstance(unread(9, later=MAX_UNSETTLED * 1.01), GiveUp)


def test_a_board_that_pinterest_refuses_to_list_is_given_up_after_some_looks() -> None:
    assert unread(MAX_REFUSED_LOOKS - 2, is_refused=True) == 80
    assert isinstance(unread(MAX_REFUSED_LOOKS - 1, is_refused=True), GiveUp)


def test_backoff_doubles_up_to_its_maximum() -> None:
    assert [compute_backoff(tries) for tries in (0, 1, 2)] == [5, 10, 20]
    assert compute_backoff(10_000) == MAX_BACKOFF_SECONDS
