"""Judges whether pins can be published to a board. Does no I/O."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from services.access.accounts.health import advise_to_reconnect
from services.access.boards.rules import find_missing_scopes
from shared.contract.errors import ApiError, ErrorCode

Source = Literal["store", "pinterest"]
ASK_FOR_ACCESS = "Ask the board's owner for access, or use another board."


@dataclass(frozen=True, slots=True)
class AccessFinding:
    """The result of a check. Without a code, pins can be published."""

    source: Source
    message: str
    code: ErrorCode | None = None
    remediation: str | None = None
    retry_after_seconds: int | None = None

    @classmethod
    def from_error(cls, error: ApiError, account_id: UUID) -> "AccessFinding":
        """Builds the finding of a check that Pinterest refused, or that could not be made."""
        seconds = error.headers.get("Retry-After")
        return cls(
            "pinterest",
            error.message,
            error.code,
            _advise(error.code, account_id),
            None if seconds is None else int(seconds),
        )


def check_store(
    board_id: str, account: Mapping[str, Any], board: Mapping[str, Any] | None
) -> AccessFinding:
    """Checks what the store has. The checks have the same order as in publishing."""
    if account["revoked_at"] is not None:
        return AccessFinding(
            "store",
            "The account is revoked.",
            ErrorCode.ACCOUNT_REVOKED,
            "Use another account, or ask the operator to restore this one."
            if account["connection"] is None
            else advise_to_reconnect(account["id"]),
        )
    if board is None:
        return AccessFinding(
            "store",
            f"The account has no board {board_id}.",
            ErrorCode.BOARD_NOT_FOUND,
            _advise(ErrorCode.BOARD_NOT_FOUND, account["id"]),
        )
    return AccessFinding("store", "The account can publish to this board.")


def check_pinterest(scopes: Collection[str], board_id: str, *, is_listed: bool) -> AccessFinding:
    """Checks a board that Pinterest shows to the account, which has these rights."""
    if missing := find_missing_scopes(scopes):
        return AccessFinding(
            "pinterest",
            f"The account lacks the rights that are needed to publish: {', '.join(missing)}.",
            ErrorCode.SCOPE_MISSING,
            "Connect the account again, and allow everything that is asked for.",
        )
    if not is_listed:
        return AccessFinding(
            "pinterest",
            f"Pinterest does not list board {board_id} among the account's boards, or the account "
            "has more boards than Pinflow takes.",
            ErrorCode.BOARD_ACCESS_DENIED,
            ASK_FOR_ACCESS,
        )
    return AccessFinding("pinterest", "The account can publish to this board.")


def _advise(code: ErrorCode, account_id: UUID) -> str:
    match code:
        case ErrorCode.BOARD_NOT_FOUND:
            return (
                f"Choose a board from GET /v1/pinterest/boards?account_id={account_id}, or create "
                "one with POST /v1/pinterest/boards."
            )
        case ErrorCode.BOARD_ACCESS_DENIED:
            return ASK_FOR_ACCESS
        case ErrorCode.RATE_LIMITED | ErrorCode.PINTEREST_UNAVAILABLE:
            return "Wait, then check again. Nothing is known about the board now."
        case ErrorCode.APP_NOT_APPROVED | ErrorCode.PINTEREST_OFF:
            return "Ask the operator, who manages the app at Pinterest."
        case ErrorCode.PINTEREST_REFUSED:
            return "Correct what the message names."
        case _:
            return advise_to_reconnect(account_id)
