"""HTTP endpoints of accounts."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from services.access.accounts.schemas import AccountResponse
from services.access.dependencies import Access
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.http.errors import ACCESS_ERRORS, CONFLICT, NOT_FOUND, OVERLOADED
from shared.http.idempotency import REPLAYED
from shared.http.requests import uuid_or_404

router = APIRouter(tags=["pinterest"], responses=ACCESS_ERRORS)

AccountId = Annotated[str, Path(description="The account's id.")]

_REFRESHED: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK: {"description": "The account.", "headers": REPLAYED}
}


@router.get("/v1/pinterest/accounts", response_description="The accounts.")
async def list_accounts(principal: ReadAccess, access: Access) -> list[AccountResponse]:
    """List the workspace's accounts, including revoked ones.

    An account works with a connection to Pinterest (`GET /v1/pinterest/oauth/start`) or without
    one. With a connection, its pins are delivered to Pinterest. Without one, they are stored and
    announced. `health_status` says whether a connection works. Pauses of the delivery, for example
    because of a limit, are not part of it: `GET /v1/deliveries` shows them.

    A key with a list of accounts sees only the accounts on its list.
    """
    rows = await access.accounts.list_accounts(principal)
    return [AccountResponse.from_row(row, access.accounts.policy) for row in rows]


@router.post(
    "/v1/pinterest/accounts/{account_id}/refresh",
    responses=OVERLOADED | NOT_FOUND | CONFLICT | _REFRESHED,
)
async def refresh_account(
    account_id: AccountId, response: Response, principal: WriteAccess, access: Access
) -> AccountResponse:
    """Check an account at Pinterest now: refresh its token, its user name and its boards.

    Pinflow does all of this regularly by itself. Call it after something was changed at Pinterest,
    or to see whether an account works again. Within 30 seconds after a refresh, the answer is the
    account as it is, with the header `Idempotent-Replayed: true`. Idempotent.

    An account without a connection answers 409 `account_not_connected`. If Pinterest does not
    accept its tokens any more, the answer is 409 `token_expired`: connect it again.
    """
    row, is_refreshed = await access.refresh.refresh(principal, uuid_or_404(account_id, "Account"))
    if not is_refreshed:
        response.headers["Idempotent-Replayed"] = "true"
    return AccountResponse.from_row(row, access.accounts.policy)


@router.delete(
    "/v1/pinterest/accounts/{account_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=NOT_FOUND,
    response_description="The account is revoked.",
)
async def revoke_account(
    account_id: AccountId, principal: DestructiveAccess, access: Access
) -> None:
    """Revoke an account, so that nothing is published to it any more. Idempotent.

    The account stays in the list. Its boards and pins do not change. For up to 30 seconds, rows of
    imports and single pins may still be published, because accounts are cached. After that they
    fail with `account_not_found`. Scheduled pins fail in the same way when they are due.

    An account that is connected to Pinterest is also disconnected: Pinflow deletes its tokens.
    Pinterest's own list of connected apps does not change. The account works again when it is
    connected with `GET /v1/pinterest/oauth/start?account_id=…`. Only an operator can restore it
    without a connection.
    """
    await access.accounts.revoke(principal, uuid_or_404(account_id, "Account"))
