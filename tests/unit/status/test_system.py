"""Readiness checks of other services: ready, not ready, or without an answer."""

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


async def stay_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(1000):
        pass
    writer.close()


async def send_garbage(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"not HTTP\r\n\r\n")
    writer.close()


async def check_service(url: str) -> str | None:
    async with create_http_pool() as http:
        return await build_service_check(http, url)()


@pytest.mark.parametrize(
    ("handle", "problem"),
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
        (send_garbage, "no answer"),
    ],
)
async def test_a_check_reports_the_answer_of_the_service(
    handle: Handler, problem: str | None
) -> None:
    async with listening(handle) as url:
        assert await check_service(url) == problem


async def test_a_check_of_a_silent_service_times_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(system, "CHECK_TIMEOUT_SECONDS", 0.1)
    async with listening(stay_silent) as url:
        assert await check_service(url) == "no answer"


async def test_a_service_that_does_not_listen_gives_no_answer() -> None:
    async with listening(hang_up) as url:
        pass
    assert await check_service(url) == "no answer"
    assert await check_service("not-a-url") == "no answer"


async def test_one_ready_replica_is_enough_and_otherwise_all_problems_are_reported() -> None:
    waiting = answering(
        "503 Service Unavailable",
        b'{"checks": {"runtime": "no partitions assigned yet", "lease": "ok"}}',
    )
    async with (
        listening(answering("200 OK", b"{}")) as working,
        listening(waiting) as waits,
        listening(hang_up) as down,
    ):
        assert await check_service(f"{down},{working}") is None
        assert await check_service(f"{waits}, {working}") is None
        assert (
            await check_service(f"{waits},{down},{down}")
            == "no partitions assigned yet | no answer"
        )


class WorkingDatabase:
    """A database that answers every query."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["WorkingDatabase"]:
        yield self

    async def exec_driver_sql(self, _statement: str) -> None: ...


@pytest.mark.parametrize(
    ("urls_down", "ready", "status"),
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
async def test_access_and_webhooks_only_degrade_readiness(
    urls_down: dict[str, str], ready: bool, status: str
) -> None:
    names = ("ingest_url", "publisher_url", "access_url", "webhooks_url")
    database: Any = WorkingDatabase()
    async with listening(answering("200 OK", b"{}")) as url, create_http_pool() as http:
        urls: dict[str, Any] = {**dict.fromkeys(names, url), **urls_down}
        settings = StatusSettings(**urls)
        health = Health()
        register_readiness_checks(health, settings, database, http)
        report = await health.report()
    assert (report.is_ready, report.status) == (ready, status)
