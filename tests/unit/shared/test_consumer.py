"""A consumer shares the event loop while it decodes, and ends its process when it is lost.

Tests that need a broker are in tests/integration.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiokafka import ConsumerRecord
from aiokafka.errors import ConsumerStoppedError
from aiolimiter import AsyncLimiter

from shared.contract.errors import BrokerUnavailable
from shared.kafka.batch_processor import DECODE_CHUNK_BYTES, decode_in_chunks
from shared.kafka.batches import Batch
from shared.kafka.consumer import BatchConsumer
from shared.kafka.consumer_health import health as health_module
from shared.kafka.consumer_health.health import ConsumerLost
from shared.kafka.dead_letters import DeadLetter
from shared.kafka.positions.advance import Advance
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import build_subscription
from tests.support.fakes import MemorySender
from tests.support.waiting import eventually


class Handler:
    def __init__(self) -> None:
        self.chunk_sizes: list[int] = []

    def decode(self, records: Batch) -> tuple[list[Any], list[DeadLetter]]:
        self.chunk_sizes.append(len(records))
        return list(records), []

    async def process(
        self, _decoded: list[Any], _poison: list[DeadLetter], _advance: Advance
    ) -> list[DeadLetter]:
        return []


class Kafka:
    """Replaces the check that Kafka answers, and counts the calls."""

    def __init__(self, error: Exception | None = None) -> None:
        self.checks = 0
        self._error = error

    async def __call__(self, _settings: ServiceSettings) -> None:
        self.checks += 1
        if self._error is not None:
            raise self._error


@pytest.fixture
def handler() -> Handler:
    return Handler()


@pytest.fixture
def consumer(handler: Handler) -> BatchConsumer:
    """A consumer that was never started: it has no partitions and fetches nothing."""
    return BatchConsumer(build_subscription(), ServiceSettings(), handler, MemorySender())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "SILENT_AFTER_SECONDS", 0.05)
    monkeypatch.setattr(health_module, "KAFKA_CHECK_SECONDS", 0.01)


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Kafka:
    return _install(monkeypatch, Kafka())


def _install(monkeypatch: pytest.MonkeyPatch, kafka: Kafka) -> Kafka:
    monkeypatch.setattr(health_module, "require_topics", kafka)
    return kafka


async def fetch_with(consumer: BatchConsumer, fetch: Callable[[], Awaitable[Batch]]) -> Batch:
    """Fetches a batch with `fetch` in place of aiokafka's."""
    consumer._member.fetch = fetch  # type: ignore[method-assign, assignment]
    return await consumer._fetcher.fetch()


async def _expect_lost(consumer: BatchConsumer) -> None:
    with pytest.raises(ConsumerLost, match="got no answer from Kafka although it answers"):
        await asyncio.wait_for(consumer.watch(), 10)
    assert (consumer.problem() or "").startswith("lost")


async def _expect_running(
    consumer: BatchConsumer, seen: Callable[[], bool] | Callable[[], Awaitable[bool]]
) -> None:
    watch = asyncio.create_task(consumer.watch())
    try:
        await eventually(seen)
        assert not watch.done()
    finally:
        watch.cancel()
        await asyncio.wait([watch])


async def test_a_consumer_without_answers_is_lost_if_kafka_answers_other_clients(
    consumer: BatchConsumer, answering: Kafka
) -> None:
    await consumer.rebalance_listener.on_partitions_assigned(set())
    await _expect_lost(consumer)
    assert answering.checks == health_module.MAX_SILENCES


async def test_a_consumer_that_never_gets_partitions_is_lost(
    consumer: BatchConsumer, answering: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member with an empty assignment is healthy. A member without any assignment is not."""
    monkeypatch.setattr(consumer.progress, "last_polled_at", lambda: float("inf"))
    await _expect_lost(consumer)
    assert answering.checks == health_module.MAX_SILENCES


@pytest.mark.parametrize(
    "error", [BrokerUnavailable("away"), TimeoutError(), ConnectionResetError()]
)
async def test_invariant_9_a_consumer_waits_while_kafka_is_unavailable(
    consumer: BatchConsumer, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = _install(monkeypatch, Kafka(error))
    await consumer.rebalance_listener.on_partitions_assigned(set())
    await _expect_running(consumer, lambda: kafka.checks > 3 * health_module.MAX_SILENCES)
    assert consumer.problem() == "no answer from Kafka"


async def test_a_consumer_that_processes_a_batch_is_not_silent(
    consumer: BatchConsumer, answering: Kafka
) -> None:
    await consumer.rebalance_listener.on_partitions_assigned(set())
    idle_checks = 0

    def count_check() -> bool:
        nonlocal idle_checks
        idle_checks += 1
        return False

    consumer._idle.is_set = count_check  # type: ignore[method-assign]
    await _expect_running(consumer, lambda: idle_checks > 10)
    assert answering.checks == 0


@pytest.mark.parametrize(
    "error", [ValueError("a decompressor's"), RuntimeError("a bug of the client")]
)
async def test_any_unexpected_error_of_a_fetch_ends_the_process(
    consumer: BatchConsumer, error: Exception
) -> None:
    """FastStream's own loop would continue after the dropped records."""

    async def fails() -> Batch:
        raise error

    with pytest.raises(ConsumerStoppedError):
        await fetch_with(consumer, fails)
    with pytest.raises(ConsumerLost, match=str(error)):
        await consumer.watch()


async def test_a_stopped_consumer_is_not_lost(consumer: BatchConsumer) -> None:
    async def stopped() -> Batch:
        raise ConsumerStoppedError

    with pytest.raises(ConsumerStoppedError):
        await fetch_with(consumer, stopped)
    assert consumer.problem() == "no partitions assigned yet"


async def test_a_batch_that_cannot_be_rewound_ends_the_process(
    consumer: BatchConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the next commit would skip the batch."""

    async def fetch() -> Batch:
        return (_record(b"", 0),)

    def fail(_: Batch) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(consumer._member, "fetch", fetch)
    # The consumer is not started, so the commit fails
    monkeypatch.setattr(consumer._processor, "rewind", fail)
    await consumer._consume()
    assert consumer.problem() == "lost: RuntimeError('a bug')"


async def test_the_rate_limit_applies_only_after_a_batch_that_was_not_full(
    handler: Handler,
) -> None:
    turns = 0

    class Counting(AsyncLimiter):
        async def acquire(self, amount: float = 1) -> None:
            nonlocal turns
            turns += int(amount)

    rate_limit = Counting(1)
    limited = BatchConsumer(
        build_subscription(max_records=3),
        ServiceSettings(),
        handler,
        MemorySender(),
        rate_limit=rate_limit,
    )
    sizes = iter([3, 3, 2, 1])
    expected = [1, 1, 1, 2]

    async def fetch() -> Batch:
        return tuple(_record(b"", offset) for offset in range(next(sizes)))

    for count in expected:
        await fetch_with(limited, fetch)
        assert turns == count


async def test_other_tasks_run_between_the_chunks_of_a_large_batch(
    handler: Handler,
) -> None:
    turns: list[int] = []

    async def another() -> None:
        while True:
            turns.append(len(handler.chunk_sizes))
            await asyncio.sleep(0)

    task = asyncio.create_task(another())
    records = [_record(b"x" * (DECODE_CHUNK_BYTES // 2), offset) for offset in range(6)]
    decoded, _ = await decode_in_chunks(handler, records)
    task.cancel()
    assert decoded == records
    assert handler.chunk_sizes == [2, 2, 2]
    assert {1, 2} <= set(turns)


def _record(value: bytes, offset: int) -> "ConsumerRecord[bytes, bytes]":
    return ConsumerRecord(
        topic="rows",
        partition=0,
        offset=offset,
        timestamp=0,
        timestamp_type=0,
        key=None,
        value=value,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=len(value),
        headers=[],
    )
