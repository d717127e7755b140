"""Translates failures of connections and of calls to Pinterest into errors of the API."""

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import assert_never, get_args

from services.access.connections.budgets import BudgetUsedUp
from services.access.connections.model import AccountMismatch, NotConnected, PinterestOff
from services.access.connections.vault import TokenKeyMissing
from shared.contract.errors import ApiError, ErrorCode, Overloaded
from shared.contract.pins import make_printable
from shared.pinterest.failures import AnswerLost, Cause, NotSent, Refused

MAX_MESSAGE_LENGTH = 300
"""Characters of Pinterest's message that an answer contains."""
UNAVAILABLE_SECONDS = 5
MINUTE_SECONDS, HOUR_SECONDS = 60, 3600
APP_LIMIT_SECONDS = 6 * HOUR_SECONDS
"""Longer waits are for a limit of the app, which is per day. Those of an account are shorter."""
RATE_LIMIT_SECONDS = 60
"""Used if Pinterest does not say how long to wait. Its limits are per minute."""
SPAM_BLOCK_SECONDS = 3600
"""Used if Pinterest does not say how long to wait. Such a block lasts for hours."""


Failure = (
    NotSent | AnswerLost | Refused | TokenKeyMissing | NotConnected | PinterestOff | AccountMismatch
)


@contextmanager
def answer_failures(
    *,
    board_id: str | None = None,
    missing_scopes: Collection[str] = (),
    asked_scopes: Collection[str] | None = None,
) -> Iterator[None]:
    """Raises ApiError for every failure of the calls inside.

    The parameters are for the messages. `asked_scopes` are the rights that the settings ask for.
    """
    try:
        yield
    except get_args(Failure) as failure:
        raise build_api_error(
            failure, board_id=board_id, missing_scopes=missing_scopes, asked_scopes=asked_scopes
        ) from failure


def build_api_error(
    failure: Failure,
    *,
    board_id: str | None = None,
    missing_scopes: Collection[str] = (),
    asked_scopes: Collection[str] | None = None,
) -> ApiError:
    """Builds the error of the API that a failure of a connection or of a call is answered with."""
    match failure:
        case NotSent() | AnswerLost():
            return _unavailable("Pinterest does not answer. Try again.")
        case Refused():
            return _build_refusal(failure, board_id, missing_scopes, asked_scopes)
        case TokenKeyMissing():
            return _unavailable(
                "The operator has to add the key that encrypted the account's tokens: see "
                "PINFLOW_PINTEREST_TOKEN_KEYS in docs/how-to/connect-pinterest.md."
            )
        case NotConnected():
            return _conflict(ErrorCode.ACCOUNT_NOT_CONNECTED, str(failure))
        case PinterestOff():
            return _conflict(
                ErrorCode.PINTEREST_OFF,
                "This installation is not connected to Pinterest. The operator has to set up an "
                "app: docs/how-to/connect-pinterest.md.",
            )
        case AccountMismatch():
            return _conflict(ErrorCode.ACCOUNT_MISMATCH, str(failure))
        case _ as unknown:
            assert_never(unknown)


def quote(message: str) -> str:
    """Makes a text of Pinterest, or of a callback, fit for a message: printable, on one line."""
    printable = "".join(
        character if character.isprintable() else " " for character in make_printable(message, 2000)
    )
    return " ".join(printable.split())[:MAX_MESSAGE_LENGTH]


def quote_reason(refusal: Refused) -> str:
    """Quotes Pinterest's message without the full stop, for the middle of a text."""
    return quote(refusal.message).rstrip(".")


def _build_refusal(
    refusal: Refused,
    board_id: str | None,
    missing_scopes: Collection[str],
    asked_scopes: Collection[str] | None,
) -> ApiError:
    match refusal.cause:
        case Cause.TOKEN:
            return _token_expired()
        case Cause.SCOPE:
            return _scope_missing(missing_scopes, asked_scopes)
        case Cause.APP:
            return _conflict(
                ErrorCode.APP_NOT_APPROVED,
                "Pinterest does not let this installation's app do this: "
                f"{quote_reason(refusal)}. Ask the operator, who manages the app.",
            )
        case Cause.PERMISSION | Cause.NOT_FOUND:
            return _build_board_error(refusal.cause, board_id)
        case Cause.RATE_LIMIT | Cause.SPAM_BLOCK:
            return _rate_limited(refusal)
        case Cause.FETCH | Cause.CONTENT:
            return ApiError(
                ErrorCode.PINTEREST_REFUSED,
                f"Pinterest refused the request: {quote_reason(refusal)}. Correct it, then send "
                "it again.",
            )
        case _ as unknown:
            assert_never(unknown)


def _build_board_error(cause: Cause, board_id: str | None) -> ApiError:
    board = "the board" if board_id is None else f"board {quote(board_id)}"
    if cause is Cause.PERMISSION:
        return _conflict(
            ErrorCode.BOARD_ACCESS_DENIED,
            f"Pinterest does not let this account use {board}. Ask its owner for access, or use "
            "another board.",
        )
    return ApiError(
        ErrorCode.BOARD_NOT_FOUND,
        f"Pinterest does not know {board} for this account. GET /v1/pinterest/boards lists the "
        "account's boards.",
        HTTPStatus.NOT_FOUND,
    )


def _rate_limited(refusal: Refused) -> ApiError:
    is_short = refusal.cause is Cause.RATE_LIMIT
    default = RATE_LIMIT_SECONDS if is_short else SPAM_BLOCK_SECONDS
    seconds = refusal.retry_after_seconds or default
    whose = "this installation's app" if seconds > APP_LIMIT_SECONDS else "this account"
    wait = _describe_wait(seconds)
    message = f"Pinterest takes no more requests of {whose} for {wait}. Try again after that."
    if isinstance(refusal, BudgetUsedUp):
        message = (
            f"Pinflow sends no more requests of {whose} to Pinterest for {wait}, to stay below its "
            "limits. Try again after that."
        )
    return Overloaded(ErrorCode.RATE_LIMITED, message, retry_after=seconds)


def _describe_wait(seconds: int) -> str:
    """Rounds up to minutes or hours if the wait is long."""
    if seconds <= 5 * MINUTE_SECONDS:
        return f"{seconds} s"
    if seconds <= 2 * HOUR_SECONDS:
        return f"{math.ceil(seconds / MINUTE_SECONDS)} min"
    return f"{math.ceil(seconds / HOUR_SECONDS)} h"


def _scope_missing(
    missing_scopes: Collection[str], asked_scopes: Collection[str] | None
) -> ApiError:
    scopes = sorted(missing_scopes)
    if not scopes:
        message = (
            "Pinterest says that the account lacks a right, but it has all that this installation "
            "asks for. Ask the operator, who manages the app."
        )
    elif asked_scopes is not None and (unasked := [s for s in scopes if s not in asked_scopes]):
        what = "Secret boards need" if "boards:write_secret" in unasked else "This needs"
        message = (
            f"{what} {_name_rights(unasked)}, which this installation does not ask for. The "
            "operator adds them to PINFLOW_PINTEREST_SCOPES; then connect the account again."
        )
    else:
        message = (
            f"The account lacks {_name_rights(scopes)} at Pinterest. Connect it again and allow "
            "everything that is asked for."
        )
    return ApiError(ErrorCode.SCOPE_MISSING, message, HTTPStatus.CONFLICT, missing_scopes=scopes)


def _name_rights(scopes: Sequence[str]) -> str:
    return f"the right{'' if len(scopes) == 1 else 's'} {' and '.join(scopes)}"


def _token_expired() -> ApiError:
    return _conflict(
        ErrorCode.TOKEN_EXPIRED,
        "Pinterest does not accept the tokens of this account any more. Connect it again.",
    )


def _conflict(code: ErrorCode, message: str) -> ApiError:
    return ApiError(code, message, HTTPStatus.CONFLICT)


def _unavailable(message: str) -> ApiError:
    return ApiError(
        ErrorCode.PINTEREST_UNAVAILABLE,
        message,
        HTTPStatus.SERVICE_UNAVAILABLE,
        headers={"Retry-After": str(UNAVAILABLE_SECONDS)},
    )
