"""HTTP of API keys: who has one, and what it may do."""

from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from services.access.keys.schemas import (
    ApiKeyCreate,
    ApiKeyCreateResponse,
    ApiKeyResponse,
    ApiKeyUpdate,
)
from services.publisher.pins.dependencies import Publisher
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.http.app import CONFLICT, NOT_FOUND, OVERLOADED, UNREADABLE, uuid_or_404
from shared.http.requests import checked, json_body

router = APIRouter(tags=["api-keys"])

_CREATE, _UPDATE = (json_body(model.model_json_schema()) for model in (ApiKeyCreate, ApiKeyUpdate))


@router.get("/v1/api-keys")
async def list_api_keys(who: ReadAccess, publisher: Publisher) -> list[ApiKeyResponse]:
    """The workspace's keys, the newest last; never the keys themselves, but their first characters
    as `prefix`.

    Those that were revoked in the last 30 days stand among them, the latest 200. A key with a list
    of accounts sees only keys whose lists lie within its own. `last_used_at` is right to a minute
    or two.
    """
    return [ApiKeyResponse.of(row) for row in await publisher.keys.visible_to(who)]


@router.post(
    "/v1/api-keys",
    status_code=HTTPStatus.CREATED,
    openapi_extra=_CREATE,
    responses=OVERLOADED | UNREADABLE | CONFLICT,
)
async def create_api_key(
    request: Request, response: Response, who: WriteAccess, publisher: Publisher
) -> ApiKeyCreateResponse:
    """Make a key. `api_key` is told this once and stands nowhere: only its hash is kept.

    A key gives no more than it has: a scope or an account that the asking key lacks is 403. Without
    `scopes` the new key reads and writes. A workspace may have 100 keys that are not revoked, if
    the operator has not set another limit (`too_many_api_keys`).

    Not idempotent, as no key can be told twice: if the answer is lost, revoke what stands in the
    list under the name, and ask again.
    """
    async with publisher.document(request) as document:
        asked = checked(ApiKeyCreate, document)
        row, plain = await publisher.keys.create(
            who, name=asked.name, scopes=asked.scopes, account_ids=asked.pinterest_account_ids
        )
    response.headers["Cache-Control"] = "no-store"
    return ApiKeyCreateResponse.of(row, plain)


@router.patch(
    "/v1/api-keys/{key_id}",
    openapi_extra=_UPDATE,
    responses=OVERLOADED | NOT_FOUND | UNREADABLE | CONFLICT,
)
async def update_api_key(
    key_id: str, request: Request, who: WriteAccess, publisher: Publisher
) -> ApiKeyResponse:
    """Change a key's name, scopes or accounts. Services act on it within 10 seconds. Idempotent.

    Only what is given changes; `"pinterest_account_ids": null` opens the key to all accounts.
    (PinBridge's models leave null out: send a mapping instead.) A key can't change one that may do
    more than itself, nor make it so: 403. A revoked key is 409 `api_key_revoked`.
    """
    key = uuid_or_404(key_id, "API key")
    async with publisher.document(request) as document:
        row = await publisher.keys.change(who, key, checked(ApiKeyUpdate, document).changes())
    return ApiKeyResponse.of(row)


@router.delete("/v1/api-keys/{key_id}", status_code=HTTPStatus.NO_CONTENT, responses=NOT_FOUND)
async def revoke_api_key(key_id: str, who: DestructiveAccess, publisher: Publisher) -> None:
    """Revoke a key, for good: within 10 seconds nothing takes it any more. It stays in the list for
    30 days.

    Idempotent: a key that is revoked already answers 204 too, and keeps its time. A key may revoke
    itself.
    """
    await publisher.keys.revoke(who, uuid_or_404(key_id, "API key"))
