"""The HTTP side that all peers have: one process that takes an import, validates it, hands it on,
and tells how far a job is.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import NamedTuple, TypeAlias
from uuid import UUID

import orjson
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from services.ingest.ids import new_job_id
from shared.contract.errors import ApiError
from shared.postgres.database import Database, DriverConnection
from tests.tools.bench.peers import rows
from tests.tools.bench.peers.process import PeerSettings
from tests.tools.bench.peers.store import INSERT_JOB, PROGRESS

IMPORTS = "/v1/pins/imports"


class Job(NamedTuple):
    id: UUID
    workspace_id: UUID
    accepted_at: datetime
    rows: rows.Parsed


Intake: TypeAlias = Callable[[Job], Awaitable[None]]
"""Takes a whole import, or raises."""
Open: TypeAlias = Callable[[PeerSettings, Database], AbstractAsyncContextManager[Intake]]


def create_app(
    settings: PeerSettings, open_intake: Open, *, accepted: HTTPStatus = HTTPStatus.ACCEPTED
) -> FastAPI:
    """`accepted`: what an import is answered, 201 by a peer that has settled it by then."""
    database = Database.from_settings(settings, application="peer")
    key = settings.api_key.get_secret_value()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_intake(settings, database) as intake:
            app.state.intake = intake
            yield
        await database.dispose()

    app = FastAPI(lifespan=lifespan, openapi_url=None)
    app.add_exception_handler(ApiError, _refused)

    def require_key(request: Request) -> None:
        if not secrets.compare_digest(request.headers.get("x-api-key", ""), key):
            raise HTTPException(HTTPStatus.UNAUTHORIZED)

    @app.get("/readyz")
    async def ready() -> None:
        pass

    @app.post(f"{IMPORTS}/json")
    async def submit(request: Request) -> Response:
        require_key(request)
        now = datetime.now(UTC)
        job = Job(new_job_id(now), settings.workspace_id, now, rows.parse(await request.body()))
        await request.app.state.intake(job)
        return _json(
            {"id": job.id, "total_rows": job.rows.total, "failed_rows": job.rows.failed}, accepted
        )

    @app.get(f"{IMPORTS}/{{job_id}}")
    async def progress(job_id: UUID, request: Request) -> Response:
        require_key(request)
        async with database.pipeline() as driver:
            found = await (await driver.execute(PROGRESS, (job_id,))).fetchone()
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        total, failed, created, existing = found
        return _json(
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


def _json(document: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


async def _refused(_request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, HTTPStatus.UNPROCESSABLE_ENTITY)
