"""The publisher's lists over HTTP, without its other parts.

No scheduler runs, so a due schedule stays due.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
from fastapi import APIRouter, FastAPI

from services.publisher.config import PublisherSettings
from services.publisher.pins import endpoints as pins
from services.publisher.pins import schedule_endpoints as schedules
from services.publisher.pins.deferral_reader import DeferralReader
from services.publisher.pins.dependencies import PublisherDependencies
from services.publisher.pins.lists.service import PinListService
from shared.access.authentication import Authenticator
from shared.access.keys import Scope, hash_api_key
from shared.access.model import Principal
from shared.http.app import create_api
from shared.http.health import Health
from shared.http.pagination.paginator import Paginator
from shared.postgres.database import Database


class Keys:
    """Fake API keys of workspaces. A key may permit only some accounts."""

    def __init__(self) -> None:
        self._principals: dict[bytes, Principal] = {}

    def build_headers(
        self, workspace_id: UUID, permitted: frozenset[UUID] | None = None
    ) -> dict[str, str]:
        key = f"{workspace_id} {permitted}"
        self._principals[hash_api_key(key)] = Principal(
            workspace_id, workspace_id, frozenset(Scope), permitted
        )
        return {"X-API-Key": key}

    async def find_principal(self, key_hash: bytes) -> Principal | None:
        return self._principals.get(key_hash)


@asynccontextmanager
async def serve_lists(
    database: Database, keys: Keys, **limits: Any
) -> AsyncIterator[httpx.AsyncClient]:
    settings = PublisherSettings(**limits)
    app = create_api(
        "publisher", summary="Lists", lifespan=_empty_lifespan, health=Health(), concurrency=100
    )
    app.state.authenticator = Authenticator(keys, settings)
    deferrals = DeferralReader(database, "simulated")
    unused: Any = None
    app.state.dependencies = PublisherDependencies(
        settings=settings,
        lists=PinListService(Paginator(database, settings), deferrals),
        deferrals=deferrals,
        pins=unused,
        schedules=unused,
        bulk_publish=unused,
        dry_run=unused,
        reader=unused,
        batch_reader=unused,
        writes=unused,
    )
    router = APIRouter()
    for endpoints in (pins, schedules):
        router.include_router(endpoints.router)
    app.include_router(router)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://pinflow.test") as http:
        yield http


@asynccontextmanager
async def _empty_lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield
