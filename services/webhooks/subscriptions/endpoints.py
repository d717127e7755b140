"""HTTP of webhooks: who is told of what, and what they were told."""

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from services.webhooks.delivery.model import DeliveryStatus
from services.webhooks.delivery.ssrf import AddressRules
from services.webhooks.dependencies import Webhooks
from services.webhooks.subscriptions.schemas import (
    WebhookCreate,
    WebhookDeliveryResponse,
    WebhookResponse,
    WebhookUpdate,
    parsed,
    refused_url,
)
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.access.model import Principal
from shared.contract.errors import ErrorCode, RequestRefused
from shared.contract.strict_json import parse_json
from shared.http.bodies import require_content_type
from shared.http.errors import CONFLICT, NO_ACCESS, NOT_FOUND, UNREADABLE
from shared.http.requests import uuid_or_404

router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"], responses=NO_ACCESS)


async def _read(request: Request, webhooks: Webhooks) -> Any:
    require_content_type(request, "application/json")
    async with webhooks.bodies.reading(request) as body:
        return parse_json(body)


def _require_reachable(rules: AddressRules, url: str | None) -> None:
    """Raises RequestRefused (422) if the URL can never lead to a receiver.

    A name is looked up at each connection.
    """
    if url is not None and (reason := rules.refusal(url)) is not None:
        raise refused_url(reason)


def _body(model: type[BaseModel]) -> dict[str, Any]:
    # Read by hand, as every body: never more of it than its limit. The schema's own definitions
    # can't be referred to from here
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _inlined(model.model_json_schema())}},
        }
    }


def _inlined(schema: Any, definitions: dict[str, Any] | None = None) -> Any:
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    known = definitions or schema.get("$defs", {})
    if "$ref" in schema:
        return _inlined(known[schema["$ref"].rpartition("/")[2]], known)
    return {name: _inlined(value, known) for name, value in schema.items() if name != "$defs"}


def _require_whole_workspace(who: Principal) -> None:
    """What is told goes beyond the accounts of a key that is limited to some.

    Raises RequestRefused (403).
    """
    if who.account_ids is not None:
        message = (
            "Webhooks are told of all the workspace's accounts; this API key is limited to some."
        )
        raise RequestRefused(ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN)


def _webhook_id(webhook_id: str) -> UUID:
    return uuid_or_404(webhook_id, "Webhook")


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    openapi_extra=_body(WebhookCreate),
    responses=UNREADABLE | CONFLICT,
)
async def create_webhook(
    request: Request, response: Response, who: WriteAccess, webhooks: Webhooks
) -> WebhookResponse:
    """Tell `url` of `events` from now on. The secret is never given back.

    Safe to repeat: a webhook that has the same url, secret, events and is_enabled is answered as it
    is, with `Idempotent-Replayed: true`. A key that is limited to some accounts may not: a webhook
    is told of all.
    """
    _require_whole_workspace(who)
    wanted = parsed(WebhookCreate, await _read(request, webhooks))
    _require_reachable(webhooks.rules, wanted.url)
    row, made = await webhooks.registry.create(who.workspace_id, wanted.model_dump(mode="json"))
    if not made:
        response.headers["Idempotent-Replayed"] = "true"
    return WebhookResponse.of(row)


@router.get("")
async def list_webhooks(who: ReadAccess, webhooks: Webhooks) -> list[WebhookResponse]:
    """All of the workspace's, in the order in which they were made."""
    return [
        WebhookResponse.of(row) for row in await webhooks.registry.list_webhooks(who.workspace_id)
    ]


@router.get("/{webhook_id}", responses=NOT_FOUND)
async def get_webhook(webhook_id: str, who: ReadAccess, webhooks: Webhooks) -> WebhookResponse:
    return WebhookResponse.of(
        await webhooks.registry.webhook(who.workspace_id, _webhook_id(webhook_id))
    )


@router.patch("/{webhook_id}", openapi_extra=_body(WebhookUpdate), responses=UNREADABLE | NOT_FOUND)
async def update_webhook(
    webhook_id: str, request: Request, who: WriteAccess, webhooks: Webhooks
) -> WebhookResponse:
    """Change what is sent; the rest stays. Repeating it changes nothing more.

    What waits for delivery goes to the new url, signed with the new secret. Disabled, a webhook
    gets nothing, and what happens meanwhile it is never told; what waited goes on when it is
    enabled again, which also forgets its failures.
    """
    _require_whole_workspace(who)
    wanted = parsed(WebhookUpdate, await _read(request, webhooks))
    _require_reachable(webhooks.rules, wanted.url)
    changes = wanted.model_dump(mode="json", exclude_none=True)
    row = await webhooks.registry.change(who.workspace_id, _webhook_id(webhook_id), changes)
    webhooks.worker.wake()
    return WebhookResponse.of(row)


@router.delete("/{webhook_id}", status_code=HTTPStatus.NO_CONTENT, responses=NOT_FOUND)
async def delete_webhook(webhook_id: str, who: DestructiveAccess, webhooks: Webhooks) -> None:
    """It is told nothing more, but for requests that are under way; its deliveries go with it.

    Repeated: 404, it is gone.
    """
    await webhooks.registry.delete(who.workspace_id, _webhook_id(webhook_id))


@router.get("/{webhook_id}/deliveries", responses=NOT_FOUND)
async def list_deliveries(
    webhook_id: str,
    request: Request,
    response: Response,
    who: ReadAccess,
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
    _require_whole_workspace(who)
    asked = webhooks.registry.list_deliveries(
        who.workspace_id, _webhook_id(webhook_id), limit=limit, before=cursor, status=status
    )
    rows, following = await asked
    if following is not None:
        query: dict[str, object] = {"limit": limit, "cursor": following}
        if status is not None:
            query["status"] = status.value
        response.headers["Link"] = f'<{request.url.path}?{urlencode(query)}>; rel="next"'
    return [WebhookDeliveryResponse.of(row) for row in rows]


@router.get("/{webhook_id}/deliveries/{delivery_id}", responses=NOT_FOUND)
async def get_delivery(
    webhook_id: str, delivery_id: str, who: ReadAccess, webhooks: Webhooks
) -> WebhookDeliveryResponse:
    """Not for a key that is limited to some accounts."""
    _require_whole_workspace(who)
    return WebhookDeliveryResponse.of(
        await webhooks.registry.delivery(
            who.workspace_id, _webhook_id(webhook_id), _delivery_id(delivery_id)
        )
    )


@router.post(
    "/{webhook_id}/deliveries/{delivery_id}/resend",
    status_code=HTTPStatus.ACCEPTED,
    responses=NOT_FOUND | CONFLICT,
)
async def resend_delivery(
    webhook_id: str, delivery_id: str, who: WriteAccess, webhooks: Webhooks
) -> WebhookDeliveryResponse:
    """Send it again, now, whatever became of it; it keeps its ids, its body and its count of
    attempts, and may fail as often as a new one.

    Repeated while it is pending: one more request at most. Repeated later it is sent once more,
    which is what it is for. The webhook must be enabled (409 `webhook_disabled`). Not for a key
    that is limited to some accounts.
    """
    _require_whole_workspace(who)
    row = await webhooks.registry.resend(
        who.workspace_id, _webhook_id(webhook_id), _delivery_id(delivery_id)
    )
    webhooks.worker.wake()
    return WebhookDeliveryResponse.of(row)


def _delivery_id(delivery_id: str) -> UUID:
    return uuid_or_404(delivery_id, "Delivery")
