"""Uses of API keys are collected and reported once per minute. Failed reports are repeated."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import orjson
import pytest

from shared.access.usage import (
    MAX_REPORTED_KEYS,
    REPORT_INTERVAL_SECONDS,
    AccessUnavailable,
    KeyUsageClient,
    KeyUsageRecorder,
)
from shared.contract.errors import DatabaseUnavailable

A, B = uuid4(), uuid4()


class ReceivedReports:
    def __init__(self) -> None:
        self.statements: list[set[UUID]] = []
        self.error: Exception | None = None

    async def mark_used(self, key_ids: Collection[UUID]) -> None:
        if self.error is not None:
            raise self.error
        self.statements.append(set(key_ids))


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_many_uses_of_many_keys_become_one_report_per_minute() -> None:
    received, clock = ReceivedReports(), Clock()
    usage = KeyUsageRecorder(received, clock)
    for key in (A, B, A):
        usage.record(key)
    await usage.report()
    usage.record(A)
    await usage.report()
    assert received.statements == [{A, B}]
    clock.now += REPORT_INTERVAL_SECONDS
    usage.record(A)
    await usage.report()
    assert received.statements == [{A, B}, {A}]


@pytest.mark.parametrize(
    "error", [AccessUnavailable("away"), DatabaseUnavailable("away"), RuntimeError("no such right")]
)
async def test_a_failed_report_is_repeated_with_the_next_one(
    error: Exception,
) -> None:
    received = ReceivedReports()
    usage = KeyUsageRecorder(received, Clock())
    usage.record(A)
    received.error = error
    assert await usage.report() == 0
    usage.record(B)
    received.error = None
    await usage.report()
    await usage.report()
    assert received.statements == [{A, B}]


async def test_a_long_outage_keeps_a_bounded_number_of_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("shared.access.usage.MAX_UNREPORTED_KEYS", 1)
    received, clock = ReceivedReports(), Clock()
    usage = KeyUsageRecorder(received, clock)
    usage.record(A)
    usage.record(B)
    await usage.report()
    usage.record(B)
    await usage.report()
    assert received.statements == [{A}, {B}]


async def test_keys_of_a_report_that_may_fail_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.access.usage.MAX_UNREPORTED_KEYS", 1)
    received, clock = ReceivedReports(), Clock()
    usage = KeyUsageRecorder(received, clock)

    async def record_and_fail(_key_ids: Collection[UUID]) -> None:
        usage.record(B)
        raise AccessUnavailable("away")

    usage.record(A)
    with monkeypatch.context() as outage:
        outage.setattr(received, "mark_used", record_and_fail)
        await usage.report()
    await usage.report()
    usage.record(B)
    await usage.report()
    assert received.statements == [{A}, {B}]


class Replica:
    """A replica of the access service that answers with `status` and stores the reports."""

    def __init__(self, status: str = "204 No Content") -> None:
        self._status = status
        self.reports: list[list[UUID]] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert head.startswith("POST /internal/key-usage ")
            (length,) = [
                int(line.split(":")[1])
                for line in head.splitlines()
                if line.lower().startswith("content-length:")
            ]
            body = orjson.loads(await reader.readexactly(length))
            self.reports.append([UUID(key_id) for key_id in body["key_ids"]])
            writer.write(f"HTTP/1.1 {self._status}\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


UNREACHABLE = "http://127.0.0.1:9"


async def test_a_report_goes_to_the_first_replica_that_accepts_it() -> None:
    broken, works, spare = Replica("503 Service Unavailable"), Replica(), Replica()
    async with broken.listening() as first, works.listening() as second, spare.listening() as third:
        client = KeyUsageClient(f"{UNREACHABLE},{first},{second},{third}")
        await client.mark_used({A})
        await client.close()
    assert (broken.reports, works.reports, spare.reports) == ([[A]], [[A]], [])


async def test_many_keys_are_reported_in_bounded_chunks() -> None:
    access = Replica()
    ids = [uuid4() for _ in range(2 * MAX_REPORTED_KEYS + 1)]
    async with access.listening() as url:
        client = KeyUsageClient(url)
        await client.mark_used(ids)
        await client.close()
    assert [len(report) for report in access.reports] == [MAX_REPORTED_KEYS, MAX_REPORTED_KEYS, 1]
    assert [key_id for report in access.reports for key_id in report] == ids


async def test_the_error_lists_what_is_wrong_with_each_replica() -> None:
    async with Replica("503 Service Unavailable").listening() as broken:
        client = KeyUsageClient(f"{UNREACHABLE},{broken}")
        with pytest.raises(AccessUnavailable) as unavailable:
            await client.mark_used([A])
        await client.close()
    assert str(unavailable.value) == f"{UNREACHABLE}: no answer; {broken}: status 503"
