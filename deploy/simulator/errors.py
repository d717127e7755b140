"""Defines the errors that several parts of the simulator answer, as Pinterest does."""

from collections.abc import Mapping
from dataclasses import dataclass

SCOPE_MISSING = 3


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """An error: its status, Pinterest's code and its message."""

    status: int
    code: int
    message: str
    reset_seconds: int | None = None
    """The wait that a rate limit's headers name."""


class RefusedCall(Exception):
    """An answer with an error. Nothing was changed: the call's transaction is rolled back."""

    def __init__(
        self, status: int, code: int, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


AUTHENTICATION_FAILED = ErrorAnswer(401, 2, "Authentication failed.")
NOT_PERMITTED = ErrorAnswer(403, 29, "You are not permitted to access that resource.")
TRIAL_APP = ErrorAnswer(
    403,
    29,
    "Apps with Trial access may not create Pins in production https://api.pinterest.com - use API "
    "Sandbox https://api-sandbox.pinterest.com instead.",
)
FETCH_FAILED = ErrorAnswer(400, 1, "Sorry we could not fetch the image.")
IMAGE_SMALL = ErrorAnswer(403, 233, "The image is too small.")
IMAGE_BROKEN = ErrorAnswer(403, 235, "The image is broken.")
RATE_LIMITED = ErrorAnswer(429, 8, "You have exceeded your rate limit. Try again later.")


def refuse(error: ErrorAnswer, headers: Mapping[str, str] | None = None) -> RefusedCall:
    return RefusedCall(error.status, error.code, error.message, headers)


def invalid(message: str) -> RefusedCall:
    return RefusedCall(400, 1, f"Invalid request: {message}")


def restricted(feature: str) -> RefusedCall:
    """Refuses what Pinterest allows to few apps."""
    return RefusedCall(401, SCOPE_MISSING, f"This feature is restricted: {feature}.")
