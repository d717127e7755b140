"""A partition that stands still on a real broker is seen; a healthy consumer is not blamed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from prometheus_client import REGISTRY

from shared.contract.errors import ErrorCode, Overloaded
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.consumer import BatchConsumer
from shared.kafka.consumer_health import health as health_module
from shared.kafka.producer import RecordProducer
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import TOPIC, Handler, consuming, of, produce, some
from tests.support.waiting import eventually

AFTER = 1.0
"""Seconds from which these tests' consumers tell of a stall."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "PROGRESS_CHECK_SECONDS", 0.05)


@asynccontextmanager
async def watching(consumer: BatchConsumer) -> AsyncIterator[list[str | None]]:
    """Lets the consumer watch itself; yields its troubles, look by look."""
    troubles: list[str | None] = []
    look = consumer.health.observe_progress

    async def looks() -> None:
        await look()
        troubles.append(consumer.problem())

    consumer.health.observe_progress = looks  # type: ignore[method-assign]
    watch = asyncio.create_task(consumer.watch())
    try:
        await eventually(lambda: troubles and consumer.problem() is None)
        troubles.clear()
        yield troubles
    finally:
        watch.cancel()
        await asyncio.wait([watch])


def gauges(consumer: BatchConsumer) -> dict[tuple[str, int], float]:
    """Reads what Prometheus would: seconds by topic and partition."""
    metrics = {metric.name: metric for metric in REGISTRY.collect()}
    samples = metrics["pinflow_partition_stalled_seconds"].samples
    return {
        (sample.labels["topic"], int(sample.labels["partition"])): sample.value
        for sample in samples
        if sample.labels["consumer"] == consumer.name
    }


async def test_an_open_transaction_of_an_upstream_system_is_measured(
    settings: ServiceSettings,
    producer: RecordProducer,
) -> None:
    topic, handler = TopicNames(settings.topic_prefix)[TopicName.IMPORT_REQUESTS], Handler()
    upstream = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        transactional_id=f"test-{uuid4()}",
    )
    topics = [TopicName.IMPORT_REQUESTS]
    async with (
        upstream,
        consuming(
            settings,
            producer,
            handler,
            name="open",
            topics=topics,
            stalled_after_seconds=AFTER,
        ) as consumer,
        watching(consumer),
    ):
        await upstream.begin_transaction()
        await upstream.send_and_wait(topic, b"open", partition=2)
        await eventually(lambda: gauges(consumer)[topic, 2] >= AFTER)
        assert consumer.problem() is None  # an upstream's fault must not take ingest's HTTP away
        assert sum(gauges(consumer).values()) == gauges(consumer)[topic, 2]
        await produce(producer, settings, some("beside"), topic=TopicName.IMPORT_REQUESTS)
        await eventually(lambda: len(of("beside", handler.done)) > len(some("beside")) / 2)
        assert gauges(consumer)[topic, 2] >= AFTER  # the others' progress hides nothing
        await upstream.abort_transaction()
        await eventually(lambda: set(some("beside")) <= set(handler.done))
        await eventually(lambda: consumer.problem() is None and not any(gauges(consumer).values()))


async def test_a_hanging_batch_is_reported(
    settings: ServiceSettings,
    producer: RecordProducer,
) -> None:
    go_on = asyncio.Event()

    async def hang(values: list[bytes]) -> None:
        if of("hangs", values):
            await go_on.wait()

    async with (
        consuming(
            settings, producer, Handler(hang), name="hangs", stalled_after_seconds=AFTER
        ) as consumer,
        watching(consumer),
    ):
        await produce(producer, settings, [b"hangs"])
        trouble = await eventually(consumer.problem)
        assert "has made no progress for" in trouble
        go_on.set()
        await eventually(lambda: consumer.problem() is None)


async def test_neither_traffic_nor_idleness_is_a_stall(
    settings: ServiceSettings,
    producer: RecordProducer,
) -> None:
    handler = Handler()
    async with (
        consuming(settings, producer, handler, name="well", stalled_after_seconds=5) as consumer,
        watching(consumer) as troubles,
    ):
        for number in range(20):
            sent = set(some(f"traffic-{number}"))
            await produce(producer, settings, sorted(sent))
            await eventually(partial(_is_done, handler, sent))
        looks = len(troubles)
        await eventually(lambda: len(troubles) > looks + 60)
        assert set(troubles) == {None}
        assert set(gauges(consumer)) == {(consumer.names[TOPIC], number) for number in range(6)}
        assert max(gauges(consumer).values()) < AFTER


def _is_done(handler: Handler, sent: set[bytes]) -> bool:
    return sent <= set(handler.done)


async def test_a_consumer_that_waits_for_capacity_is_not_stalled(
    settings: ServiceSettings,
    producer: RecordProducer,
) -> None:
    refused = 0

    async def full(values: list[bytes]) -> None:
        nonlocal refused
        if of("no-room", values):
            refused += 1
            raise Overloaded(ErrorCode.OVERLOADED, "full", retry_after=1)

    async with (
        consuming(
            settings, producer, Handler(full), name="full", stalled_after_seconds=2
        ) as consumer,
        watching(consumer) as troubles,
    ):
        await produce(producer, settings, [b"no-room"])
        await eventually(lambda: refused > 5)
        assert set(troubles) == {None}


async def test_a_paused_consumer_is_not_stalled(
    settings: ServiceSettings,
    producer: RecordProducer,
) -> None:
    async def nobody() -> bool:
        return False

    async with (
        consuming(
            settings,
            producer,
            Handler(),
            name="asleep",
            is_wanted=nobody,
            stalled_after_seconds=AFTER,
        ) as consumer,
        watching(consumer) as troubles,
    ):
        await consumer.pause_when_unused.check()
        await produce(producer, settings, some("unwanted"))
        looks = len(troubles)
        await eventually(
            lambda: len(troubles) > looks + 2 * AFTER / health_module.PROGRESS_CHECK_SECONDS
        )
        assert set(troubles) == {None}
        assert set(gauges(consumer).values()) == {0.0}


async def test_a_partitions_gauge_is_removed_when_another_member_gets_it(
    settings: ServiceSettings, producer: RecordProducer, environment: dict[str, Any]
) -> None:
    other = ServiceSettings(**{**environment, "replica": "1"})
    async with consuming(settings, producer, Handler(), name="leaves") as consumer:
        async with watching(consumer):
            await eventually(lambda: len(gauges(consumer)) == 6)
            async with consuming(other, producer, Handler(), name="leaves"):
                await eventually(lambda: len(gauges(consumer)) == 3)
        assert gauges(consumer) == {}
