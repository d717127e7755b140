"""What readiness says of another service, by what that one answers, or does not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.status import system
from services.status.config import StatusSettings
from services.status.system import build_service_check, register_readiness_checks
from shared.http.client import create_http_pool
from shared.http.health import Health

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def listening(handle: Handler) -> AsyncIterator[str]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def answering(status: str, body: bytes) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n".encode()
            + b"Connection: close\r\n\r\n"
            + body
        )
        await writer.drain()
        writer.close()

    return handle


async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1000):
        pass
    writer.close()


async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"good day\r\n\r\n")
    writer.close()


async def trouble_of(url: str) -> str | None:
    async with create_http_pool() as http:
        return await build_service_check(http, url)()


@pytest.mark.parametrize(
    ("handle", "trouble"),
    [
        (answering("200 OK", b"{}"), None),
        (
            answering(
                "503 Service Unavailable",
                b'{"checks": {"runtime": "starting", "database": "ok"}}',
            ),
            "starting",
        ),
        (answering("500 Internal Server Error", b"oh"), "status 500"),
        (answering("502 Bad Gateway", b"[]"), "status 502"),
        (hang_up, "no answer"),
        (babble, "no answer"),
    ],
)
async def test_a_service_is_as_it_says(handle: Handler, trouble: str | None) -> None:
    async with listening(handle) as url:
        assert await trouble_of(url) == trouble


async def test_a_service_that_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(system, "CHECK_TIMEOUT_SECONDS", 0.1)
    async with listening(say_nothing) as url:
        assert await trouble_of(url) == "no answer"


async def test_a_service_that_is_not_there_gives_no_answer() -> None:
    async with listening(hang_up) as url:
        pass
    assert await trouble_of(url) == "no answer"
    assert await trouble_of("not-a-url") == "no answer"


async def test_one_working_replica_is_enough_else_each_ones_trouble_is_told() -> None:
    waiting = answering(
        "503 Service Unavailable",
        b'{"checks": {"runtime": "no partitions assigned yet", "lease": "ok"}}',
    )
    async with (
        listening(answering("200 OK", b"{}")) as working,
        listening(waiting) as waits,
        listening(hang_up) as away,
    ):
        assert await trouble_of(f"{away},{working}") is None
        assert await trouble_of(f"{waits}, {working}") is None
        assert (
            await trouble_of(f"{waits},{away},{away}") == "no partitions assigned yet | no answer"
        )


class Answering:
    """In the database's place."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Answering"]:
        yield self

    async def exec_driver_sql(self, _statement: str) -> None: ...


@pytest.mark.parametrize(
    ("away", "ready", "status"),
    [
        ({}, True, "ok"),
        (
            {"access_url": "http://127.0.0.1:9", "webhooks_url": "http://127.0.0.1:9"},
            True,
            "degraded",
        ),
        ({"publisher_url": "http://127.0.0.1:9"}, False, "unavailable"),
    ],
    ids=["none", "access and webhooks", "publisher"],
)
async def test_access_and_webhooks_alone_degrade_and_do_not_stop(
    away: dict[str, str], ready: bool, status: str
) -> None:
    names = ("ingest_url", "publisher_url", "access_url", "webhooks_url")
    database: Any = Answering()
    async with listening(answering("200 OK", b"{}")) as url, create_http_pool() as http:
        urls: dict[str, Any] = {**dict.fromkeys(names, url), **away}
        settings = StatusSettings(**urls)
        health = Health()
        register_readiness_checks(health, settings, database, http)
        report = await health.report()
    assert (report.is_ready, report.status) == (ready, status)
