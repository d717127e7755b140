"""The safe batch consumer on a real broker: nothing is skipped, nothing is lost, members share the
work.
"""

import asyncio
import gc
import weakref
from collections import Counter
from typing import Any

import pytest
import uvloop
from aiokafka import ConsumerRecord
from aiokafka.errors import ConsumerStoppedError, UnsupportedCodecError

from shared.contract.errors import DatabaseUnavailable
from shared.kafka.batches import Batch
from shared.kafka.consumer_health.health import ConsumerLost
from shared.kafka.dead_letters import DeadLetter
from shared.kafka.producer import RecordProducer
from shared.kafka.subscription import SESSION_TIMEOUT_MS
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import Handler, consuming, of, produce, some
from tests.support.waiting import eventually


async def test_invariant_9_a_batch_waits_for_a_server_and_nothing_is_skipped(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    attempts = 0

    async def away_three_times(_: list[bytes]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 3:
            raise DatabaseUnavailable("away")

    handler = Handler(away_three_times)
    await produce(producer, settings, some("outage"))
    async with consuming(settings, producer, handler, name="outage"):
        await eventually(lambda: set(some("outage")) <= set(handler.done))
    assert attempts > 3
    assert Counter(of("outage", handler.done)).most_common(1)[0][1] == 1


def test_a_processed_batch_is_freed_without_the_garbage_collector(
    settings: ServiceSettings,
) -> None:
    """It walks seldom (shared/runtime/service.py): in a cycle, batches would pile up to hundreds of
    megabytes.

    On uvloop, as services run: asyncio's own loop keeps cancelled timers, and with them a batch.
    """
    gc.disable()
    try:
        uvloop.run(_consume_and_watch_memory(settings))
    finally:
        gc.enable()


async def _consume_and_watch_memory(settings: ServiceSettings) -> None:
    seen: list[weakref.ref[ConsumerRecord[bytes, bytes]]] = []

    class Watching(Handler):
        def decode(self, records: Batch) -> tuple[list[bytes], list[DeadLetter]]:
            seen.extend(weakref.ref(record) for record in records)
            return super().decode(records)

    def kept() -> list[bytes]:
        return of("freed", [record.value or b"" for one in seen if (record := one()) is not None])

    handler = Watching()
    producer = RecordProducer(settings, client_id="test-freed")
    await producer.start()
    try:
        async with consuming(settings, producer, handler, name="freed"):
            await produce(producer, settings, some("freed"))
            await eventually(lambda: set(some("freed")) <= set(handler.done))
            await eventually(lambda: not kept())
    finally:
        await producer.stop()


async def test_two_members_in_one_process_share_the_partitions(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    first, second = Handler(), Handler()
    async with (
        consuming(settings, producer, first, name="pair") as one,
        consuming(settings, producer, second, name="pair", member=1) as other,
    ):
        await eventually(lambda: one.problem() is None and other.problem() is None)
        await produce(producer, settings, some("both"))
        await eventually(lambda: set(some("both")) <= {*first.done, *second.done})
    assert of("both", first.done)
    assert of("both", second.done)
    assert not set(of("both", first.done)) & set(of("both", second.done))


async def test_a_waiting_member_does_not_block_another_in_its_process(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    async def away(_: list[bytes]) -> None:
        raise DatabaseUnavailable("away")

    waiting, working = Handler(away), Handler()
    await produce(producer, settings, some("beside-both"))  # some of it for each
    async with (
        consuming(settings, producer, waiting, name="beside") as one,
        consuming(settings, producer, working, name="beside", member=1) as other,
    ):
        await eventually(
            lambda: one.problem() == "waiting for a server" and other.problem() is None
        )
        await produce(producer, settings, some("beside-one"))
        await eventually(lambda: len(of("beside-one", working.done)) > 10)
        assert not waiting.done


async def test_a_batch_that_hits_a_bug_is_retried_and_nothing_is_skipped(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    failed: list[bytes] = []

    async def broken_once(values: list[bytes]) -> None:
        if of("bug", values) and not failed:
            failed.extend(values)
            raise RuntimeError("a bug")

    handler = Handler(broken_once)
    await produce(producer, settings, some("bug"))
    async with consuming(settings, producer, handler, name="bug"):
        await eventually(lambda: set(some("bug")) <= set(handler.done))
    assert failed


async def test_a_fetch_that_fails_for_good_ends_the_consumer(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    """What aiokafka had taken from other partitions is dropped with it: going on would commit past
    these records.
    """

    async def fails() -> Batch:
        raise UnsupportedCodecError("zstd")

    async with consuming(settings, producer, Handler(), name="codec") as consumer:
        await eventually(lambda: consumer.problem() is None)
        consumer._member.fetch = fails  # type: ignore[method-assign]
        with pytest.raises(ConsumerStoppedError):
            await consumer._fetcher.fetch()
        assert (consumer.problem() or "").startswith("lost")
        with pytest.raises(ConsumerLost, match="zstd"):
            await consumer.watch()


async def test_a_killed_consumers_batch_is_delivered_again(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    begun = asyncio.Event()

    async def never_ends(values: list[bytes]) -> None:
        if of("killed", values):
            begun.set()
            await asyncio.Event().wait()

    stuck = Handler(never_ends)
    await produce(producer, settings, some("killed"))
    impatient = settings.model_copy(update={"stop_timeout_seconds": 0.01})
    async with consuming(impatient, producer, stuck, name="killed", clean=False):
        await asyncio.wait_for(begun.wait(), 20)
    # The same static member comes back at once: no session has to time out
    heir = Handler()
    async with consuming(settings, producer, heir, name="killed"):
        await eventually(
            lambda: set(some("killed")) <= set(heir.done), seconds=SESSION_TIMEOUT_MS / 2000
        )
    assert not of("killed", stuck.done)


async def test_a_rebalance_in_the_middle_of_a_batch_waits_for_it(
    settings: ServiceSettings, producer: RecordProducer, environment: dict[str, Any]
) -> None:
    """Every record is processed once, though its partition goes to a new member while it is being
    processed.
    """
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(values: list[bytes]) -> None:
        if of("rebalance", values) and not begun.is_set():
            begun.set()
            await asyncio.wait_for(go_on.wait(), 20)

    first, second = Handler(slow), Handler()
    other = ServiceSettings(**{**environment, "replica": "1"})
    await produce(producer, settings, some("rebalance", 300))
    async with consuming(settings, producer, first, name="rebalance") as one:
        await asyncio.wait_for(begun.wait(), 20)
        joining = asyncio.create_task(_consume_until(other, producer, second, go_on, first))
        # The joining member's rebalance has reached the first one, which holds it up until its
        # batch has ended
        await eventually(lambda: one.problem() is not None)
        go_on.set()
        await joining
    seen = Counter(of("rebalance", [*first.done, *second.done]))
    assert set(seen) == set(some("rebalance", 300))
    assert seen.most_common(1)[0][1] == 1


async def _consume_until(
    settings: ServiceSettings,
    producer: RecordProducer,
    handler: Handler,
    go_on: asyncio.Event,
    first: Handler,
) -> None:
    async with consuming(settings, producer, handler, name="rebalance") as consumer:
        await go_on.wait()
        await eventually(lambda: consumer.problem() is None)
        await produce(producer, settings, some("after", 60))
        await eventually(lambda: set(some("after", 60)) <= {*first.done, *handler.done})
        assert of("after", handler.done), "the new member has partitions of its own"


async def test_a_clean_stop_releases_partitions_at_once(
    settings: ServiceSettings, producer: RecordProducer, environment: dict[str, Any]
) -> None:
    """A static member that stops would keep its partitions for a whole session, were it not removed
    from the group.
    """
    gone, heir = Handler(), Handler()
    other = ServiceSettings(**{**environment, "replica": "1"})
    async with consuming(settings, producer, gone, name="handover") as consumer:
        await eventually(lambda: consumer.problem() is None)
    await produce(producer, settings, some("handover"))
    async with consuming(other, producer, heir, name="handover"):
        await eventually(
            lambda: set(some("handover")) <= set(heir.done), seconds=SESSION_TIMEOUT_MS / 3000
        )


async def test_a_commit_covers_exactly_the_processed_records(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    first, second = Handler(), Handler()
    await produce(producer, settings, some("committed"))
    async with consuming(settings, producer, first, name="committed"):
        await eventually(lambda: set(some("committed")) <= set(first.done))
    await produce(producer, settings, some("next"))
    async with consuming(settings, producer, second, name="committed"):
        await eventually(lambda: set(some("next")) <= set(second.done))
    assert not of("committed", second.done)
