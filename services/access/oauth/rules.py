"""Decides what became of an attempt to connect an account. Does no I/O."""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from uuid import UUID

from shared.access.model import Principal
from shared.contract.errors import ApiError, ErrorCode

START_AGAIN = "Start the connection again."
"""Without an address: users read it on the callback's page, too."""
RETRY_AFTER_SECONDS = 5

_STATUSES = {
    ErrorCode.OAUTH_DENIED: HTTPStatus.BAD_REQUEST,
    ErrorCode.PINTEREST_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ErrorCode.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
}
"""The status of a failed attempt's code. Others: 409."""


class AttemptStatus(StrEnum):
    """The status of an attempt to connect an account."""

    PENDING = "pending"
    """The user has not come back from Pinterest, or is just being connected."""
    CONNECTED = "connected"
    FAILED = "failed"
    EXPIRED = "expired"
    """The user did not come back in time, or Pinflow stopped meanwhile."""


def find_status(attempt: Mapping[str, Any]) -> AttemptStatus:
    """Returns the status of an attempt's row. `is_expired` is by the database's clock."""
    if attempt["connected_account_id"] is not None:
        return AttemptStatus.CONNECTED
    if attempt["error_code"] is not None:
        return AttemptStatus.FAILED
    return AttemptStatus.EXPIRED if attempt["is_expired"] else AttemptStatus.PENDING


def answer_again(attempt: Mapping[str, Any]) -> UUID:
    """Answers a callback that is not the first one of its attempt.

    Returns the connected account. Raises ApiError: the first answer's error, or 409.
    """
    match find_status(attempt):
        case AttemptStatus.CONNECTED:
            return UUID(str(attempt["connected_account_id"]))
        case AttemptStatus.FAILED:
            raise failed(ErrorCode(attempt["error_code"]), attempt["error_message"])
        case AttemptStatus.EXPIRED:
            message = f"The attempt to connect an account has expired. {START_AGAIN}"
        case AttemptStatus.PENDING:
            message = (
                "The attempt to connect an account is being processed right now. Wait for its "
                f"end: GET /v1/pinterest/oauth/attempts/{attempt['id']}."
            )
    raise ApiError(ErrorCode.OAUTH_STATE_USED, message, HTTPStatus.CONFLICT)


def failed(code: ErrorCode, message: str, details: Mapping[str, Any] | None = None) -> ApiError:
    """Builds the error of an attempt that has failed for good. Later answers lack `details`."""
    status = _STATUSES.get(code, HTTPStatus.CONFLICT)
    waits = status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if waits else None
    return ApiError(code, message, status, headers=headers, **(details or {}))


def answer_lost() -> ApiError:
    """Builds the error of an attempt whose code is spent, but nobody knows for what."""
    return failed(
        ErrorCode.PINTEREST_UNAVAILABLE,
        f"The answer of Pinterest was lost. Nothing was connected. {START_AGAIN}",
    )


def app_not_accepted() -> ApiError:
    """Builds the error of a grant that Pinterest refused because of the app's id or secret."""
    return failed(
        ErrorCode.APP_NOT_ACCEPTED,
        "Pinterest does not accept this installation's app. Nothing was connected. Ask the "
        "operator to check the app's id and secret.",
    )


def denied(message: str) -> ApiError:
    return failed(ErrorCode.OAUTH_DENIED, message)


def require_permitted_target(principal: Principal, account_id: UUID | None) -> None:
    """Raises ApiError (403) if the key is limited to accounts and none is named.

    Otherwise such a key could add an account to the workspace.
    """
    if account_id is None and principal.account_ids is not None:
        raise ApiError(
            ErrorCode.ACCOUNT_NOT_PERMITTED,
            "Your API key is limited to some accounts, so it can't add another one. Send the "
            "account_id of the account to connect.",
            HTTPStatus.FORBIDDEN,
        )


def permits_attempt(principal: Principal, attempt: Mapping[str, Any]) -> bool:
    """Returns whether a key may see an attempt of its workspace."""
    if principal.account_ids is None:
        return True
    return attempt["account_id"] is not None and principal.permits(attempt["account_id"])
