"""HTTP side of the equal-work peers: imports with Idempotency-Key, jobs and each row's result."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from hashlib import blake2b
from http import HTTPStatus
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from services.ingest.ids import new_job_id
from shared.contract.errors import RETRY_AFTER, ApiError, ErrorCode, Unavailable, ValueRejected
from shared.postgres.database import Database
from tests.tools.bench.peers import rows
from tests.tools.bench.peers.equal_work.outcomes import Import
from tests.tools.bench.peers.equal_work.settlement import ImportKey
from tests.tools.bench.peers.equal_work.tables import SELECT_CLAIM, SELECT_JOB, SELECT_RESULTS
from tests.tools.bench.peers.runtime import PeerSettings
from tests.tools.bench.peers.web import IMPORTS, answer_json, create_base_app


class Acceptance(NamedTuple):
    """The job of an accepted import. `is_replayed`: an earlier request with its key made it."""

    job_id: UUID
    total: int
    failed: int
    is_replayed: bool = False


class Claim(NamedTuple):
    """An earlier claim of an Idempotency-Key. `total` and `failed` are None before its job is."""

    digest: bytes
    job_id: UUID
    total: int | None
    failed: int | None

    def replay(self) -> Acceptance | None:
        """Returns the acceptance to repeat. Returns None if the claim's import was not accepted."""
        if self.total is None or self.failed is None:
            return None
        return Acceptance(self.job_id, self.total, self.failed, is_replayed=True)


AcceptImport: TypeAlias = Callable[[Import, ImportKey | None], Awaitable[Acceptance]]
OpenIntake: TypeAlias = Callable[
    [PeerSettings, Database], AbstractAsyncContextManager[AcceptImport]
]


async def read_claim(database: Database, import_: Import, key: ImportKey) -> Claim:
    """Reads the claim of a key that is taken. Raises ApiError if its request was another."""
    async with database.pipeline() as driver:
        cursor = await driver.execute(SELECT_CLAIM, (import_.workspace_id, key.key), binary=True)
        (found,) = await cursor.fetchall()
    claim = Claim(*found)
    if claim.digest != key.digest:
        raise ApiError(
            ErrorCode.IDEMPOTENCY_KEY_REUSED,
            "This Idempotency-Key belongs to another import. Use a new key.",
            HTTPStatus.UNPROCESSABLE_ENTITY,
        )
    return claim


def create_app(settings: PeerSettings, open_intake: OpenIntake, accepted: HTTPStatus) -> FastAPI:
    """Builds the app. `accepted` is the status of the response to an import."""
    app, database, require_key = create_base_app(settings, open_intake)
    app.add_exception_handler(Unavailable, _answer_unavailable)
    app.add_exception_handler(ValueRejected, _answer_rejected)

    @app.post(f"{IMPORTS}/json")
    async def submit(request: Request) -> Response:
        require_key(request)
        body, now = await request.body(), datetime.now(UTC)
        parsed = rows.parse(body)
        import_ = Import(
            new_job_id(now), settings.workspace_id, now, parsed.to_queued(), parsed.failures
        )
        key = request.headers.get("idempotency-key")
        import_key = ImportKey(key, blake2b(body, digest_size=16).digest()) if key else None
        acceptance = await request.app.state.accept_import(import_, import_key)
        answer = {
            "id": acceptance.job_id,
            "total_rows": acceptance.total,
            "failed_rows": acceptance.failed,
        }
        response = answer_json(answer, accepted)
        if acceptance.is_replayed:
            response.headers["Idempotent-Replayed"] = "true"
        return response

    @app.get(f"{IMPORTS}/{{job_id}}")
    async def show_job(job_id: UUID, request: Request) -> Response:
        require_key(request)
        async with database.pipeline() as driver:
            job = await driver.execute(SELECT_JOB, (job_id,), binary=True)
            results = await driver.execute(SELECT_RESULTS, (job_id, None, None), binary=True)
            found, results_found = await job.fetchall(), await results.fetchall()
        if not found:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return answer_json(
            {
                **_name_columns(job, found[0]),
                "results": [_name_columns(results, row) for row in results_found],
            }
        )

    @app.get(f"{IMPORTS}/{{job_id}}/rows/{{number}}")
    async def show_row(job_id: UUID, number: int, request: Request) -> Response:
        require_key(request)
        async with database.pipeline() as driver:
            cursor = await driver.execute(SELECT_RESULTS, (job_id, number, number), binary=True)
            found = await cursor.fetchall()
        if not found:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        return answer_json(_name_columns(cursor, found[0]))

    return app


def _name_columns(cursor: Any, row: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip((column.name for column in cursor.description), row, strict=True))


async def _answer_unavailable(_request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE, RETRY_AFTER)


async def _answer_rejected(_request: Request, error: Exception) -> Response:
    return JSONResponse({"detail": str(error)}, HTTPStatus.UNPROCESSABLE_ENTITY)
