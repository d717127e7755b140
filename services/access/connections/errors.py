"""Translates failures of connections and of calls to Pinterest into errors of the API."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import assert_never, get_args

from services.access.connections.model import AccountMismatch, NotConnected, PinterestOff
from services.access.connections.vault import TokenKeyMissing
from shared.contract.errors import ApiError, ErrorCode, Overloaded
from shared.contract.pins import make_printable
from shared.pinterest.failures import AnswerLost, Cause, NotSent, Refused

MAX_MESSAGE_LENGTH = 300
"""Characters of Pinterest's message that an answer contains."""
UNAVAILABLE_SECONDS = 5
RATE_LIMIT_SECONDS = 60
"""Used if Pinterest does not say how long to wait. Its limits are per minute."""
SPAM_BLOCK_SECONDS = 3600
"""Used if Pinterest does not say how long to wait. Such a block lasts for hours."""


Failure = (
    NotSent | AnswerLost | Refused | TokenKeyMissing | NotConnected | PinterestOff | AccountMismatch
)


@contextmanager
def answer_failures(
    *, board_id: str | None = None, missing_scopes: Collection[str] = ()
) -> Iterator[None]:
    """Raises ApiError for every failure of the calls inside.

    `board_id` and `missing_scopes` are for the messages.
    """
    try:
        yield
    except get_args(Failure) as failure:
        raise build_api_error(
            failure, board_id=board_id, missing_scopes=missing_scopes
        ) from failure


def build_api_error(
    failure: Failure, *, board_id: str | None = None, missing_scopes: Collection[str] = ()
) -> ApiError:
    """Builds the error of the API that a failure of a connection or of a call is answered with."""
    match failure:
        case NotSent() | AnswerLost():
            return _unavailable("Pinterest does not answer. Try again.")
        case Refused():
            return _build_refusal(failure, board_id, missing_scopes)
        case TokenKeyMissing():
            return _unavailable(
                "The operator has to add the key that encrypted the account's tokens: see "
                "PINFLOW_PINTEREST_TOKEN_KEYS in docs/how-to/connect-pinterest.md."
            )
        case NotConnected():
            return _conflict(
                ErrorCode.ACCOUNT_NOT_CONNECTED,
                "The account is not connected to Pinterest. Connect it with GET "
                "/v1/pinterest/oauth/start?account_id=….",
            )
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
    refusal: Refused, board_id: str | None, missing_scopes: Collection[str]
) -> ApiError:
    match refusal.cause:
        case Cause.TOKEN:
            return _token_expired()
        case Cause.SCOPE:
            return _scope_missing(missing_scopes)
        case Cause.APP:
            return _conflict(
                ErrorCode.APP_NOT_APPROVED,
                "Pinterest does not let this installation's app do this: "
                f"{quote_reason(refusal)}. Ask the operator, who manages the app.",
            )
        case Cause.PERMISSION | Cause.NOT_FOUND:
            return _build_board_error(refusal.cause, board_id)
        case Cause.RATE_LIMIT | Cause.SPAM_BLOCK:
            is_short = refusal.cause is Cause.RATE_LIMIT
            default = RATE_LIMIT_SECONDS if is_short else SPAM_BLOCK_SECONDS
            return _rate_limited(refusal.retry_after_seconds or default)
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


def _rate_limited(seconds: int) -> ApiError:
    return Overloaded(
        ErrorCode.RATE_LIMITED,
        f"Pinterest takes no more requests of this account for {seconds} s. Try again after that.",
        retry_after=seconds,
    )


def _scope_missing(missing_scopes: Collection[str]) -> ApiError:
    scopes = sorted(missing_scopes)
    if scopes:
        noun = "right" if len(scopes) == 1 else "rights"
        missing = f"the {noun} {', '.join(scopes)}"
    else:
        missing = "a right"
    return ApiError(
        ErrorCode.SCOPE_MISSING,
        f"The account lacks {missing} at Pinterest. Connect it again and allow everything that is "
        "asked for.",
        HTTPStatus.CONFLICT,
        missing_scopes=scopes,
    )


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
