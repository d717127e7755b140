"""Builds the errors of authentication (401), authorization (403), and of unknown boards."""

import re
from collections.abc import Sequence
from http import HTTPStatus

from shared.access.keys import Scope
from shared.access.model import (
    BoardCheck,
    BoardName,
    BoardResult,
    Destination,
    Principal,
    SimilarBoard,
)
from shared.contract.errors import ApiError, ErrorCode

_SCIENTIFIC_NOTATION = re.compile(r"\s*\d([.,]\d*)?[eE]\+?\d+\s*").fullmatch
"""Finds a number as a spreadsheet shows a long one: 1.59E+17, with a comma in some languages."""
_MAX_LISTED_BOARDS = 10


def unauthorized(message: str) -> ApiError:
    return ApiError(
        ErrorCode.UNAUTHORIZED,
        message,
        HTTPStatus.UNAUTHORIZED,
        headers={"WWW-Authenticate": 'Bearer realm="pinflow"'},
    )


def require_scope(principal: Principal, scope: Scope) -> Principal:
    """Returns the principal. Raises ApiError (403) if its key lacks the scope."""
    if scope not in principal.scopes:
        message = f"Your API key lacks the scope {scope}. Use a key that has it."
        raise ApiError(
            ErrorCode.INSUFFICIENT_SCOPE, message, HTTPStatus.FORBIDDEN, required_scope=scope
        )
    return principal


def describe_board_failure(check: BoardResult, destination: Destination) -> tuple[ErrorCode, str]:
    """Returns the code and message of a pin whose account or board failed its check.

    The message begins with the field's name.
    """
    account_id, board_id = destination.account_id, destination.board_id
    if check is BoardCheck.NO_ACCOUNT:
        message = (
            f"account_id: no account {account_id} in this workspace. See its accounts: "
            "GET /v1/pinterest/accounts, or pinflow template."
        )
        return ErrorCode.ACCOUNT_NOT_FOUND, message
    if isinstance(check, BoardName):
        return ErrorCode.BOARD_NOT_FOUND, _describe_board_name(board_id, check.board_ids)
    if _SCIENTIFIC_NOTATION(board_id):
        message = (
            f"board_id: {board_id} is no board id: a spreadsheet has changed the number. Format "
            "the column as text, enter the ids again and save the file again. See the ids: "
        )
    else:
        advice = ""
        if isinstance(check, SimilarBoard):
            advice = f"Did you mean {check.name} ({check.board_id})? "
        message = f"board_id: no board {board_id} on this account. {advice}See its boards: "
    boards = f"GET /v1/pinterest/boards?account_id={account_id}, or pinflow template."
    return ErrorCode.BOARD_NOT_FOUND, message + boards


def _describe_board_name(name: str, board_ids: Sequence[str]) -> str:
    listed = ", ".join(board_ids[:_MAX_LISTED_BOARDS])
    if len(board_ids) == 1:
        advice = f"is the name of a board. Send its id, {listed}"
    else:
        advice = f"is the name of {len(board_ids)} boards. Send the id of one of them, {listed}"
    return f"board_id: {name} {advice}; names work only in imports."
