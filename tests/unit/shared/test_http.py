"""What every HTTP answer has in common, and what becomes of one that nobody waits for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from prometheus_client import REGISTRY
from starlette.types import Message
from structlog.testing import capture_logs

from shared.bodies import read_limited
from shared.health import Health
from shared.http import create_api


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield


def api() -> FastAPI:
    app = create_api("testing", summary="", lifespan=lifespan, health=Health())

    @app.post("/taken")
    async def take(request: Request) -> int:
        return len(await read_limited(request, 100))

    return app


async def test_a_client_that_goes_away_while_it_sends_is_neither_answered_nor_an_error() -> None:
    received: list[Message] = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"x", "more_body": True}]
    sent: list[Message] = []

    async def receive() -> Message:
        return received.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/taken", "headers": [], "query_string": b"", "raw_path": b"/taken"}
    with capture_logs() as logs:
        await api()(scope, receive, send)
    assert not sent
    assert [(line["event"], line["log_level"], line["status"]) for line in logs] == [("request", "info", 499)]
    labels = {"service": "testing", "method": "POST", "route": "/taken", "status": "499"}
    assert REGISTRY.get_sample_value("pinflow_http_seconds_count", labels) == 1
