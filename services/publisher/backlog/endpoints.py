"""HTTP endpoints of the backlog of deliveries. Ingest calls the internal one."""

from fastapi import APIRouter, Request

from services.publisher.backlog.dependencies import Backlog
from services.publisher.backlog.schemas import (
    BudgetRequest,
    BudgetResponse,
    DeliveryResponse,
)
from shared.access.dependencies import ReadAccess
from shared.http.errors import ACCESS_ERRORS
from shared.http.internal import RequiresInternalToken
from shared.http.requests import parse_model

router = APIRouter(tags=["pins"], responses=ACCESS_ERRORS)
internal_router = APIRouter(prefix="/internal/pinterest", include_in_schema=False)


@router.get("/v1/deliveries", response_description="One item for each account.")
async def list_delivery_backlogs(principal: ReadAccess, backlog: Backlog) -> list[DeliveryResponse]:
    """List how many pins wait for their delivery to Pinterest, by account, and when it will end.

    The list has all accounts of the workspace that were ever connected to Pinterest, and that the
    API key may use. `GET /v1/pins?status=deferred` and `?status=queued` list the pins.
    """
    accounts = await backlog.service.list_accounts(principal)
    return [DeliveryResponse.from_backlog(item) for item in accounts]


@internal_router.post("/rate-meter")
async def read_budgets(
    request: Request, _token: RequiresInternalToken, backlog: Backlog
) -> BudgetResponse:
    """Answer what is left of the limits of an account and of the app at Pinterest."""
    async with backlog.reader.read(request) as document:
        account = parse_model(BudgetRequest, document)
        buckets = await backlog.service.read_buckets(account.workspace_id, account.account_id)
    if buckets is None:
        return BudgetResponse()
    return BudgetResponse.from_buckets(*buckets)
