"""The batch consumer on a real broker: it processes every record, and members share the work."""

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
from tests.support.consuming import Handler, consuming, make_values, produce, select_by_prefix
from tests.support.waiting import eventually


async def test_invariant_9_a_batch_waits_for_a_server_and_nothing_is_skipped(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    attempts = 0

    async def fail_three_times(_: list[bytes]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts <= 3:
            raise DatabaseUnavailable("down")

    handler = Handler(fail_three_times)
    await produce(producer, settings, make_values("outage"))
    async with consuming(settings, producer, handler, name="outage"):
        await eventually(lambda: set(make_values("outage")) <= set(handler.done))
    assert attempts > 3
    assert Counter(select_by_prefix("outage", handler.done)).most_common(1)[0][1] == 1


def test_a_processed_batch_is_freed_without_the_garbage_collector(
    settings: ServiceSettings,
) -> None:
    """The collector runs rarely (shared/runtime/process.py). Batches in reference cycles would use
    hundreds of megabytes.

    Uses uvloop, like the services: asyncio's own loop keeps canceled timers, and with them a batch.
    """
    gc.disable()
    try:
        uvloop.run(_consume_and_watch_memory(settings))
    finally:
        gc.enable()


async def _consume_and_watch_memory(settings: ServiceSettings) -> None:
    references: list[weakref.ref[ConsumerRecord[bytes, bytes]]] = []

    class Watching(Handler):
        def decode(self, records: Batch) -> tuple[list[bytes], list[DeadLetter]]:
            references.extend(weakref.ref(record) for record in records)
            return super().decode(records)

    def retained() -> list[bytes]:
        return select_by_prefix(
            "freed",
            [
                record.value or b""
                for reference in references
                if (record := reference()) is not None
            ],
        )

    handler = Watching()
    producer = RecordProducer(settings, client_id="test-freed")
    await producer.start()
    try:
        async with consuming(settings, producer, handler, name="freed"):
            await produce(producer, settings, make_values("freed"))
            await eventually(lambda: set(make_values("freed")) <= set(handler.done))
            await eventually(lambda: not retained())
    finally:
        await producer.stop()


async def test_two_members_in_one_process_share_the_partitions(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    first_handler, second_handler = Handler(), Handler()
    async with (
        consuming(settings, producer, first_handler, name="pair") as first,
        consuming(settings, producer, second_handler, name="pair", member=1) as second,
    ):
        await eventually(lambda: first.problem() is None and second.problem() is None)
        await produce(producer, settings, make_values("both"))
        await eventually(
            lambda: set(make_values("both")) <= {*first_handler.done, *second_handler.done}
        )
    assert select_by_prefix("both", first_handler.done)
    assert select_by_prefix("both", second_handler.done)
    assert not set(select_by_prefix("both", first_handler.done)) & set(
        select_by_prefix("both", second_handler.done)
    )


async def test_a_waiting_member_does_not_block_another_in_its_process(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    async def fail(_: list[bytes]) -> None:
        raise DatabaseUnavailable("down")

    waiting, working = Handler(fail), Handler()
    await produce(producer, settings, make_values("beside-both"))  # records for both members
    async with (
        consuming(settings, producer, waiting, name="beside") as first,
        consuming(settings, producer, working, name="beside", member=1) as second,
    ):
        await eventually(
            lambda: (
                first.problem() == "retrying a batch that failed. See the service's log"
                and second.problem() is None
            )
        )
        await produce(producer, settings, make_values("beside-one"))
        await eventually(lambda: len(select_by_prefix("beside-one", working.done)) > 10)
        assert not waiting.done


async def test_a_batch_that_hits_a_bug_is_retried_and_nothing_is_skipped(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    failed: list[bytes] = []

    async def broken_once(values: list[bytes]) -> None:
        if select_by_prefix("bug", values) and not failed:
            failed.extend(values)
            raise RuntimeError("a bug")

    handler = Handler(broken_once)
    await produce(producer, settings, make_values("bug"))
    async with consuming(settings, producer, handler, name="bug"):
        await eventually(lambda: set(make_values("bug")) <= set(handler.done))
    assert failed


async def test_a_fetch_that_fails_for_good_ends_the_consumer(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    """aiokafka drops the records that it had already taken from other partitions. The next commit
    would skip them.
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
        if select_by_prefix("killed", values):
            begun.set()
            await asyncio.Event().wait()

    stuck = Handler(never_ends)
    await produce(producer, settings, make_values("killed"))
    short_timeout = settings.model_copy(update={"stop_timeout_seconds": 0.01})
    async with consuming(short_timeout, producer, stuck, name="killed", clean=False):
        await asyncio.wait_for(begun.wait(), 20)
    # The same static member returns at once, without waiting for a session timeout
    successor = Handler()
    async with consuming(settings, producer, successor, name="killed"):
        await eventually(
            lambda: set(make_values("killed")) <= set(successor.done),
            seconds=SESSION_TIMEOUT_MS / 2000,
        )
    assert not select_by_prefix("killed", stuck.done)


async def test_a_rebalance_in_the_middle_of_a_batch_waits_for_it(
    settings: ServiceSettings, producer: RecordProducer, environment: dict[str, Any]
) -> None:
    """Every record is processed once, although its partition moves to a new member meanwhile."""
    begun, may_finish = asyncio.Event(), asyncio.Event()

    async def slow(values: list[bytes]) -> None:
        if select_by_prefix("rebalance", values) and not begun.is_set():
            begun.set()
            await asyncio.wait_for(may_finish.wait(), 20)

    first, second = Handler(slow), Handler()
    other_settings = ServiceSettings(**{**environment, "replica": "1"})
    await produce(producer, settings, make_values("rebalance", 300))
    async with consuming(settings, producer, first, name="rebalance") as consumer:
        await asyncio.wait_for(begun.wait(), 20)
        joining = asyncio.create_task(
            _consume_until(other_settings, producer, second, may_finish, first)
        )
        # Now the rebalance has reached the first member. It waits until the member's batch ends
        await eventually(lambda: consumer.problem() is not None)
        may_finish.set()
        await joining
    counts = Counter(select_by_prefix("rebalance", [*first.done, *second.done]))
    assert set(counts) == set(make_values("rebalance", 300))
    assert counts.most_common(1)[0][1] == 1


async def _consume_until(
    settings: ServiceSettings,
    producer: RecordProducer,
    handler: Handler,
    may_finish: asyncio.Event,
    first: Handler,
) -> None:
    async with consuming(settings, producer, handler, name="rebalance") as consumer:
        await may_finish.wait()
        await eventually(lambda: consumer.problem() is None)
        await produce(producer, settings, make_values("after", 60))
        await eventually(lambda: set(make_values("after", 60)) <= {*first.done, *handler.done})
        assert select_by_prefix("after", handler.done), "the new member got no partitions"


async def test_a_clean_stop_releases_partitions_at_once(
    settings: ServiceSettings, producer: RecordProducer, environment: dict[str, Any]
) -> None:
    """Otherwise a stopped static member keeps its partitions until its session times out."""
    stopped, successor = Handler(), Handler()
    other_settings = ServiceSettings(**{**environment, "replica": "1"})
    async with consuming(settings, producer, stopped, name="handover") as consumer:
        await eventually(lambda: consumer.problem() is None)
    await produce(producer, settings, make_values("handover"))
    async with consuming(other_settings, producer, successor, name="handover"):
        await eventually(
            lambda: set(make_values("handover")) <= set(successor.done),
            seconds=SESSION_TIMEOUT_MS / 3000,
        )


async def test_a_commit_covers_exactly_the_processed_records(
    settings: ServiceSettings, producer: RecordProducer
) -> None:
    first, second = Handler(), Handler()
    await produce(producer, settings, make_values("committed"))
    async with consuming(settings, producer, first, name="committed"):
        await eventually(lambda: set(make_values("committed")) <= set(first.done))
    await produce(producer, settings, make_values("next"))
    async with consuming(settings, producer, second, name="committed"):
        await eventually(lambda: set(make_values("next")) <= set(second.done))
    assert not select_by_prefix("committed", second.done)
