"""HTTP of API keys, and the internal route by which services report which keys were used."""

from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from services.access.dependencies import Access
from services.access.keys.schemas import (
    ApiKeyCreate,
    ApiKeyCreateResponse,
    ApiKeyResponse,
    ApiKeyUpdate,
    KeyUsageReport,
)
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.contract.strict_json import parse_json
from shared.http.bodies import require_content_type
from shared.http.errors import ACCESS_ERRORS, BODY_ERRORS, CONFLICT, NOT_FOUND, OVERLOADED
from shared.http.requests import json_body, parse_model, uuid_or_404

router = APIRouter(tags=["api-keys"], responses=ACCESS_ERRORS)
internal_router = APIRouter(prefix="/internal", include_in_schema=False)

_CREATE, _UPDATE = (json_body(model.model_json_schema()) for model in (ApiKeyCreate, ApiKeyUpdate))


@router.get("/v1/api-keys")
async def list_api_keys(principal: ReadAccess, access: Access) -> list[ApiKeyResponse]:
    """The workspace's keys, the newest last; never the keys themselves, but their first characters
    as `prefix`.

    Those that were revoked in the last 30 days stand among them, the latest 200. A key with a list
    of accounts sees only keys whose lists lie within its own. `last_used_at` is right to a minute
    or two.
    """
    return [ApiKeyResponse.of(row) for row in await access.keys.list_visible(principal)]


@router.post(
    "/v1/api-keys",
    status_code=HTTPStatus.CREATED,
    openapi_extra=_CREATE,
    responses=OVERLOADED | BODY_ERRORS | CONFLICT,
)
async def create_api_key(
    request: Request, response: Response, principal: WriteAccess, access: Access
) -> ApiKeyCreateResponse:
    """Make a key. `api_key` is told this once and stands nowhere: only its hash is kept.

    A key gives no more than it has: a scope or an account that the asking key lacks is 403. Without
    `scopes` the new key reads and writes. A workspace may have 100 keys that are not revoked, if
    the operator has not set another limit (`too_many_api_keys`).

    Not idempotent, as no key can be told twice: if the answer is lost, revoke what stands in the
    list under the name, and ask again.
    """
    async with access.reader.read(request) as document:
        asked = parse_model(ApiKeyCreate, document)
        row, plain = await access.keys.create(
            principal, name=asked.name, scopes=asked.scopes, account_ids=asked.pinterest_account_ids
        )
    response.headers["Cache-Control"] = "no-store"
    return ApiKeyCreateResponse.of(row, plain)


@router.patch(
    "/v1/api-keys/{key_id}",
    openapi_extra=_UPDATE,
    responses=OVERLOADED | NOT_FOUND | BODY_ERRORS | CONFLICT,
)
async def update_api_key(
    key_id: str, request: Request, principal: WriteAccess, access: Access
) -> ApiKeyResponse:
    """Change a key's name, scopes or accounts. Services act on it within 10 seconds. Idempotent.

    Only what is given changes; `"pinterest_account_ids": null` opens the key to all accounts.
    (PinBridge's models leave null out: send a mapping instead.) A key can't change one that may do
    more than itself, nor make it so: 403. A revoked key is 409 `api_key_revoked`.
    """
    key = uuid_or_404(key_id, "API key")
    async with access.reader.read(request) as document:
        row = await access.keys.change(
            principal, key, parse_model(ApiKeyUpdate, document).changes()
        )
    return ApiKeyResponse.of(row)


@router.delete("/v1/api-keys/{key_id}", status_code=HTTPStatus.NO_CONTENT, responses=NOT_FOUND)
async def revoke_api_key(key_id: str, principal: DestructiveAccess, access: Access) -> None:
    """Revoke a key, for good: within 10 seconds nothing takes it any more. It stays in the list for
    30 days.

    Idempotent: a key that is revoked already answers 204 too, and keeps its time. A key may revoke
    itself.
    """
    await access.keys.revoke(principal, uuid_or_404(key_id, "API key"))


@internal_router.post("/key-usage", status_code=HTTPStatus.NO_CONTENT)
async def note_key_usage(request: Request, access: Access) -> None:
    """Notes uses that other services report. The gateway has no such route. Idempotent."""
    require_content_type(request, "application/json")
    async with access.reports.read(request) as body:
        report = parse_model(KeyUsageReport, parse_json(body))
    await access.keys.note_usage(report.key_ids)
