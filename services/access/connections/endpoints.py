"""Internal HTTP endpoints of connections: the delivery process gets access tokens here.

The gateway does not have these routes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from services.access.connections.errors import answer_failures
from services.access.connections.model import GivenUp
from services.access.connections.schemas import (
    AccountToken,
    HealthNote,
    HealthReport,
    TokenRefresh,
    TokenRequest,
)
from services.access.dependencies import Access
from shared.contract.errors import ApiError, ErrorCode
from shared.http.internal import RequiresInternalToken
from shared.http.requests import parse_model

internal_router = APIRouter(prefix="/internal/pinterest", include_in_schema=False)


@internal_router.post("/tokens")
async def hand_out_token(
    request: Request, response: Response, _token: RequiresInternalToken, access: Access
) -> AccountToken:
    """Return an account's access token. It is refreshed first if it has expired."""
    async with access.reader.read(request) as document:
        wanted = parse_model(TokenRequest, document)
    with _answer_failures():
        token = await access.tokens.get(wanted.account_id)
    _forbid_storing(response)
    return AccountToken.of(token)


@internal_router.post("/tokens/refresh")
async def refresh_tokens(
    request: Request, response: Response, _token: RequiresInternalToken, access: Access
) -> AccountToken:
    """Refresh an account's tokens, unless other ones are stored already. Idempotent."""
    async with access.reader.read(request) as document:
        refused = parse_model(TokenRefresh, document)
    with _answer_failures():
        token = await access.tokens.replace(
            refused.account_id, refused.token_version, is_new=refused.is_new
        )
    _forbid_storing(response)
    return AccountToken.of(token)


@internal_router.post("/health")
async def report_health(
    request: Request, _token: RequiresInternalToken, access: Access
) -> HealthNote:
    """Note why Pinterest refused a call, in the account's health."""
    async with access.reader.read(request) as document:
        report = parse_model(HealthReport, document)
    with _answer_failures():
        is_noted = await access.tokens.note_missing_scope(report.account_id, report.token_version)
    return HealthNote(is_noted=is_noted)


@contextmanager
def _answer_failures() -> Iterator[None]:
    """Raises ApiError for every failure: 409 if the account can't be used, 503 if that passes."""
    try:
        with answer_failures():
            yield
    except GivenUp as error:
        raise ApiError(ErrorCode(error.code.value), error.message, HTTPStatus.CONFLICT) from error


def _forbid_storing(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"
