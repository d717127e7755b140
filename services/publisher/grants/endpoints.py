"""The internal route of grants: the access service asks before it calls Pinterest."""

from fastapi import APIRouter, Request

from services.publisher.grants.dependencies import Grants
from services.publisher.grants.schemas import Grant, GrantRequest
from shared.http.internal import RequiresInternalToken
from shared.http.requests import parse_model

router = APIRouter(prefix="/internal/pinterest", include_in_schema=False)


@router.post("/grants")
async def grant_request(request: Request, _token: RequiresInternalToken, grants: Grants) -> Grant:
    """Grant one request to Pinterest, or answer how long to wait."""
    async with grants.reader.read(request) as document:
        wanted = parse_model(GrantRequest, document)
        return Grant(wait_seconds=await grants.service.take(wanted))
