"""Defines how a call to Pinterest fails: what the failure proves, and the cause of a refusal.

PinterestFailure
├── NotSent       the request never left: nothing happened, try again later
├── AnswerLost    Pinterest may have done it or not: a write is never repeated blindly
└── Refused       a definite answer: nothing happened, and `cause` says why
"""

from enum import StrEnum, auto

from shared.contract.errors import PinflowError


class Cause(StrEnum):
    """The cause of a refusal, judged by the status, then the code, then the message."""

    TOKEN = auto()
    """The access token is expired, revoked or of another host (401)."""
    SCOPE = auto()
    """The token lacks a right (401 with code 3)."""
    APP = auto()
    """The app may not do this at all: a Trial app that creates pins (403 with code 29)."""
    PERMISSION = auto()
    """Not permitted (403 otherwise): a lookup of the board tells whether the board is the cause."""
    NOT_FOUND = auto()
    """The board, section, pin or medium does not exist (404)."""
    RATE_LIMIT = auto()
    """Too many requests (429)."""
    SPAM_BLOCK = auto()
    """The account is blocked for hours because its activity looks like spam (code 9)."""
    FETCH = auto()
    """Pinterest could not fetch an image or a page (code 1 with such a message)."""
    CONTENT = auto()
    """Anything else that is wrong with the request (400 and other 4xx)."""


class PinterestFailure(PinflowError):
    """A call to Pinterest failed. `operation` is its name in Pinterest's API description."""

    def __init__(self, operation: str, message: str) -> None:
        super().__init__(message)
        self.operation = operation
        self.message = message


class NotSent(PinterestFailure):
    """No connection was made: Pinterest surely did not receive the request."""


class AnswerLost(PinterestFailure):
    """Timeout, cut connection, 5xx, code 2787, or an answer that can't be read."""


class Refused(PinterestFailure):
    """Pinterest answered 4xx, so it surely did not do what the request asked for."""

    def __init__(
        self,
        operation: str,
        message: str,
        *,
        status: int,
        code: int | None,
        cause: Cause,
        request_id: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(operation, message)
        self.status = status
        self.code = code
        self.cause = cause
        self.request_id = request_id
        """Pinterest's id of the request (x-pinterest-rid), for questions to its support."""
        self.retry_after_seconds = retry_after_seconds
