"""The one place that builds the access service."""

from fastapi import APIRouter, FastAPI

from services.access.boards import endpoints as boards
from services.access.boards.repository import BoardRepository
from services.access.boards.service import BoardService
from services.access.config import AccessSettings
from services.access.dependencies import AccessDependencies
from services.access.keys import endpoints as keys
from services.access.keys.repository import KeyRepository
from services.access.keys.service import KeyService
from shared.access.authentication import Authenticator
from shared.access.repository import AccessRepository
from shared.access.usage import KeyUsage
from shared.http.admission import ConcurrentWrites
from shared.http.app import NO_ACCESS, add_process_endpoints, create_api
from shared.http.bodies import Bodies
from shared.http.health import Health
from shared.postgres.database import Database
from shared.runtime.service import Machinery, lifespan_of

BODIES_AT_ONCE = 64 * 1024 * 1024
"""Bytes. As many bodies at their limit as there may be requests at once."""


def create_app(settings: AccessSettings) -> FastAPI:
    """Makes everything and starts nothing: that is the lifespan's."""
    database = Database.of(settings, application="pinflow-access")
    key_repository = KeyRepository(database)
    usage = KeyUsage(key_repository)
    machinery = Machinery("access", settings, sweepers=[usage.sweeper()])
    limit = settings.access_body_limit

    health = Health()
    machinery.watch_over(health)
    app = create_api(
        "access",
        summary="Manages API keys, accounts and boards.",
        lifespan=lifespan_of(machinery, database.dispose),
        health=health,
        concurrency=settings.http_concurrency,
    )
    app.state.machinery = machinery
    app.state.authenticator = Authenticator(AccessRepository(database), settings, used=usage.note)
    app.state.dependencies = AccessDependencies(
        keys=KeyService(key_repository, settings.max_api_keys),
        boards=BoardService(BoardRepository(database), settings.max_boards_per_account),
        bodies=Bodies(
            limit_bytes=limit,
            seconds=settings.body_seconds,
            at_once_bytes=max(BODIES_AT_ONCE, 2 * limit),
        ),
        writes=ConcurrentWrites(
            settings.max_access_changes, written="keys or boards are being changed"
        ),
    )
    public = APIRouter(responses=NO_ACCESS)
    public.include_router(boards.router)
    public.include_router(keys.router)
    app.include_router(public)
    app.include_router(keys.internal_router)
    add_process_endpoints(app)
    return app
