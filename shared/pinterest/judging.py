"""Judges what Pinterest's answers mean: by the status, then the code, then the message.

Pinterest documents few codes, and uses some of them for several things. The tables hold what its
API description had as examples up to version 5.17 and what users of the API report. No I/O.
"""

from http import HTTPStatus

from shared.pinterest.failures import Cause

SPAM_BLOCK_CODE = 9
UNKNOWN_OUTCOME_CODE = 2787
"""Something went wrong at Pinterest. Whether it did what the request asked for is not known."""
AUTHENTICATION_CODE = 2
SCOPE_CODE = 3
TRIAL_CODE = 29
FETCH_CODE = 1

CAUSES: dict[tuple[int, int], Cause] = {
    (HTTPStatus.UNAUTHORIZED, SCOPE_CODE): Cause.SCOPE,
    # "Not authorized to access the board or pin": another token would not help
    (HTTPStatus.UNAUTHORIZED, 7): Cause.PERMISSION,
    (HTTPStatus.FORBIDDEN, 233): Cause.CONTENT,  # the image is too small
    (HTTPStatus.FORBIDDEN, 235): Cause.CONTENT,  # the image is broken
}
"""The pairs of status and code that mean something else than their status."""

CAUSES_BY_STATUS: dict[int, Cause] = {
    HTTPStatus.UNAUTHORIZED: Cause.TOKEN,
    HTTPStatus.FORBIDDEN: Cause.PERMISSION,
    HTTPStatus.NOT_FOUND: Cause.NOT_FOUND,
    HTTPStatus.TOO_MANY_REQUESTS: Cause.RATE_LIMIT,
}
"""Other statuses mean Cause.CONTENT."""

FETCH_WORDS = ("fetch", "reach", "download")
"""Words of the messages with code 1 about an address that Pinterest could not read."""


def is_answer_lost(status: int, code: int | None) -> bool:
    """Returns whether an answer without success leaves open what Pinterest did.

    408 comes from a server in between, which may have passed the request on.
    """
    return (
        not HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        or status == HTTPStatus.REQUEST_TIMEOUT
        or code == UNKNOWN_OUTCOME_CODE
    )


def judge(status: int, code: int | None, message: str) -> Cause:
    """Returns what a definite refusal (4xx) concerns."""
    words = message.lower()
    if code == SPAM_BLOCK_CODE or (status == HTTPStatus.TOO_MANY_REQUESTS and "spam" in words):
        return Cause.SPAM_BLOCK
    if code == FETCH_CODE and any(word in words for word in FETCH_WORDS):
        return Cause.FETCH
    if status == HTTPStatus.FORBIDDEN and code == TRIAL_CODE and "trial" in words:
        return Cause.APP
    if code is not None and (cause := CAUSES.get((status, code))):
        return cause
    return CAUSES_BY_STATUS.get(status, Cause.CONTENT)


def is_app_refused(status: int, code: int | None) -> bool:
    """Returns whether the token endpoint refused the app's id and secret.

    A code or a refresh token that is invalid has another code.
    """
    return status == HTTPStatus.UNAUTHORIZED and code == AUTHENTICATION_CODE
