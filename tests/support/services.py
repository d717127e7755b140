"""Runs a service in the test's process, on real servers, and calls it over ASGI."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI

from deploy.services import SERVICES
from shared.runtime.components import ServiceRuntime
from tests.support.waiting import eventually

WITH_KAFKA = tuple(name for name, service in SERVICES.items() if service.uses_kafka)
"""The services that use Kafka."""


@asynccontextmanager
async def running_app(app: FastAPI, *, ready: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """Runs the application and yields a client, with `ready` only when it has no problem."""
    runtime: ServiceRuntime = app.state.runtime
    lost: list[bool] = []
    runtime.on_lost = lambda: lost.append(True)
    async with app.router.lifespan_context(app):
        if ready:
            await eventually(lambda: _works(runtime), seconds=30)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://pinflow.test") as client:
            yield client
    assert not lost, "a part of the service was lost; see the log"


async def _works(runtime: ServiceRuntime) -> bool:
    return await runtime.problem() is None
