"""A consumer pauses while its records are unwanted, and misses no wanted record."""

import time
from typing import Any

import pytest

from shared.contract.errors import DatabaseUnavailable
from shared.kafka.consumer_health import health as health_module
from shared.kafka.producer import RecordProducer
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import Handler, consuming, make_values, produce, select_by_prefix
from tests.support.waiting import eventually


class Demand:
    """Answers whether records are wanted. Can await a coroutine before it returns an answer."""

    def __init__(self) -> None:
        self.is_wanted = False
        self.before_answers: list[Any] = []
        """Coroutines to await: one before each answer, in order."""

    async def __call__(self) -> bool:
        answer = self.is_wanted
        if self.before_answers:
            await self.before_answers.pop(0)
        return answer


async def nothing() -> None:
    pass


async def test_unwanted_records_are_skipped_and_wanted_records_are_processed(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    demand, handler = Demand(), Handler()
    async with consuming(settings, producer, handler, name="pausing", is_wanted=demand) as consumer:
        await consumer.pause_when_unused.check()
        for _ in range(3):
            await produce(producer, settings, make_values("unwanted"))
            await consumer.pause_when_unused.check()
        demand.is_wanted = True
        await produce(producer, settings, make_values("wanted"))
        await consumer.pause_when_unused.check()
        await eventually(lambda: set(make_values("wanted")) <= set(handler.done))
        demand.is_wanted = False
        await consumer.pause_when_unused.check()
        await produce(producer, settings, make_values("unwanted"))
        await consumer.pause_when_unused.check()
    assert set(select_by_prefix("unwanted", handler.done)) == set()
    assert set(make_values("wanted")) <= set(handler.done)


async def test_records_produced_during_the_check_are_not_skipped(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    demand, handler = Demand(), Handler()
    async with consuming(settings, producer, handler, name="race", is_wanted=demand) as consumer:
        # Paused first. Otherwise it could fetch the records before they are skipped
        await consumer.pause_when_unused.check()
        demand.before_answers = [nothing(), produce(producer, settings, make_values("early"))]
        await consumer.pause_when_unused.check()
        demand.is_wanted = True
        await consumer.pause_when_unused.check()
        await eventually(lambda: set(make_values("early")) <= set(handler.done))


async def test_an_unavailable_server_changes_nothing(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    demand, handler = Demand(), Handler()

    async def fail() -> None:
        raise DatabaseUnavailable("down")

    async with consuming(settings, producer, handler, name="unsure", is_wanted=demand) as consumer:
        await consumer.pause_when_unused.check()
        await produce(producer, settings, make_values("unsure"))
        for answers in ([fail()], [nothing(), fail()]):
            demand.before_answers = answers
            with pytest.raises(DatabaseUnavailable):
                await consumer.pause_when_unused.check()
        demand.is_wanted = True
        await consumer.pause_when_unused.check()
        await eventually(lambda: set(make_values("unsure")) <= set(handler.done))


async def test_a_paused_consumer_is_not_silent(
    settings: ServiceSettings, producer: RecordProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    demand, handler = Demand(), Handler()
    async with consuming(settings, producer, handler, name="healthy", is_wanted=demand) as consumer:
        await consumer.pause_when_unused.check()
        monkeypatch.setattr(health_module, "SILENT_AFTER_SECONDS", 0.5)
        await eventually(lambda: consumer.progress.last_polled_at() < time.time() - 1)
        assert consumer.problem() is None
        demand.is_wanted = True
        await consumer.pause_when_unused.check()
        assert consumer.problem() is None  # resumed, and still without an answer to a fetch
        await produce(producer, settings, make_values("healthy"))
        await eventually(lambda: select_by_prefix("healthy", handler.done))


async def test_failures_of_skipped_records_are_forgotten(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    demand = Demand()

    async def fails(_: list[bytes]) -> None:
        raise DatabaseUnavailable("down")

    async with consuming(
        settings, producer, Handler(fails), name="failing", is_wanted=demand
    ) as consumer:
        await produce(producer, settings, make_values("failing"))
        await eventually(
            lambda: consumer.problem() == "retrying a batch that failed. See the service's log"
        )

        async def is_paused_without_problem() -> bool:
            await consumer.pause_when_unused.check()
            return consumer.problem() is None and consumer.pause_when_unused.last_paused_at() > 0

        await eventually(is_paused_without_problem)
        await eventually(
            is_paused_without_problem
        )  # twice: the batch in flight may have failed in between
