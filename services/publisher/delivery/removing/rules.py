"""Decides what follows an attempt to delete a pin on Pinterest. No I/O.

A deletion may be repeated: Pinterest answers 404 if the pin is gone already.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Final, TypeAlias
from uuid import UUID

from services.publisher.delivery.accounts.pauses import PauseCause
from services.publisher.delivery.confirming.looks import MAX_BACKOFF_SECONDS, compute_backoff
from services.publisher.model import Failure
from shared.contract.errors import ApiError, ErrorCode, PinflowError
from shared.pinterest.failures import Cause, Refused

MAX_AGE = timedelta(days=7)
"""The age at which a removal that passing failures prevent is given up."""
FINAL_CODES: Final = {
    Cause.PERMISSION: ErrorCode.BOARD_ACCESS_DENIED,
    Cause.CONTENT: ErrorCode.VALIDATION_ERROR,
    Cause.FETCH: ErrorCode.VALIDATION_ERROR,
}
"""The codes of refusals that no further try would change."""
PASSING_CODES: Final = {
    Cause.TOKEN: ErrorCode.TOKEN_EXPIRED,
    Cause.SCOPE: ErrorCode.SCOPE_MISSING,
    Cause.APP: ErrorCode.APP_NOT_APPROVED,
    Cause.RATE_LIMIT: ErrorCode.RATE_LIMITED,
    Cause.SPAM_BLOCK: ErrorCode.RATE_LIMITED,
}
"""The codes of refusals that pass, if they last too long."""
LIMIT_SECONDS: Final = {
    Cause.RATE_LIMIT: PauseCause.RATE_LIMIT.steps[0],
    Cause.SPAM_BLOCK: PauseCause.SPAM_BLOCK.steps[0],
    Cause.SCOPE: MAX_BACKOFF_SECONDS,
    Cause.APP: PauseCause.APP.steps[0],
}
"""The waits if Pinterest names none. Otherwise they grow with each try."""


@dataclass(frozen=True, slots=True)
class Removal:
    """A pin that is to be deleted on Pinterest."""

    pin_id: UUID
    workspace_id: UUID
    account_id: UUID
    pinterest_pin_id: str
    requested_at: datetime
    tries: int
    started_at: datetime
    """When this try began, by the database's clock."""


@dataclass(frozen=True, slots=True)
class Removed:
    """The pin is not on Pinterest any more."""


@dataclass(frozen=True, slots=True)
class RemoveAgain:
    """A passing failure, or one of the account. The removal is tried again."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class RemovalRefused:
    """Pinterest keeps the pin."""

    failure: Failure


RemovalDecision: TypeAlias = Removed | RemoveAgain | RemovalRefused


def decide_removal(removal: Removal, failure: PinflowError | None) -> RemovalDecision:
    """Decides what follows a try. `failure` is None after a success.

    Lost answers, limits and missing tokens are passing: the removal is tried again for days.
    """
    if failure is None:
        return Removed()
    if isinstance(failure, Refused) and failure.cause is Cause.NOT_FOUND:
        return Removed()
    if isinstance(failure, Refused) and failure.cause in FINAL_CODES:
        return RemovalRefused(_describe(FINAL_CODES[failure.cause], failure.message))
    if removal.tries and removal.started_at - removal.requested_at > MAX_AGE:
        return RemovalRefused(_describe(_find_code(failure), str(failure)))
    return RemoveAgain(_compute_wait(removal, failure))


def _compute_wait(removal: Removal, failure: PinflowError) -> float:
    if not isinstance(failure, Refused):
        return compute_backoff(removal.tries)
    if failure.retry_after_seconds:
        return failure.retry_after_seconds
    return LIMIT_SECONDS.get(failure.cause, compute_backoff(removal.tries))


def _find_code(failure: PinflowError) -> str:
    """Returns the code of a failure that lasted too long."""
    if isinstance(failure, ApiError) and failure.status == HTTPStatus.CONFLICT:
        return failure.code  # the account was given up
    if isinstance(failure, Refused):
        return PASSING_CODES.get(failure.cause, ErrorCode.PINTEREST_UNAVAILABLE)
    return ErrorCode.PINTEREST_UNAVAILABLE


def _describe(code: str, reason: str) -> Failure:
    return Failure(
        code,
        f"The pin is still on Pinterest, because it could not be deleted there: {reason} Delete "
        "it on Pinterest itself, or ask again.",
    )
