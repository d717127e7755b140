"""HTTP of webhooks and of the log of their deliveries."""

from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from services.webhooks.delivery.model import DeliveryStatus
from services.webhooks.dependencies import Webhooks
from services.webhooks.subscriptions.rules import require_whole_workspace
from services.webhooks.subscriptions.schemas import (
    WebhookCreate,
    WebhookDeliveryResponse,
    WebhookResponse,
    WebhookUpdate,
    parse,
)
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.http.errors import ACCESS_ERRORS, BODY_ERRORS, CONFLICT, NOT_FOUND
from shared.http.requests import json_body, uuid_or_404

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], responses=ACCESS_ERRORS)

_CREATE, _UPDATE = (
    json_body(model.model_json_schema()) for model in (WebhookCreate, WebhookUpdate)
)


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    openapi_extra=_CREATE,
    responses=BODY_ERRORS | CONFLICT,
)
async def create_webhook(
    request: Request, response: Response, principal: WriteAccess, webhooks: Webhooks
) -> WebhookResponse:
    """Tell `url` of `events` from now on. The secret is never given back.

    Safe to repeat: a webhook that has the same url, secret, events and is_enabled is answered as it
    is, with `Idempotent-Replayed: true`. A key that is limited to some accounts may not: a webhook
    is told of all.
    """
    require_whole_workspace(principal)
    async with webhooks.reader.read(request) as document:
        values = parse(WebhookCreate, document).values()
    row, made = await webhooks.service.create(principal.workspace_id, values)
    if not made:
        response.headers["Idempotent-Replayed"] = "true"
    return WebhookResponse.of(row)


@router.get("")
async def list_webhooks(principal: ReadAccess, webhooks: Webhooks) -> list[WebhookResponse]:
    """All of the workspace's, in the order in which they were made."""
    rows = await webhooks.service.list_webhooks(principal.workspace_id)
    return [WebhookResponse.of(row) for row in rows]


@router.get("/{webhook_id}", responses=NOT_FOUND)
async def get_webhook(
    webhook_id: str, principal: ReadAccess, webhooks: Webhooks
) -> WebhookResponse:
    row = await webhooks.service.get(principal.workspace_id, _webhook_id(webhook_id))
    return WebhookResponse.of(row)


@router.patch("/{webhook_id}", openapi_extra=_UPDATE, responses=BODY_ERRORS | NOT_FOUND)
async def update_webhook(
    webhook_id: str, request: Request, principal: WriteAccess, webhooks: Webhooks
) -> WebhookResponse:
    """Change what is sent; the rest stays. Repeating it changes nothing more.

    What waits for delivery goes to the new url, signed with the new secret. Disabled, a webhook
    gets nothing, and what happens meanwhile it is never told; what waited goes on when it is
    enabled again, which also forgets its failures.
    """
    require_whole_workspace(principal)
    async with webhooks.reader.read(request) as document:
        changes = parse(WebhookUpdate, document).changes()
    row = await webhooks.service.update(principal.workspace_id, _webhook_id(webhook_id), changes)
    return WebhookResponse.of(row)


@router.delete("/{webhook_id}", status_code=HTTPStatus.NO_CONTENT, responses=NOT_FOUND)
async def delete_webhook(webhook_id: str, principal: DestructiveAccess, webhooks: Webhooks) -> None:
    """It is told nothing more, but for requests that are under way; its deliveries go with it.

    Repeated: 404, it is gone.
    """
    await webhooks.service.delete(principal.workspace_id, _webhook_id(webhook_id))


@router.get("/{webhook_id}/deliveries", responses=NOT_FOUND)
async def list_deliveries(
    webhook_id: str,
    request: Request,
    response: Response,
    principal: ReadAccess,
    webhooks: Webhooks,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[
        UUID | None, Query(description="The id of a delivery: those before it are listed.")
    ] = None,
    status: DeliveryStatus | None = None,
) -> list[WebhookDeliveryResponse]:
    """What the webhook was or will be told, the newest first; kept for some days. `Link` has the
    address of the next page, if there may be one: it stays right while new ones come in. A page of
    `pending` or `delivered` ones may be short, even empty, and have a next one: at most 10 000
    deliveries are looked at for it. Not for a key that is limited to some accounts.
    """
    require_whole_workspace(principal)
    page = await webhooks.service.list_deliveries(
        principal.workspace_id,
        _webhook_id(webhook_id),
        limit=limit,
        before=cursor,
        status=status,
    )
    if page.next_before is not None:
        query: dict[str, object] = {"limit": limit, "cursor": page.next_before}
        if status is not None:
            query["status"] = status.value
        response.headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
    return [WebhookDeliveryResponse.of(row) for row in page.rows]


@router.get("/{webhook_id}/deliveries/{delivery_id}", responses=NOT_FOUND)
async def get_delivery(
    webhook_id: str, delivery_id: str, principal: ReadAccess, webhooks: Webhooks
) -> WebhookDeliveryResponse:
    """Not for a key that is limited to some accounts."""
    require_whole_workspace(principal)
    row = await webhooks.service.get_delivery(
        principal.workspace_id, _webhook_id(webhook_id), _delivery_id(delivery_id)
    )
    return WebhookDeliveryResponse.of(row)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/resend",
    status_code=HTTPStatus.ACCEPTED,
    responses=NOT_FOUND | CONFLICT,
)
async def resend_delivery(
    webhook_id: str, delivery_id: str, principal: WriteAccess, webhooks: Webhooks
) -> WebhookDeliveryResponse:
    """Send it again, now, whatever became of it; it keeps its ids, its body and its count of
    attempts, and may fail as often as a new one.

    Repeated while it is pending: one more request at most. Repeated later it is sent once more,
    which is what it is for. The webhook must be enabled (409 `webhook_disabled`). Not for a key
    that is limited to some accounts.
    """
    require_whole_workspace(principal)
    row = await webhooks.service.resend(
        principal.workspace_id, _webhook_id(webhook_id), _delivery_id(delivery_id)
    )
    return WebhookDeliveryResponse.of(row)


def _webhook_id(webhook_id: str) -> UUID:
    return uuid_or_404(webhook_id, "Webhook")


def _delivery_id(delivery_id: str) -> UUID:
    return uuid_or_404(delivery_id, "Delivery")
