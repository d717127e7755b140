"""Builds a service's FastAPI application, and adds /healthz, /readyz and /metrics."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus
from importlib.metadata import version
from operator import attrgetter

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared.http.concurrency import LimitConcurrency
from shared.http.errors import add_error_handlers, error_responses
from shared.http.health import Health
from shared.http.middleware import HeadAsGet, RequestContext

VERSION = version("pinflow")
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_api(
    service: str, *, summary: str, lifespan: Lifespan, health: Health, concurrency: int
) -> FastAPI:
    """Builds a FastAPI application with Pinflow's errors, request ids and metrics.

    The caller adds its routers. Beyond `concurrency` concurrent requests, it answers 503.
    """
    api = FastAPI(
        title=f"Pinflow {service}",
        summary=summary,
        version=VERSION,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # A redirect's address would contain the Host that the client sent
        redirect_slashes=False,
        # Generated clients name their methods after it: the endpoint's name
        generate_unique_id_function=attrgetter("name"),
        responses=error_responses(HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE),
    )
    api.state.health = health
    add_error_handlers(api)
    api.add_middleware(LimitConcurrency, limit=concurrency)
    api.add_middleware(HeadAsGet)
    api.add_middleware(RequestContext, service=service)  # outside those above
    return api


def add_process_endpoints(api: FastAPI) -> None:
    """Adds /healthz, /readyz and /metrics for the process's supervisor and monitoring.

    The gateway does not expose them.
    """

    @api.get("/healthz", include_in_schema=False)
    async def health() -> dict[str, str]:
        return {"status": "ok", "version": VERSION}

    @api.get("/readyz", include_in_schema=False)
    async def readiness(request: Request) -> JSONResponse:
        report = await request.app.state.health.report()
        status = HTTPStatus.OK if report.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        return JSONResponse(
            {"status": report.status, "version": VERSION, "checks": report.checks}, status
        )

    add_metrics_endpoint(api)


def add_metrics_endpoint(api: FastAPI) -> None:
    """Adds /metrics."""

    @api.get("/metrics", include_in_schema=False)
    async def prometheus() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
