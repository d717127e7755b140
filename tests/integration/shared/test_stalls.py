"""A stalled partition on a real broker is reported, and a healthy consumer is not."""

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
from tests.support.consuming import (
    TOPIC,
    Handler,
    consuming,
    make_values,
    produce,
    select_by_prefix,
)
from tests.support.waiting import eventually

AFTER_SECONDS = 1.0
"""The time after which most consumers in these tests report a stall."""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_module, "PROGRESS_CHECK_SECONDS", 0.05)


@asynccontextmanager
async def watching(consumer: BatchConsumer) -> AsyncIterator[list[str | None]]:
    """Runs the consumer's watch. Yields a list of its problems, one for each check of progress."""
    problems: list[str | None] = []
    observe_progress = consumer.health.observe_progress

    async def observe_and_record() -> None:
        await observe_progress()
        problems.append(consumer.problem())

    consumer.health.observe_progress = observe_and_record  # type: ignore[method-assign]
    watch = asyncio.create_task(consumer.watch())
    try:
        await eventually(lambda: problems and consumer.problem() is None)
        problems.clear()
        yield problems
    finally:
        watch.cancel()
        await asyncio.wait([watch])


def read_gauges(consumer: BatchConsumer) -> dict[tuple[str, int], float]:
    """Reads the metric pinflow_partition_stalled_seconds by topic and partition."""
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
            stalled_after_seconds=AFTER_SECONDS,
        ) as consumer,
        watching(consumer),
    ):
        await upstream.begin_transaction()
        await upstream.send_and_wait(topic, b"open", partition=2)
        await eventually(lambda: read_gauges(consumer)[topic, 2] >= AFTER_SECONDS)
        assert (
            consumer.problem() is None
        )  # readiness, and with it HTTP, must not depend on an upstream system
        assert sum(read_gauges(consumer).values()) == read_gauges(consumer)[topic, 2]
        await produce(producer, settings, make_values("beside"), topic=TopicName.IMPORT_REQUESTS)
        await eventually(
            lambda: len(select_by_prefix("beside", handler.done)) > len(make_values("beside")) / 2
        )
        assert (
            read_gauges(consumer)[topic, 2] >= AFTER_SECONDS
        )  # not hidden by progress on other partitions
        await upstream.abort_transaction()
        await eventually(lambda: set(make_values("beside")) <= set(handler.done))
        await eventually(
            lambda: consumer.problem() is None and not any(read_gauges(consumer).values())
        )


async def test_a_hanging_batch_is_reported(
    settings: ServiceSettings,
    producer: RecordProducer,
) -> None:
    may_finish = asyncio.Event()

    async def hang(values: list[bytes]) -> None:
        if select_by_prefix("hangs", values):
            await may_finish.wait()

    async with (
        consuming(
            settings, producer, Handler(hang), name="hangs", stalled_after_seconds=AFTER_SECONDS
        ) as consumer,
        watching(consumer),
    ):
        await produce(producer, settings, [b"hangs"])
        problem = await eventually(consumer.problem)
        assert "has made no progress for" in problem
        may_finish.set()
        await eventually(lambda: consumer.problem() is None)


async def test_neither_traffic_nor_idleness_is_a_stall(
    settings: ServiceSettings,
    producer: RecordProducer,
) -> None:
    handler = Handler()
    async with (
        consuming(settings, producer, handler, name="well", stalled_after_seconds=5) as consumer,
        watching(consumer) as problems,
    ):
        for number in range(20):
            sent = set(make_values(f"traffic-{number}"))
            await produce(producer, settings, sorted(sent))
            await eventually(partial(_is_done, handler, sent))
        checks = len(problems)
        await eventually(lambda: len(problems) > checks + 60)
        assert set(problems) == {None}
        assert set(read_gauges(consumer)) == {
            (consumer.names[TOPIC], number) for number in range(6)
        }
        assert max(read_gauges(consumer).values()) < AFTER_SECONDS


def _is_done(handler: Handler, sent: set[bytes]) -> bool:
    return sent <= set(handler.done)


async def test_a_consumer_that_waits_for_capacity_is_not_stalled(
    settings: ServiceSettings,
    producer: RecordProducer,
) -> None:
    refused = 0

    async def full(values: list[bytes]) -> None:
        nonlocal refused
        if select_by_prefix("no-capacity", values):
            refused += 1
            raise Overloaded(ErrorCode.OVERLOADED, "full", retry_after=1)

    async with (
        consuming(
            settings, producer, Handler(full), name="full", stalled_after_seconds=4
        ) as consumer,
        watching(consumer) as problems,
    ):
        await produce(producer, settings, [b"no-capacity"])
        await eventually(lambda: refused > 6)  # after 6 s
        assert set(problems) == {None}


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
            name="paused",
            is_wanted=nobody,
            stalled_after_seconds=AFTER_SECONDS,
        ) as consumer,
        watching(consumer) as problems,
    ):
        await consumer.pause_when_unused.check()
        await produce(producer, settings, make_values("unwanted"))
        checks = len(problems)
        await eventually(
            lambda: (
                len(problems) > checks + 2 * AFTER_SECONDS / health_module.PROGRESS_CHECK_SECONDS
            )
        )
        assert set(problems) == {None}
        assert set(read_gauges(consumer).values()) == {0.0}


async def test_a_partitions_gauge_is_removed_when_another_member_gets_it(
    settings: ServiceSettings, producer: RecordProducer, environment: dict[str, Any]
) -> None:
    other_settings = ServiceSettings(**{**environment, "replica": "1"})
    async with consuming(settings, producer, Handler(), name="leaves") as consumer:
        async with watching(consumer):
            await eventually(lambda: len(read_gauges(consumer)) == 6)
            async with consuming(other_settings, producer, Handler(), name="leaves"):
                await eventually(lambda: len(read_gauges(consumer)) == 3)
        assert read_gauges(consumer) == {}
