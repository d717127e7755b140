"""FastAPI dependencies that authenticate a request, check its scope and its parameters' names."""

from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from shared.access.authentication import Authenticator
from shared.access.errors import require_scope
from shared.access.keys import Scope
from shared.access.model import Principal
from shared.http.parameters import require_known_parameters

_header = APIKeyHeader(
    name="X-API-Key",
    scheme_name="ApiKey",
    auto_error=False,
    description="An API key. It takes precedence over Authorization.",
)
_bearer = HTTPBearer(
    scheme_name="Bearer", auto_error=False, description="The same API key as a bearer token."
)


async def _principal(
    request: Request,
    header: Annotated[str | None, Security(_header)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
) -> Principal:
    authenticator: Authenticator = request.app.state.authenticator
    # The peer's address, or the client's address that a trusted proxy reports (`trusted_proxies`)
    address, _port = request.scope.get("client") or ("", 0)
    return await authenticator.authenticate(
        header or (bearer.credentials if bearer else None), address
    )


_Principal = Annotated[Principal, Depends(_principal)]


async def _require(request: Request, principal: Principal, scope: Scope) -> Principal:
    require_scope(principal, scope)
    # Here, because it concerns exactly the requests that need a key, and a wrong key comes first
    await require_known_parameters(request)
    return principal


async def _reader(request: Request, principal: _Principal) -> Principal:
    return await _require(request, principal, Scope.READ)


async def _writer(request: Request, principal: _Principal) -> Principal:
    return await _require(request, principal, Scope.WRITE)


async def _destroyer(request: Request, principal: _Principal) -> Principal:
    return await _require(request, principal, Scope.DESTRUCTIVE)


ReadAccess = Annotated[Principal, Depends(_reader)]
WriteAccess = Annotated[Principal, Depends(_writer)]
DestructiveAccess = Annotated[Principal, Depends(_destroyer)]
"""Requires the scope for deleting and revoking, as in PinBridge."""
