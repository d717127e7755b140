"""HTTP endpoints for all of Pinflow: name, health and readiness."""

import asyncio
from http import HTTPStatus

import httpcore
import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from services.status import reference_page
from services.status.config import StatusSettings
from services.status.dependencies import Status
from services.status.schemas import HealthResponse, ReadinessResponse, RootResponse
from shared.contract.errors import DatabaseUnavailable
from shared.http.app import VERSION, add_metrics_endpoint
from shared.http.client import REQUEST_FAILURES
from shared.http.health import OK, Check, Health
from shared.postgres.database import Database

router = APIRouter(tags=["system"])

CHECK_TIMEOUT_SECONDS = 1.5


@router.get("/", response_description="The name and version.")
async def get_version() -> RootResponse:
    """Get the name and version."""
    return RootResponse(service="pinflow", version=VERSION, docs="/docs")


@router.get("/healthz", response_description="The process is up.")
async def check_health(service: Status) -> HealthResponse:
    """Check that this process is up. `/readyz` checks everything else."""
    return HealthResponse(
        status="ok", version=VERSION, environment=service.settings.environment, checks=None
    )


@router.get(
    "/readyz",
    response_description="Pinflow is ready, perhaps degraded.",
    responses={
        HTTPStatus.SERVICE_UNAVAILABLE: {
            "model": ReadinessResponse,
            "description": "Pinflow is not ready. `checks` says why.",
        }
    },
)
async def check_readiness(
    request: Request, response: Response, service: Status
) -> ReadinessResponse:
    """Check all services, Kafka and Postgres. If one is not ready, the answer is 503 and says why.

    If only access, webhooks or the delivery process is down, the answer is 200 with the status
    `degraded`: imports continue, and events and pins wait.
    """
    report = await request.app.state.health.report()
    if not report.is_ready:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return ReadinessResponse(
        status=report.status,
        version=VERSION,
        environment=service.settings.environment,
        database=report.checks["database"],
        checks=report.checks,
    )


@router.get("/internal/readyz", include_in_schema=False)
async def process_readiness(request: Request) -> JSONResponse:
    """Check that this process alone is ready.

    The supervisor of this process calls this endpoint to decide on a restart. A restart would not
    solve the problem of another process.
    """
    problem = await request.app.state.runtime.problem()
    return JSONResponse(
        {"status": problem or OK},
        HTTPStatus.OK if problem is None else HTTPStatus.SERVICE_UNAVAILABLE,
    )


def add_system_endpoints(api: FastAPI) -> None:
    api.include_router(router)
    api.include_router(reference_page.router)
    add_metrics_endpoint(api)


def register_readiness_checks(
    health: Health, settings: StatusSettings, database: Database, http: httpcore.AsyncConnectionPool
) -> None:
    health.add("database", build_database_check(database))
    for service in settings.watched_services:
        health.add(
            service.name, build_service_check(http, service.urls), required=service.is_required
        )


def build_database_check(database: Database) -> Check:
    async def check() -> str | None:
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_SECONDS), database.transaction() as connection:
                await connection.exec_driver_sql("select 1")
        except (DatabaseUnavailable, TimeoutError):
            return "unavailable"
        return None

    return check


def build_service_check(http: httpcore.AsyncConnectionPool, urls: str) -> Check:
    """Builds the check of a service from its replicas' URLs, separated by commas.

    One ready replica is enough. Otherwise the check returns the problem of each replica.
    """

    async def check() -> str | None:
        problems = await asyncio.gather(*(_check_replica(http, url) for url in urls.split(",")))
        return (
            None
            if None in problems
            else " | ".join(dict.fromkeys(str(problem) for problem in problems))
        )

    return check


async def _check_replica(http: httpcore.AsyncConnectionPool, url: str) -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_SECONDS):
            answer = await http.request("GET", f"{url}/readyz")
    except (TimeoutError, *REQUEST_FAILURES):
        return "no answer"
    if answer.status == HTTPStatus.OK:
        return None
    try:
        problems = orjson.loads(answer.content)["checks"].values()
    except (ValueError, KeyError, TypeError, AttributeError):  # not an answer of Pinflow
        return f"status {answer.status}"
    return "; ".join(problem for problem in problems if problem != OK)
