"""Internal HTTP endpoints of connections: other services have tokens refreshed."""

from fastapi import APIRouter, Request

from services.access.connections.errors import answer_failures
from services.access.connections.schemas import TokenRefresh, TokenState
from services.access.dependencies import Access
from shared.http.internal import RequiresInternalToken
from shared.http.requests import parse_model

internal_router = APIRouter(prefix="/internal", include_in_schema=False)


@internal_router.post("/pinterest/tokens/refresh")
async def refresh_tokens(
    request: Request, _token: RequiresInternalToken, access: Access
) -> TokenState:
    """Refresh an account's tokens, unless other ones are stored already. Idempotent.

    The gateway does not have this route.
    """
    async with access.reader.read(request) as document:
        refused = parse_model(TokenRefresh, document)
    with answer_failures():
        await access.connections.refresh(refused.account_id, refused.token_version, is_refused=True)
        connection = await access.connections.require(refused.account_id)
    return TokenState(
        token_version=connection.token_version, token_expires_at=connection.token_expires_at
    )
