"""A consumer whose records nobody wants sleeps, and misses nothing of what is wanted."""

import time
from typing import Any

import pytest

from shared.contract.errors import DatabaseUnavailable
from shared.kafka.consumer_health import health as health_module
from shared.kafka.producer import RecordProducer
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import Handler, consuming, of, produce, some
from tests.support.waiting import eventually


class Demand:
    """Whether records are wanted, and what happens between the question and its answer."""

    def __init__(self) -> None:
        self.stands = False
        self.meanwhile: list[Any] = []
        """Of the first question, of the second."""

    async def __call__(self) -> bool:
        answer = self.stands
        if self.meanwhile:
            await self.meanwhile.pop(0)
        return answer


async def nothing() -> None:
    pass


async def test_unwanted_records_are_skipped_and_wanted_records_are_processed(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    demand, handler = Demand(), Handler()
    async with consuming(settings, producer, handler, name="sleeper", is_wanted=demand) as consumer:
        await consumer.pause_when_unused.check()
        for _ in range(3):
            await produce(producer, settings, some("unwanted"))
            await consumer.pause_when_unused.check()
        demand.stands = True
        await produce(producer, settings, some("wanted"))
        await consumer.pause_when_unused.check()
        await eventually(lambda: set(some("wanted")) <= set(handler.done))
        demand.stands = False
        await consumer.pause_when_unused.check()
        await produce(producer, settings, some("unwanted"))
        await consumer.pause_when_unused.check()
    assert set(of("unwanted", handler.done)) == set()
    assert set(some("wanted")) <= set(handler.done)


async def test_records_produced_during_the_check_are_not_skipped(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    demand, handler = Demand(), Handler()
    async with consuming(settings, producer, handler, name="asked", is_wanted=demand) as consumer:
        await (
            consumer.pause_when_unused.check()
        )  # asleep, or it would have fetched them before they could be skipped
        demand.meanwhile = [nothing(), produce(producer, settings, some("early"))]
        await consumer.pause_when_unused.check()
        demand.stands = True
        await consumer.pause_when_unused.check()
        await eventually(lambda: set(some("early")) <= set(handler.done))


async def test_an_unavailable_server_changes_nothing(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    demand, handler = Demand(), Handler()

    async def away() -> None:
        raise DatabaseUnavailable("away")

    async with consuming(settings, producer, handler, name="unsure", is_wanted=demand) as consumer:
        await consumer.pause_when_unused.check()
        await produce(producer, settings, some("unsure"))
        for answers in ([away()], [nothing(), away()]):
            demand.meanwhile = answers
            with pytest.raises(DatabaseUnavailable):
                await consumer.pause_when_unused.check()
        demand.stands = True
        await consumer.pause_when_unused.check()
        await eventually(lambda: set(some("unsure")) <= set(handler.done))


async def test_a_paused_consumer_is_not_silent(
    settings: ServiceSettings, producer: RecordProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    demand, handler = Demand(), Handler()
    async with consuming(settings, producer, handler, name="healthy", is_wanted=demand) as consumer:
        await consumer.pause_when_unused.check()
        monkeypatch.setattr(health_module, "SILENT_AFTER_SECONDS", 0.5)
        await eventually(lambda: consumer.progress.last_polled_at() < time.time() - 1)
        assert consumer.problem() is None
        demand.stands = True
        await consumer.pause_when_unused.check()
        assert consumer.problem() is None  # woken, its first fetch is still to be answered
        await produce(producer, settings, some("healthy"))
        await eventually(lambda: of("healthy", handler.done))


async def test_failures_of_skipped_records_are_forgotten(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    demand = Demand()

    async def fails(_: list[bytes]) -> None:
        raise DatabaseUnavailable("away")

    async with consuming(
        settings, producer, Handler(fails), name="troubled", is_wanted=demand
    ) as consumer:
        await produce(producer, settings, some("troubled"))
        await eventually(lambda: consumer.problem() == "waiting for a server")

        async def sleeps_well() -> bool:
            await consumer.pause_when_unused.check()
            return consumer.problem() is None and consumer.pause_when_unused.last_paused_at() > 0

        await eventually(sleeps_well)
        await eventually(sleeps_well)  # once more: the batch in hand may have failed in between
