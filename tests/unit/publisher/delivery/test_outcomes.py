"""The meaning of a failed POST /pins, for each cause."""

from http import HTTPStatus

import pytest

from services.publisher.delivery.accounts import pauses
from services.publisher.delivery.attempts.outcomes import (
    ConfirmPin,
    DeferPin,
    FailPin,
    LookUpBoard,
    Meaning,
    PauseAccount,
    PauseApp,
    PinHistory,
    RefreshToken,
    decide_failure,
    decide_media_failure,
)
from services.publisher.delivery.media_failures import (
    MediaPending,
    MediaRejected,
    MediaUnreachable,
)
from shared.contract.errors import ErrorCode
from shared.pinterest.failures import AnswerLost, Cause, NotSent, Refused

OPERATION = "pins/create"


def decide(
    cause: Cause, *, code: int | None = None, retry_after: int | None = None, **history: int
) -> Meaning:
    refused = Refused(
        OPERATION,
        "the reason",
        status=HTTPStatus.BAD_REQUEST,
        code=code,
        cause=cause,
        retry_after_seconds=retry_after,
    )
    return decide_failure(refused, PinHistory(**history), 5)  # type: ignore[arg-type]


def code_of(meaning: Meaning) -> str:
    assert isinstance(meaning, FailPin)
    return meaning.failure.error_code


def test_a_lost_answer_is_confirmed_and_an_unsent_request_pauses_the_app() -> None:
    """Invariant: only a pin that was surely not made is queued again."""
    history = PinHistory()
    assert decide_failure(AnswerLost(OPERATION, "cut"), history, 5) == ConfirmPin("cut")
    assert decide_failure(NotSent(OPERATION, "no route"), history, 5) == PauseApp(
        pauses.PauseCause.UNAVAILABLE
    )


@pytest.mark.parametrize(
    ("cause", "code", "expected"),
    [
        (Cause.CONTENT, 1, ErrorCode.VALIDATION_ERROR),
        (Cause.CONTENT, 233, ErrorCode.MEDIA_REJECTED),
        (Cause.CONTENT, 235, ErrorCode.MEDIA_REJECTED),
        (Cause.NOT_FOUND, 40, ErrorCode.BOARD_NOT_FOUND),
    ],
)
def test_what_is_wrong_with_a_pin_fails_it_with_pinterests_message(
    cause: Cause, code: int, expected: ErrorCode
) -> None:
    meaning = decide(cause, code=code)
    assert code_of(meaning) == expected
    assert isinstance(meaning, FailPin)
    assert "the reason" in meaning.failure.error_message


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        (Cause.RATE_LIMIT, PauseAccount(pauses.PauseCause.RATE_LIMIT, 7)),
        (Cause.SPAM_BLOCK, PauseAccount(pauses.PauseCause.SPAM_BLOCK)),
        (Cause.SCOPE, PauseAccount(pauses.PauseCause.SCOPE)),
        (Cause.APP, PauseApp(pauses.PauseCause.APP)),
        (Cause.TOKEN, RefreshToken()),
    ],
)
def test_what_concerns_the_account_or_the_app_fails_no_pin(cause: Cause, expected: Meaning) -> None:
    """Invariant: a dead token never fails a thousand pins."""
    assert decide(cause, retry_after=7) == expected


def test_a_token_is_refreshed_once() -> None:
    assert decide(Cause.TOKEN, is_refreshed=True) == PauseAccount(pauses.PauseCause.TOKEN)


def test_a_refusal_that_may_concern_the_board_is_looked_up() -> None:
    assert isinstance(decide(Cause.PERMISSION), LookUpBoard)


def test_an_image_is_tried_five_times() -> None:
    deferred = decide(Cause.FETCH, fetch_tries=3)
    assert isinstance(deferred, DeferPin)
    assert deferred.code is ErrorCode.MEDIA_UNREACHABLE
    assert code_of(decide(Cause.FETCH, fetch_tries=4)) == ErrorCode.MEDIA_UNREACHABLE


def test_every_cause_has_a_meaning() -> None:
    for cause in Cause:
        decide(cause)


def test_a_video_that_is_not_ready_is_no_deferral_and_no_try() -> None:
    pending = decide_media_failure(MediaPending("not ready", 600), PinHistory(4), 5)
    assert pending == DeferPin(600, None, "not ready")


def test_a_medium_that_pinflow_cant_fetch_counts_as_a_try() -> None:
    assert isinstance(decide_media_failure(MediaUnreachable("timeout"), PinHistory(0), 5), DeferPin)
    assert code_of(decide_media_failure(MediaUnreachable("timeout"), PinHistory(4), 5)) == (
        ErrorCode.MEDIA_UNREACHABLE
    )
    assert code_of(decide_media_failure(MediaRejected("a GIF"), PinHistory(), 5)) == (
        ErrorCode.MEDIA_REJECTED
    )
