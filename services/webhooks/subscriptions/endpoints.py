"""HTTP endpoints of webhooks and their delivery log."""

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote, urlencode
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from services.webhooks.config import WebhooksSettings
from services.webhooks.delivery.model import DeliveryStatus
from services.webhooks.dependencies import Webhooks
from services.webhooks.subscriptions.rules import require_whole_workspace
from services.webhooks.subscriptions.schemas import (
    WebhookCreate,
    WebhookDeliveryResponse,
    WebhookResponse,
    WebhookUpdate,
    parse_body,
)
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.http.errors import ACCESS_ERRORS, BODY_ERRORS, CONFLICT, NOT_FOUND
from shared.http.idempotency import REPLAYED
from shared.http.pagination.parameters import LINK
from shared.http.requests import describe_json_body, uuid_or_404

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], responses=ACCESS_ERRORS)

WebhookId = Annotated[str, Path(description="The webhook's id.")]
DeliveryId = Annotated[str, Path(description="The delivery's id.")]

_BODY_LIMIT = WebhooksSettings.model_fields["webhook_body_limit"].default
_CREATED: dict[int | str, dict[str, Any]] = {
    HTTPStatus.CREATED: {
        "description": "The webhook, new or the same as before.",
        "headers": REPLAYED,
    }
}
_DELIVERIES: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK: {
        "description": "One page of deliveries.",
        "headers": {"Link": LINK},
    }
}


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    openapi_extra=describe_json_body(WebhookCreate, _BODY_LIMIT),
    responses=BODY_ERRORS | CONFLICT | _CREATED,
)
async def create_webhook(
    request: Request, response: Response, principal: WriteAccess, webhooks: Webhooks
) -> WebhookResponse:
    """Create a webhook that sends `events` to `url` from now on. No response contains the secret.

    Safe to repeat: if a webhook has the same url, secret, events and is_enabled, it is returned
    with `Idempotent-Replayed: true`. An API key that is limited to some accounts can't create
    webhooks, because a webhook gets events of all accounts.
    """
    require_whole_workspace(principal)
    async with webhooks.reader.read(request) as document:
        values = parse_body(WebhookCreate, document).values()
    row, is_new = await webhooks.service.create(principal.workspace_id, values)
    if not is_new:
        response.headers["Idempotent-Replayed"] = "true"
    return WebhookResponse.from_row(row)


@router.get("", response_description="The webhooks.")
async def list_webhooks(principal: ReadAccess, webhooks: Webhooks) -> list[WebhookResponse]:
    """List all webhooks of the workspace, oldest first."""
    rows = await webhooks.service.list_webhooks(principal.workspace_id)
    return [WebhookResponse.from_row(row) for row in rows]


@router.get("/{webhook_id}", responses=NOT_FOUND, response_description="The webhook.")
async def get_webhook(
    webhook_id: WebhookId, principal: ReadAccess, webhooks: Webhooks
) -> WebhookResponse:
    """Get one webhook."""
    row = await webhooks.service.get(principal.workspace_id, _parse_webhook_id(webhook_id))
    return WebhookResponse.from_row(row)


@router.patch(
    "/{webhook_id}",
    openapi_extra=describe_json_body(WebhookUpdate, _BODY_LIMIT),
    responses=BODY_ERRORS | NOT_FOUND,
    response_description="The changed webhook.",
)
async def update_webhook(
    webhook_id: WebhookId, request: Request, principal: WriteAccess, webhooks: Webhooks
) -> WebhookResponse:
    """Change the given fields of a webhook; the others stay. Safe to repeat.

    Pending deliveries go to the new url, signed with the new secret. A disabled webhook gets
    nothing, and misses the events that Pinflow reads or skips meanwhile. When it is enabled again,
    its pending deliveries continue and its failures are reset. An API key that is limited to some
    accounts can't change webhooks.
    """
    require_whole_workspace(principal)
    async with webhooks.reader.read(request) as document:
        changes = parse_body(WebhookUpdate, document).changes()
    row = await webhooks.service.update(
        principal.workspace_id, _parse_webhook_id(webhook_id), changes
    )
    return WebhookResponse.from_row(row)


@router.delete(
    "/{webhook_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=NOT_FOUND,
    response_description="The webhook is deleted.",
)
async def delete_webhook(
    webhook_id: WebhookId, principal: DestructiveAccess, webhooks: Webhooks
) -> None:
    """Delete a webhook and its deliveries. Requests in flight may still arrive.

    A repeated request answers 404. An API key that is limited to some accounts can't delete
    webhooks.
    """
    require_whole_workspace(principal)
    await webhooks.service.delete(principal.workspace_id, _parse_webhook_id(webhook_id))


@router.get("/{webhook_id}/deliveries", responses=NOT_FOUND | _DELIVERIES)
async def list_deliveries(
    webhook_id: WebhookId,
    request: Request,
    response: Response,
    principal: ReadAccess,
    webhooks: Webhooks,
    limit: Annotated[
        int, Query(ge=1, le=200, description="The most deliveries of one page: 1 to 200.")
    ] = 50,
    cursor: Annotated[
        UUID | None, Query(description="The id of a delivery: lists only older ones.")
    ] = None,
    status: Annotated[
        DeliveryStatus | None, Query(description="Only deliveries in this state.")
    ] = None,
) -> list[WebhookDeliveryResponse]:
    """List a webhook's past and pending deliveries, newest first.

    A delivery is kept for 7 days, unless the operator sets another time. The header `Link` has the
    address of the next page, if there may be one. New deliveries don't shift pages. With `status`
    `pending` or `delivered`, a page scans at most 10 000 deliveries: it may be short or even empty
    and still have a next page. An API key that is limited to some accounts can't use this endpoint.
    """
    require_whole_workspace(principal)
    page = await webhooks.service.list_deliveries(
        principal.workspace_id,
        _parse_webhook_id(webhook_id),
        limit=limit,
        before=cursor,
        status=status,
    )
    if page.next_cursor is not None:
        query: dict[str, object] = {"limit": limit, "cursor": page.next_cursor}
        if status is not None:
            query["status"] = status.value
        # An id in the path may have digits of other alphabets, which no header can have
        path = quote(request.url.path)
        response.headers["Link"] = f'<{path}?{urlencode(query)}>; rel="next"'
    return [WebhookDeliveryResponse.from_row(row) for row in page.rows]


@router.get(
    "/{webhook_id}/deliveries/{delivery_id}",
    responses=NOT_FOUND,
    response_description="The delivery.",
)
async def get_delivery(
    webhook_id: WebhookId, delivery_id: DeliveryId, principal: ReadAccess, webhooks: Webhooks
) -> WebhookDeliveryResponse:
    """Get one delivery.

    An API key that is limited to some accounts can't use this endpoint.
    """
    require_whole_workspace(principal)
    row = await webhooks.service.get_delivery(
        principal.workspace_id, _parse_webhook_id(webhook_id), _parse_delivery_id(delivery_id)
    )
    return WebhookDeliveryResponse.from_row(row)


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/resend",
    status_code=HTTPStatus.ACCEPTED,
    responses=NOT_FOUND | CONFLICT,
    response_description="The delivery, which will be sent now.",
)
async def resend_delivery(
    webhook_id: WebhookId, delivery_id: DeliveryId, principal: WriteAccess, webhooks: Webhooks
) -> WebhookDeliveryResponse:
    """Send a delivery again now, whatever its status.

    The delivery keeps its ids, body and attempt count, and gets as many attempts as a new delivery.
    While it is pending, a repeated call causes at most one more request. After that, each call
    sends it once more. The webhook must be enabled (409 `webhook_disabled`). An API key that is
    limited to some accounts can't use this endpoint.
    """
    require_whole_workspace(principal)
    row = await webhooks.service.resend(
        principal.workspace_id, _parse_webhook_id(webhook_id), _parse_delivery_id(delivery_id)
    )
    return WebhookDeliveryResponse.from_row(row)


def _parse_webhook_id(webhook_id: str) -> UUID:
    return uuid_or_404(webhook_id, "Webhook")


def _parse_delivery_id(delivery_id: str) -> UUID:
    return uuid_or_404(delivery_id, "Delivery")
