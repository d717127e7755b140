"""HTTP of what the workspace publishes to: accounts and their boards."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from services.access.boards.schemas import (
    AccountResponse,
    BoardAccessResponse,
    BoardCreate,
    BoardResponse,
    BoardUpdate,
)
from services.access.dependencies import Access
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.http.errors import ACCESS_ERRORS, BODY_ERRORS, CONFLICT, NOT_FOUND, OVERLOADED
from shared.http.idempotency import IdempotencyKey
from shared.http.requests import json_body, parse_model, uuid_or_404

Fresh = Annotated[bool, Query(description="Changes nothing: every answer is fresh.")]

router = APIRouter(tags=["pinterest"], responses=ACCESS_ERRORS)

_CREATE, _UPDATE = (json_body(model.model_json_schema()) for model in (BoardCreate, BoardUpdate))
_REPLAYED: dict[int | str, dict[str, Any]] = {
    HTTPStatus.CREATED: {
        "headers": {
            "Idempotent-Replayed": {
                "description": "`true`: the board was there already.",
                "schema": {"type": "string"},
            }
        }
    }
}


@router.get("/v1/pinterest/accounts")
async def list_accounts(principal: ReadAccess, access: Access) -> list[AccountResponse]:
    """The workspace's accounts, revoked ones too; of a key with a list of accounts, those on it."""
    return [AccountResponse.of(row) for row in await access.boards.list_accounts(principal)]


@router.delete(
    "/v1/pinterest/accounts/{account_id}", status_code=HTTPStatus.NO_CONTENT, responses=NOT_FOUND
)
async def revoke_account(account_id: str, principal: DestructiveAccess, access: Access) -> None:
    """Revoke an account: nothing is published to it any more. It stays in the list, its boards and
    pins stay as they are. Idempotent.

    For up to 30 seconds rows of imports and single pins may still be published: where to publish is
    remembered so long. After that they fail with `account_not_found`. So does what is scheduled,
    each pin when it is due. Only an operator can restore an account.
    """
    await access.boards.revoke_account(principal, uuid_or_404(account_id, "Account"))


@router.get("/v1/pinterest/boards", responses=NOT_FOUND)
async def list_boards(
    account_id: str, principal: ReadAccess, access: Access
) -> list[BoardResponse]:
    """An account's boards, in the order of their ids."""
    rows = await access.boards.list_boards(principal, uuid_or_404(account_id, "Account"))
    return [BoardResponse.of(row) for row in rows]


@router.post(
    "/v1/pinterest/boards",
    status_code=HTTPStatus.CREATED,
    openapi_extra=_CREATE,
    responses=OVERLOADED | NOT_FOUND | BODY_ERRORS | CONFLICT | _REPLAYED,
)
async def create_board(
    request: Request,
    response: Response,
    principal: WriteAccess,
    access: Access,
    idempotency_key: IdempotencyKey = None,
) -> BoardResponse:
    """Make a board that rows and pins can name at once. Its id is Pinflow's, in the form of
    Pinterest's.

    Idempotent with an `Idempotency-Key`: the same key on the same account answers the board that it
    made, as it is now and whatever is sent with it (if that has been deleted, it is made again,
    under the same id). Without one, each call makes another board. A revoked account is 409
    `token_revoked`; so is one with as many boards as it may have, 2000 by default:
    `too_many_boards`.
    """
    async with access.reader.read(request) as document:
        asked = parse_model(BoardCreate, document)
        row, made = await access.boards.create_board(
            principal, asked.account_id, asked.values(), idempotency_key
        )
    if not made:
        response.headers["Idempotent-Replayed"] = "true"
    return BoardResponse.of(row)


@router.patch(
    "/v1/pinterest/boards/{board_id}",
    openapi_extra=_UPDATE,
    responses=OVERLOADED | NOT_FOUND | BODY_ERRORS,
)
async def update_board(
    board_id: str, request: Request, principal: WriteAccess, access: Access
) -> BoardResponse:
    """Change a board's name, description or privacy; what is absent or null stays.

    Idempotent. Unknown: 404 `board_not_found`.
    """
    async with access.reader.read(request) as document:
        asked = parse_model(BoardUpdate, document)
        row = await access.boards.update_board(
            principal, asked.account_id, board_id, asked.changes()
        )
    return BoardResponse.of(row)


@router.delete(
    "/v1/pinterest/boards/{board_id}", status_code=HTTPStatus.NO_CONTENT, responses=NOT_FOUND
)
async def delete_board(
    board_id: str, account_id: str, principal: DestructiveAccess, access: Access
) -> None:
    """Delete a board. Pins that were published to it stay, and go on naming it; what is scheduled
    to it fails when due.

    For up to 30 seconds rows of imports and single pins may still be published to it: where to
    publish is remembered so long. Idempotent in its effect; the second answer is 404
    `board_not_found`, as nothing is left that it could speak of.
    """
    await access.boards.delete_board(principal, uuid_or_404(account_id, "Account"), board_id)


@router.get("/v1/pinterest/boards/{board_id}/access", responses=NOT_FOUND)
async def check_board_access(
    board_id: str,
    account_id: str,
    principal: ReadAccess,
    access: Access,
    *,
    # PinBridge's clients send it
    fresh: Fresh = False,  # noqa: ARG001
) -> BoardAccessResponse:
    """Whether the account can publish to the board, and if not, why: `board_not_found`, or
    `token_revoked` for a revoked account.

    It is the store that is asked (`source`), not Pinterest.
    """
    account, board = await access.boards.find(
        principal, uuid_or_404(account_id, "Account"), board_id
    )
    return BoardAccessResponse.of(board_id, account, board)
