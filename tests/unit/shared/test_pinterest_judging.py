"""Pinterest's answers are judged by the status, then the code, then the message."""

import pytest

from shared.pinterest.failures import Cause
from shared.pinterest.judging import is_answer_lost, is_app_refused, judge


@pytest.mark.parametrize(
    ("status", "code", "message", "cause"),
    [
        (401, 2, "Authentication failed.", Cause.TOKEN),
        (401, 28, "Refresh token expired", Cause.TOKEN),
        (401, 401, "Unauthorized", Cause.TOKEN),
        (401, None, "", Cause.TOKEN),
        (401, 3, "Your app does not have the required scopes", Cause.SCOPE),
        (401, 7, "Not authorized to access the board", Cause.PERMISSION),
        (403, 29, "Apps with Trial access may not create Pins in production", Cause.APP),
        (403, 29, "You are not permitted to access that resource.", Cause.PERMISSION),
        (403, 403, "Forbidden", Cause.PERMISSION),
        (403, 233, "Image too small", Cause.CONTENT),
        (403, 235, "Image broken", Cause.CONTENT),
        (404, 40, "Board not found.", Cause.NOT_FOUND),
        (404, 50, "Pin not found.", Cause.NOT_FOUND),
        (404, 2031, "Board section not found.", Cause.NOT_FOUND),
        (429, 8, "Your request limit was exceeded", Cause.RATE_LIMIT),
        (429, None, "", Cause.RATE_LIMIT),
        (429, 8, "You've hit a block we have in place to combat spam", Cause.SPAM_BLOCK),
        (429, 9, "Try again later", Cause.SPAM_BLOCK),
        (400, 9, "Try again later", Cause.SPAM_BLOCK),
        (403, 9, "Try again later", Cause.SPAM_BLOCK),
        (400, 1, "Sorry we could not fetch the image.", Cause.FETCH),
        (400, 1, "We were unable to reach the URL", Cause.FETCH),
        (400, 1, "Invalid URL", Cause.CONTENT),
        (400, 400, "Could not fetch", Cause.CONTENT),
        (400, 12, "Something went wrong", Cause.CONTENT),
        (409, 409, "Can't lock the board", Cause.CONTENT),
        (418, None, "", Cause.CONTENT),
        (451, 1, "x", Cause.CONTENT),
    ],
)
def test_a_refusal_has_one_cause(status: int, code: int | None, message: str, cause: Cause) -> None:
    assert not is_answer_lost(status, code)
    assert judge(status, code, message) is cause


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, None), (500, 9), (503, 8), (400, 2787), (429, 2787), (408, None), (302, None), (600, 1)],
)
def test_an_answer_that_proves_nothing_is_lost(status: int, code: int | None) -> None:
    assert is_answer_lost(status, code)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [(401, 2, True), (401, 283, False), (401, None, False), (400, 2, False)],
)
def test_only_a_refused_app_is_the_operators_fault(
    status: int, code: int | None, *, expected: bool
) -> None:
    assert is_app_refused(status, code) is expected
