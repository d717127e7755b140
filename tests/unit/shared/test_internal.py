"""Calls between services: the token, replicas that are down, lost answers, and errors."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import httpcore
import httpx
import orjson
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from shared.contract.errors import ApiError
from shared.http.app import create_api
from shared.http.client import create_http_pool
from shared.http.health import Health
from shared.http.internal import InternalClient, NoAnswer, RequiresInternalToken, ServiceAway
from tests.support.receivers import ReceivedRequest, Reply, receiving

TOKEN = "the-token"  # pragma: allowlist secret


@pytest.fixture
async def pool() -> AsyncIterator[httpcore.AsyncConnectionPool]:
    pool = create_http_pool()
    yield pool
    await pool.aclose()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield


def build_service(token: str) -> FastAPI:
    app = create_api("testing", summary="", lifespan=lifespan, health=Health(), concurrency=10)
    app.state.internal_token = SecretStr(token)

    @app.post("/internal/echo")
    async def echo(_token: RequiresInternalToken) -> str:
        return "done"

    return app


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def dropping_connections() -> Iterator[int]:
    """Runs a server that closes each connection after it has read a request."""

    def answer(_: ReceivedRequest) -> Reply:
        raise ConnectionAbortedError

    with receiving(answer) as server:
        yield server.port


async def call(
    pool: httpcore.AsyncConnectionPool, *ports: int, token: str = TOKEN, seconds: float = 5
) -> Any:
    urls = ",".join(f"http://127.0.0.1:{port}" for port in ports)
    client = InternalClient("publisher", pool, urls, SecretStr(token))
    return await client.post("imports/undo", {"a": 1}, timeout_seconds=seconds)


async def catch(calling: Any) -> ApiError:
    with pytest.raises(ApiError) as error:
        await calling
    return error.value


def reply(status: int, document: object, **headers: str) -> Callable[[ReceivedRequest], Reply]:
    return lambda _: Reply(status, headers, orjson.dumps(document))


@pytest.mark.parametrize("sent", [None, "Bearer wrong", f"bearer {TOKEN}", TOKEN, "Bearer \xff"])
async def test_a_call_without_the_right_token_is_refused(sent: str | None) -> None:
    transport = httpx.ASGITransport(app=build_service(TOKEN))
    headers = [] if sent is None else [(b"Authorization", sent.encode("latin-1"))]
    async with httpx.AsyncClient(transport=transport, base_url="http://testing") as http:
        answer = await http.post("/internal/echo", headers=headers)
    assert (answer.status_code, answer.json()["detail"]["code"]) == (403, "internal_access_denied")


async def test_a_call_with_the_token_is_answered() -> None:
    transport = httpx.ASGITransport(app=build_service(TOKEN))
    async with httpx.AsyncClient(transport=transport, base_url="http://testing") as http:
        answer = await http.post("/internal/echo", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.json() == "done"


async def test_a_service_without_a_token_refuses_every_call() -> None:
    transport = httpx.ASGITransport(app=build_service(""))
    async with httpx.AsyncClient(transport=transport, base_url="http://testing") as http:
        answer = await http.post("/internal/echo", headers={"Authorization": "Bearer "})
    assert (answer.status_code, answer.json()["detail"]["code"]) == (503, "service_unavailable")
    assert "PINFLOW_INTERNAL_TOKEN" in answer.json()["detail"]["message"]


async def test_a_client_without_a_token_sends_nothing(
    pool: httpcore.AsyncConnectionPool,
) -> None:
    with receiving(reply(200, {})) as server:
        error = await catch(call(pool, server.port, token=""))
        assert (error.code, error.status) == ("service_unavailable", 503)
        assert server.requests == []


async def test_a_call_has_the_document_and_the_token(pool: httpcore.AsyncConnectionPool) -> None:
    with receiving(reply(200, {"undone": []})) as server:
        assert await call(pool, server.port) == {"undone": []}
        (request,) = server.requests
    assert (request.path, request.document) == ("/internal/imports/undo", {"a": 1})
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert request.headers["content-type"] == "application/json"


async def test_a_replica_that_is_down_is_skipped(pool: httpcore.AsyncConnectionPool) -> None:
    with receiving(reply(200, "answer")) as server:
        assert await call(pool, find_free_port(), server.port) == "answer"


async def test_without_a_replica_the_service_is_unavailable(
    pool: httpcore.AsyncConnectionPool,
) -> None:
    error = await catch(call(pool, find_free_port(), find_free_port()))
    assert (error.code, error.status) == ("service_unavailable", 503)
    assert error.headers == {"Retry-After": "1"}
    assert error.message == "The publisher service does not answer. Try again."
    assert isinstance(error, ServiceAway)
    assert not isinstance(error, NoAnswer)


async def test_a_request_whose_answer_was_lost_is_not_sent_to_another_replica(
    pool: httpcore.AsyncConnectionPool,
) -> None:
    with dropping_connections() as port, receiving(reply(200, {})) as other:
        error = await catch(call(pool, port, other.port))
        assert isinstance(error, NoAnswer)
        assert error.code == "service_unavailable"
        assert other.requests == []


async def test_a_replica_that_does_not_answer_in_time_is_not_replaced(
    pool: httpcore.AsyncConnectionPool,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, receiving(reply(200, {})) as other:
        async with asyncio.timeout(20):
            error = await catch(call(pool, silent.getsockname()[1], other.port, seconds=0.5))
        assert isinstance(error, NoAnswer)
        assert error.code == "service_unavailable"
        assert other.requests == []


async def test_an_error_is_passed_on_with_its_details(pool: httpcore.AsyncConnectionPool) -> None:
    detail = {
        "code": "too_many_unsettled_rows",
        "message": "Full.",
        "help": "/docs/errors#x",
        "limit": 5,
    }
    with receiving(
        reply(429, {"detail": detail}, **{"Retry-After": "7", "X-Other": "1"})
    ) as server:
        error = await catch(call(pool, server.port))
    assert (error.code, error.message, error.status) == ("too_many_unsettled_rows", "Full.", 429)
    assert (error.details, error.headers) == ({"limit": 5}, {"Retry-After": "7"})


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"detail":"text"}', b'{"detail":{"code":"new","message":""}}'],
)
async def test_an_answer_that_is_not_pinflows_is_an_outage(
    pool: httpcore.AsyncConnectionPool, body: bytes
) -> None:
    status = 200 if body in {b"", b"<html>"} else 502
    with receiving(lambda _: Reply(status, {}, body)) as server:
        error = await catch(call(pool, server.port))
    assert (error.code, error.status) == ("service_unavailable", 503)
