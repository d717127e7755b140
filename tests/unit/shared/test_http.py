"""Rules for every HTTP answer, and clients that disconnect."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request
from prometheus_client import REGISTRY
from starlette.types import Message
from structlog.testing import capture_logs

from shared.contract.errors import BrokerUnavailable, ProcessNotConnected
from shared.http.app import create_api
from shared.http.bodies import BodyReader
from shared.http.health import Health
from shared.http.idempotency import IdempotencyKey


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield


def api() -> FastAPI:
    app = create_api("testing", summary="", lifespan=lifespan, health=Health(), concurrency=10)
    bodies = BodyReader(limit_bytes=100, timeout_seconds=10, total_bytes=1000)

    @app.post("/bodies")
    async def receive_body(request: Request) -> int:
        async with bodies.read(request) as body:
            return len(body)

    return app


async def test_a_disconnect_during_the_request_body_causes_no_answer_and_no_error_log() -> None:
    received: list[Message] = [
        {"type": "http.disconnect"},
        {"type": "http.request", "body": b"x", "more_body": True},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return received.pop()

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/bodies",
        "headers": [],
        "query_string": b"",
        "raw_path": b"/bodies",
    }
    with capture_logs() as logs:
        await api()(scope, receive, send)
    assert not sent
    assert [(line["event"], line["log_level"], line["status"]) for line in logs] == [
        ("request", "info", 499)
    ]
    labels = {"service": "testing", "method": "POST", "route": "/bodies", "status": "499"}
    assert REGISTRY.get_sample_value("pinflow_http_seconds_count", labels) == 1


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (BrokerUnavailable("down"), "Kafka is not available right now."),
        (
            ProcessNotConnected("starting"),
            "This service is starting or stopping, and is not connected to Kafka.",
        ),
    ],
)
async def test_a_process_that_starts_does_not_say_that_kafka_is_down(
    error: BrokerUnavailable, problem: str
) -> None:
    app = api()

    @app.post("/imports")
    async def accept() -> None:
        raise error

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testing") as client:
        answer = await client.post("/imports")
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["code"]) == (503, "broker_unavailable")
    assert detail["message"] == f"{problem} Nothing was accepted. Try again."


async def test_too_many_concurrent_requests_get_503_with_retry_after() -> None:
    app = api()
    started, finish = asyncio.Event(), asyncio.Event()

    @app.get("/slow")
    async def slow() -> None:
        started.set()
        await finish.wait()

    @app.get("/healthz")
    async def healthz() -> str:
        return "ok"

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://pinflow.test"
    ) as client:
        in_progress = [asyncio.create_task(client.get("/slow")) for _ in range(10)]
        await started.wait()
        await asyncio.sleep(0)
        refused = await client.get("/slow")
        assert (refused.status_code, refused.json()["detail"]["code"]) == (503, "too_busy")
        assert refused.headers["retry-after"]
        assert (await client.get("/healthz")).status_code == 200
        finish.set()
        assert {answer.status_code for answer in await asyncio.gather(*in_progress)} == {200}
        assert (await client.get("/slow")).status_code == 200


async def test_a_405_lists_the_allowed_methods_and_nothing_is_redirected() -> None:
    app = api()

    @app.get("/bodies")
    async def read() -> None: ...

    @app.patch("/{other}")
    async def change(other: str) -> None: ...

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://evil.example"
    ) as client:
        refused = await client.delete("/bodies")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
        assert (await client.options("/bodies")).headers[
            "allow"
        ] == "GET, HEAD, POST"  # not the methods of /{other}
        assert (await client.get("/bodies/")).status_code == 404


async def test_a_wrong_header_or_parameter_is_named_and_every_error_has_a_help_path() -> None:
    app = api()

    @app.get("/keys")
    async def read(limit: int = 1, idempotency_key: IdempotencyKey = None) -> None: ...

    @app.get("/broken")
    async def fail() -> None:
        raise ZeroDivisionError

    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://pinflow.test"
    ) as client:
        for key, message in [
            (b" ", "must not be blank"),
            (b"x" * 256, "must have at most 255 characters; it has 256"),
            (
                b"\xe4",
                "must be encoded as UTF-8. Use only ASCII characters if your client can't do so",
            ),
        ]:
            detail = (await client.get("/keys", headers={b"Idempotency-Key": key})).json()["detail"]
            assert (detail["code"], detail["message"], detail["help"]) == (
                "invalid_parameter",
                f"Idempotency-Key: {message}",
                "/docs/errors#invalid_parameter",
            )
        wrong = (await client.get("/keys?limit=x")).json()["detail"]
        assert wrong["message"] == "limit: must be a whole number, for example 50"
        for path, code in [("/nothing", "not_found"), ("/broken", "internal_error")]:
            detail = (await client.get(path)).json()["detail"]
            assert (detail["code"], detail["help"]) == (code, f"/docs/errors#{code}")
        assert (await client.put("/keys")).json()["detail"]["help"].endswith("#method_not_allowed")
