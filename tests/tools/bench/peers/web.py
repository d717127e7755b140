"""HTTP side of all peers: one process that accepts, validates and hands on imports.

It also answers with a job's progress.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import orjson
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from services.ingest.ids import new_job_id
from shared.contract.errors import ApiError
from shared.postgres.database import Database, DriverConnection
from tests.tools.bench.peers import rows
from tests.tools.bench.peers.runtime import PeerSettings
from tests.tools.bench.peers.store import INSERT_JOB, PROGRESS

IMPORTS = "/v1/pins/imports"


class Job(NamedTuple):
    id: UUID
    workspace_id: UUID
    accepted_at: datetime
    rows: rows.ParsedImport


AcceptImport: TypeAlias = Callable[[Job], Awaitable[None]]
"""Function that accepts a whole import, or raises an exception."""
OpenIntake: TypeAlias = Callable[
    [PeerSettings, Database], AbstractAsyncContextManager[AcceptImport]
]
"""Function that opens a peer's connections and yields its AcceptImport."""


def create_base_app(
    settings: PeerSettings,
    open_intake: Callable[[PeerSettings, Database], AbstractAsyncContextManager[Any]],
) -> tuple[FastAPI, Database, Callable[[Request], None]]:
    """Builds an app without endpoints for imports.

    Returns it with its database and the check of the API key. What `open_intake` yields becomes the
    app's state `accept_import`.
    """
    database = Database.from_settings(settings, application="peer")
    key = settings.api_key.get_secret_value()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_intake(settings, database) as accept_import:
            app.state.accept_import = accept_import
            yield
        await database.dispose()

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.add_exception_handler(ApiError, _answer_error)

    def require_key(request: Request) -> None:
        if not secrets.compare_digest(request.headers.get("x-api-key", ""), key):
            raise HTTPException(HTTPStatus.UNAUTHORIZED)

    @app.get("/readyz")
    async def ready() -> None:
        pass

    return app, database, require_key


def create_app(
    settings: PeerSettings, open_intake: OpenIntake, *, accepted: HTTPStatus = HTTPStatus.ACCEPTED
) -> FastAPI:
    """Builds the app. `accepted` is the status of a response to an import.

    It is 201 for a peer that has settled the import by then.
    """
    app, database, require_key = create_base_app(settings, open_intake)

    @app.post(f"{IMPORTS}/json")
    async def submit(request: Request) -> Response:
        require_key(request)
        now = datetime.now(UTC)
        job = Job(new_job_id(now), settings.workspace_id, now, rows.parse(await request.body()))
        await request.app.state.accept_import(job)
        return answer_json(
            {"id": job.id, "total_rows": job.rows.total, "failed_rows": job.rows.failed}, accepted
        )

    @app.get(f"{IMPORTS}/{{job_id}}")
    async def progress(job_id: UUID, request: Request) -> Response:
        require_key(request)
        async with database.pipeline() as driver:
            counts = await (await driver.execute(PROGRESS, (job_id,))).fetchone()
        if counts is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        total, failed, created, existing = counts
        return answer_json(
            {
                "id": job_id,
                "total_rows": total,
                "failed_rows": failed,
                "created_rows": created,
                "existing_rows": existing,
            }
        )

    return app


async def insert_job(driver: DriverConnection, job: Job) -> None:
    await driver.execute(INSERT_JOB, (job.id, job.rows.total, job.rows.failed))


def answer_json(body: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


async def _answer_error(_request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, HTTPStatus.UNPROCESSABLE_ENTITY)
