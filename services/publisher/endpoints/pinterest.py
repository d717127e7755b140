"""HTTP of what the workspace publishes to: accounts and their boards."""

from fastapi import APIRouter

from services.publisher.endpoints.ports import NOT_FOUND, Publisher
from services.publisher.schemas.pinterest import AccountResponse, BoardResponse
from shared.access.dependencies import ReadAccess
from shared.errors import not_found
from shared.http import uuid_or_404

router = APIRouter(tags=["pinterest"])


@router.get("/v1/pinterest/accounts")
async def list_accounts(who: ReadAccess, publisher: Publisher) -> list[AccountResponse]:
    return [AccountResponse.of(row) for row in await publisher.access.list_accounts(who.workspace_id)]


@router.get("/v1/pinterest/boards", responses=NOT_FOUND)
async def list_boards(account_id: str, who: ReadAccess, publisher: Publisher) -> list[BoardResponse]:
    rows = await publisher.access.list_boards(who.workspace_id, uuid_or_404(account_id, "Account"))
    if rows is None:
        raise not_found("Account")
    return [BoardResponse.of(row) for row in rows]
