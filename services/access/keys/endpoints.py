"""HTTP endpoints of API keys, and the internal endpoint to which services report used keys."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from services.access.config import AccessSettings
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
from shared.http.requests import describe_json_body, parse_model, uuid_or_404

_BODY_LIMIT = AccessSettings.model_fields["access_body_limit"].default
router = APIRouter(tags=["api-keys"], responses=ACCESS_ERRORS)
internal_router = APIRouter(prefix="/internal", include_in_schema=False)

KeyId = Annotated[str, Path(description="The key's id, not the key itself.")]


@router.get("/v1/api-keys", response_description="The keys.")
async def list_api_keys(principal: ReadAccess, access: Access) -> list[ApiKeyResponse]:
    """List the workspace's keys, newest last.

    The list never contains a whole key, only its first characters as `prefix`. It includes the keys
    that were revoked in the last 30 days, at most the latest 200. A key with a list of accounts
    sees only keys whose accounts are all on its own list. `last_used_at` is accurate to a minute or
    two.
    """
    return [ApiKeyResponse.from_row(row) for row in await access.keys.list_visible(principal)]


@router.post(
    "/v1/api-keys",
    status_code=HTTPStatus.CREATED,
    openapi_extra=describe_json_body(ApiKeyCreate, _BODY_LIMIT),
    responses=OVERLOADED | BODY_ERRORS | CONFLICT,
    response_description="The key. Store it: no other answer contains it.",
)
async def create_api_key(
    request: Request, response: Response, principal: WriteAccess, access: Access
) -> ApiKeyCreateResponse:
    """Create an API key. Only this answer contains it (`api_key`): Pinflow stores only its hash.

    The new key cannot have a scope or an account that your key lacks: the answer is then 403.
    Without `scopes` the new key has the scopes `read` and `write`. A workspace can have 100 keys
    that are not revoked, unless the operator sets another limit (409 `too_many_api_keys`).

    The request is not idempotent, because a key cannot be returned twice. If the answer is lost,
    find the new key by its name in the list, revoke it, and create another one.
    """
    async with access.reader.read(request) as document:
        new_key = parse_model(ApiKeyCreate, document)
        row, api_key = await access.keys.create(
            principal,
            name=new_key.name,
            scopes=new_key.scopes,
            account_ids=new_key.pinterest_account_ids,
        )
    response.headers["Cache-Control"] = "no-store"
    return ApiKeyCreateResponse.from_row(row, api_key)


@router.patch(
    "/v1/api-keys/{key_id}",
    openapi_extra=describe_json_body(ApiKeyUpdate, _BODY_LIMIT),
    responses=OVERLOADED | NOT_FOUND | BODY_ERRORS | CONFLICT,
    response_description="The changed key.",
)
async def update_api_key(
    key_id: KeyId, request: Request, principal: WriteAccess, access: Access
) -> ApiKeyResponse:
    """Change a key's name, scopes or accounts. Idempotent.

    All services apply the change within 10 seconds. Absent fields do not change;
    `"pinterest_account_ids": null` allows all accounts. (The models of PinBridge's client omit
    null: pass a mapping instead.)

    Your key cannot change a key that has more rights, and cannot grant rights that it lacks: the
    answer is then 403. A revoked key answers 409 `api_key_revoked`.
    """
    key = uuid_or_404(key_id, "API key")
    async with access.reader.read(request) as document:
        row = await access.keys.change(
            principal, key, parse_model(ApiKeyUpdate, document).changes()
        )
    return ApiKeyResponse.from_row(row)


@router.delete(
    "/v1/api-keys/{key_id}",
    status_code=HTTPStatus.NO_CONTENT,
    responses=NOT_FOUND,
    response_description="The key is revoked.",
)
async def revoke_api_key(key_id: KeyId, principal: DestructiveAccess, access: Access) -> None:
    """Revoke a key permanently. Idempotent.

    Within 10 seconds all services reject it. It stays in the list for 30 days. A second request
    also answers 204 and does not change `revoked_at`. A key can revoke itself.
    """
    await access.keys.revoke(principal, uuid_or_404(key_id, "API key"))


@internal_router.post("/key-usage", status_code=HTTPStatus.NO_CONTENT)
async def record_key_usage(request: Request, access: Access) -> None:
    """Record uses that other services report. The gateway does not have this route. Idempotent."""
    require_content_type(request, "application/json")
    async with access.reports.read(request) as body:
        report = parse_model(KeyUsageReport, parse_json(body))
    await access.keys.record_usage(report.key_ids)
