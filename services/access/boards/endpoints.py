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
from services.publisher.pins.dependencies import Publisher
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.contract.errors import not_found
from shared.http.app import CONFLICT, NOT_FOUND, OVERLOADED, UNREADABLE, uuid_or_404
from shared.http.idempotency import IdempotencyKey
from shared.http.requests import checked, json_body

router = APIRouter(tags=["pinterest"])

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
async def list_accounts(who: ReadAccess, publisher: Publisher) -> list[AccountResponse]:
    """The workspace's accounts, revoked ones too; of a key with a list of accounts, those on it."""
    rows = await publisher.access.list_accounts(who.workspace_id)
    return [AccountResponse.of(row) for row in rows if who.permits(row["id"])]


@router.delete(
    "/v1/pinterest/accounts/{account_id}", status_code=HTTPStatus.NO_CONTENT, responses=NOT_FOUND
)
async def revoke_account(account_id: str, who: DestructiveAccess, publisher: Publisher) -> None:
    """Revoke an account: nothing is published to it any more. It stays in the list, its boards and
    pins stay as they are. Idempotent.

    For up to 30 seconds rows of imports and single pins may still be published: where to publish is
    remembered so long. After that they fail with `account_not_found`. So does what is scheduled,
    each pin when it is due. Only an operator can restore an account.
    """
    await publisher.destinations.revoke_account(who, uuid_or_404(account_id, "Account"))


@router.get("/v1/pinterest/boards", responses=NOT_FOUND)
async def list_boards(
    account_id: str, who: ReadAccess, publisher: Publisher
) -> list[BoardResponse]:
    """An account's boards, in the order of their ids."""
    account = uuid_or_404(account_id, "Account")
    rows = (
        await publisher.access.list_boards(who.workspace_id, account)
        if who.permits(account)
        else None
    )
    if rows is None:
        raise not_found("Account")
    return [BoardResponse.of(row) for row in rows]


@router.post(
    "/v1/pinterest/boards",
    status_code=HTTPStatus.CREATED,
    openapi_extra=_CREATE,
    responses=OVERLOADED | NOT_FOUND | UNREADABLE | CONFLICT | _REPLAYED,
)
async def create_board(
    request: Request,
    response: Response,
    who: WriteAccess,
    publisher: Publisher,
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
    async with publisher.document(request) as document:
        asked = checked(BoardCreate, document)
        row, made = await publisher.destinations.create_board(
            who, asked.account_id, asked.values(), idempotency_key
        )
    if not made:
        response.headers["Idempotent-Replayed"] = "true"
    return BoardResponse.of(row)


@router.patch(
    "/v1/pinterest/boards/{board_id}",
    openapi_extra=_UPDATE,
    responses=OVERLOADED | NOT_FOUND | UNREADABLE,
)
async def update_board(
    board_id: str, request: Request, who: WriteAccess, publisher: Publisher
) -> BoardResponse:
    """Change a board's name, description or privacy; what is absent or null stays.

    Idempotent. Unknown: 404 `board_not_found`.
    """
    async with publisher.document(request) as document:
        asked = checked(BoardUpdate, document)
        row = await publisher.destinations.update_board(
            who, asked.account_id, board_id, asked.changes()
        )
    return BoardResponse.of(row)


@router.delete(
    "/v1/pinterest/boards/{board_id}", status_code=HTTPStatus.NO_CONTENT, responses=NOT_FOUND
)
async def delete_board(
    board_id: str, account_id: str, who: DestructiveAccess, publisher: Publisher
) -> None:
    """Delete a board. Pins that were published to it stay, and go on naming it; what is scheduled
    to it fails when due.

    For up to 30 seconds rows of imports and single pins may still be published to it: where to
    publish is remembered so long. Idempotent in its effect; the second answer is 404
    `board_not_found`, as nothing is left that it could speak of.
    """
    await publisher.destinations.delete_board(who, uuid_or_404(account_id, "Account"), board_id)


@router.get("/v1/pinterest/boards/{board_id}/access", responses=NOT_FOUND)
async def check_board_access(
    board_id: str,
    account_id: str,
    who: ReadAccess,
    publisher: Publisher,
    *,
    fresh: Annotated[bool, Query(description="Changes nothing: every answer is fresh.")] = False,  # noqa: ARG001 - PinBridge's clients send it
) -> BoardAccessResponse:
    """Whether the account can publish to the board, and if not, why: `board_not_found`, or
    `token_revoked` for a revoked account.

    It is the store that is asked (`source`), not Pinterest.
    """
    account, board = await publisher.destinations.find(
        who, uuid_or_404(account_id, "Account"), board_id
    )
    return BoardAccessResponse.of(board_id, account, board)
