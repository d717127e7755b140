"""HTTP endpoints of boards."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from services.access.boards.schemas import (
    BoardAccessResponse,
    BoardCreate,
    BoardResponse,
    BoardUpdate,
)
from services.access.config import AccessSettings
from services.access.dependencies import Access
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.http.errors import ACCESS_ERRORS, BODY_ERRORS, CONFLICT, NOT_FOUND, OVERLOADED
from shared.http.idempotency import REPLAYED, IdempotencyKey
from shared.http.requests import describe_json_body, parse_model, uuid_or_404

Fresh = Annotated[bool, Query(description="Ignored: every answer is fresh.")]

_BODY_LIMIT = AccessSettings.model_fields["access_body_limit"].default
router = APIRouter(tags=["pinterest"], responses=ACCESS_ERRORS)

BoardId = Annotated[str, Path(description="The board's id.")]
OwnerId = Annotated[str, Query(description="The account that owns the board.")]

_CREATED: dict[int | str, dict[str, Any]] = {
    HTTPStatus.CREATED: {
        "description": "The board. Rows and pins can use it at once.",
        "headers": REPLAYED,
    }
}


@router.get("/v1/pinterest/boards", responses=NOT_FOUND, response_description="The boards.")
async def list_boards(
    account_id: OwnerId, principal: ReadAccess, access: Access
) -> list[BoardResponse]:
    """List the boards of an account, ordered by id."""
    rows = await access.boards.list_boards(principal, uuid_or_404(account_id, "Account"))
    return [BoardResponse.from_row(row) for row in rows]


@router.post(
    "/v1/pinterest/boards",
    status_code=HTTPStatus.CREATED,
    openapi_extra=describe_json_body(BoardCreate, _BODY_LIMIT),
    responses=OVERLOADED | NOT_FOUND | BODY_ERRORS | CONFLICT | _CREATED,
)
async def create_board(
    request: Request,
    response: Response,
    principal: WriteAccess,
    access: Access,
    idempotency_key: IdempotencyKey = None,
) -> BoardResponse:
    """Create a board. Rows and pins can use it at once.

    The board of a connected account is created at Pinterest, and has the id that Pinterest gives
    it. Otherwise the board exists in Pinflow only, and its id has the format of Pinterest's ids.

    With an `Idempotency-Key` the request is idempotent. The same key on the same account returns
    the board that it created, as it is now, and ignores the other fields. If that board has been
    deleted, the request creates it again: with the same id, unless Pinterest gives the id. Without
    a key, each request creates another board.

    If Pinterest's answer is lost, the request answers 503 `pinterest_unconfirmed`. Send it again
    with the same key: Pinflow then looks for the board at Pinterest before it creates one. While a
    request with the key is being processed, another one answers 409 `request_in_progress`.

    A revoked account answers 409 `token_revoked`. An account with the maximum number of
    boards (2000 by default) answers 409 `too_many_boards`.
    """
    async with access.board_reader.read(request) as document:
        board = parse_model(BoardCreate, document)
        row, created = await access.boards.create_board(
            principal, board.account_id, board.values(), idempotency_key
        )
    if not created:
        response.headers["Idempotent-Replayed"] = "true"
    return BoardResponse.from_row(row)


@router.patch(
    "/v1/pinterest/boards/{board_id}",
    openapi_extra=describe_json_body(BoardUpdate, _BODY_LIMIT),
    responses=OVERLOADED | NOT_FOUND | BODY_ERRORS | CONFLICT,
    response_description="The changed board.",
)
async def update_board(
    board_id: BoardId, request: Request, principal: WriteAccess, access: Access
) -> BoardResponse:
    """Change a board's name, description or privacy. Idempotent.

    Fields that are absent or null do not change. An unknown board answers 404 `board_not_found`.
    The board of a connected account is changed at Pinterest. If Pinterest's answer is lost, the
    request answers 503 `pinterest_unconfirmed`: send it again.
    """
    async with access.board_reader.read(request) as document:
        board = parse_model(BoardUpdate, document)
        row = await access.boards.update_board(
            principal, board.account_id, board_id, board.changes()
        )
    return BoardResponse.from_row(row)


@router.delete(
    "/v1/pinterest/boards/{board_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=OVERLOADED | NOT_FOUND | CONFLICT,
    response_description="The board is deleted.",
)
async def delete_board(
    board_id: BoardId, account_id: OwnerId, principal: DestructiveAccess, access: Access
) -> None:
    """Delete a board. Idempotent, but a second request answers 404 `board_not_found`.

    The board of a connected account is deleted at Pinterest, together with its pins there. In
    Pinflow, published pins stay and keep the board's id. Scheduled pins fail when they are due. For
    up to 30 seconds, rows of imports and single pins may still be published to the board, because
    boards are cached.
    """
    await access.boards.delete_board(principal, uuid_or_404(account_id, "Account"), board_id)


@router.get(
    "/v1/pinterest/boards/{board_id}/access",
    responses=NOT_FOUND,
    response_description="The result of the check.",
)
async def check_board_access(
    board_id: BoardId,
    account_id: OwnerId,
    principal: ReadAccess,
    access: Access,
    *,
    # Clients of PinBridge send it
    fresh: Fresh = False,  # noqa: ARG001
) -> BoardAccessResponse:
    """Check whether pins can be published to the board.

    For a connected account, Pinterest is asked each time (`source` is `pinterest`). Otherwise
    Pinflow checks its own database (`source` is `store`). The check says what Pinterest would
    allow, as far as it can be known. Whether the app may create pins (`app_not_approved`) shows
    only when a pin is delivered.

    If pins can't be published, `code` says why: `board_not_found`; `board_access_denied`;
    `token_revoked` for a revoked account; `token_expired`, `scope_missing` or
    `account_not_connected` if the account has to be connected again; `rate_limited` or
    `pinterest_unavailable` if it can't be told now. Then `retry_after_seconds` says when to ask
    again.
    """
    account, board, finding = await access.boards.check_access(
        principal, uuid_or_404(account_id, "Account"), board_id
    )
    return BoardAccessResponse.from_rows(board_id, account, board, finding, access.accounts.policy)
