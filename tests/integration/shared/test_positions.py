"""Positions in a real Postgres and offsets in a real Kafka. Consumers notice if either is older."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from pydantic import SecretStr

from shared.contract.topics import TopicNames
from shared.kafka import idle_committer
from shared.kafka.admin import admin_client, read_cluster_id
from shared.kafka.consumer import BatchConsumer
from shared.kafka.positions import tracker as tracker_module
from shared.kafka.positions.advance import Advance, Span
from shared.kafka.positions.preparation import Preparation
from shared.kafka.positions.rules import Refusal, StoredPosition
from shared.kafka.positions.store import PositionStore
from shared.kafka.positions.tracker import PositionTracker
from shared.kafka.producer import RecordProducer
from shared.kafka.subscription import RecordFilter
from shared.postgres.database import Database
from shared.runtime.settings import DatabaseSettings, ServiceSettings
from tests.support.consuming import (
    TOPIC,
    Handler,
    consuming,
    make_values,
    produce,
    select_by_prefix,
)
from tests.support.infrastructure import fresh_topics
from tests.support.kafka import read_committed_offsets
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_committer, "INTERVAL_SECONDS", 0.2)
    monkeypatch.setattr(tracker_module, "RECHECK_SECONDS", 0.2)
    monkeypatch.setattr(tracker_module, "IN_FLIGHT_SECONDS", 0.2)


@pytest.fixture
def settings(kafka: str, database_url: str) -> Any:
    """Settings with new topics for each test, because some tests delete records."""
    with fresh_topics(kafka) as prefix:
        yield ServiceSettings(
            kafka_bootstrap_servers=kafka,
            topic_prefix=prefix,
            database_url=SecretStr(database_url),
            log_level="WARNING",
        )


@pytest_asyncio.fixture(loop_scope="module")
async def producer(settings: ServiceSettings) -> AsyncIterator[RecordProducer]:
    producer = RecordProducer(settings, client_id="test-positions")
    await producer.start()
    yield producer
    await producer.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def positions(database_url: str) -> AsyncIterator[PositionStore]:
    """The status service's position store, without positions."""
    execute(database_url, "truncate status.positions, status.position_seed")
    database = Database.from_settings(
        DatabaseSettings(database_url=SecretStr(database_url), database_timeout_seconds=2),
        application="tests",
        connections=2,
    )
    yield PositionStore(database, "status")
    await database.dispose()


def execute(database_url: str, statement: str, *values: Any) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement, values)


@asynccontextmanager
async def watched(
    settings: ServiceSettings,
    producer: RecordProducer,
    handler: Handler,
    positions: PositionStore,
    **options: Any,
) -> AsyncIterator[BatchConsumer]:
    """Runs a consumer with stored positions and its watch, as a service does."""
    options = {"name": "positions", "positions": positions, **options}
    async with consuming(settings, producer, handler, **options) as consumer:
        watching = asyncio.create_task(consumer.watch())
        try:
            yield consumer
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching


async def wait_until_ready(consumer: BatchConsumer) -> None:
    await eventually(lambda: consumer.problem() is None)


async def consume(
    settings: ServiceSettings, producer: RecordProducer, positions: PositionStore, prefix: str
) -> dict[TopicPartition, StoredPosition]:
    """Has a consumer process some records, and returns its positions."""
    handler = Handler()
    await produce(producer, settings, make_values(prefix))
    async with watched(settings, producer, handler, positions):
        await eventually(lambda: set(make_values(prefix)) <= set(handler.done))
    return await positions.load()


def overwrite(database_url: str, stored: Mapping[TopicPartition, StoredPosition]) -> None:
    """Overwrites positions, which simulates an older Postgres."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        for partition, position in stored.items():
            connection.execute(
                "update status.positions set next_offset = %s where topic = %s and partition = %s",
                (position.next_offset, partition.topic, partition.partition),
            )


async def test_a_position_is_stored_and_then_committed_to_kafka(
    settings: ServiceSettings, producer: RecordProducer, positions: PositionStore
) -> None:
    stored = await consume(settings, producer, positions, "first")
    assert sum(position.next_offset for position in stored.values()) == 60
    group = TopicNames(settings.topic_prefix).group("positions")
    assert await read_committed_offsets(settings.kafka_bootstrap_servers, group) == {
        partition: position.next_offset for partition, position in stored.items()
    }
    cluster = await read_cluster_id(settings)
    assert {position.cluster_id for position in stored.values()} == {cluster}


async def test_invariant_2_an_older_postgres_is_noticed_at_the_start_and_records_are_replayed(
    settings: ServiceSettings,
    producer: RecordProducer,
    positions: PositionStore,
    database_url: str,
) -> None:
    before = await consume(settings, producer, positions, "kept")
    await consume(settings, producer, positions, "lost")
    overwrite(database_url, before)
    handler = Handler()
    async with watched(settings, producer, handler, positions):
        await eventually(lambda: set(make_values("lost")) <= set(handler.done))
        await eventually(lambda: is_replayed(positions))
    assert not select_by_prefix("kept", handler.done)


async def is_replayed(positions: PositionStore) -> bool:
    return not await positions.is_replaying()


async def test_invariant_2_a_running_consumer_notices_an_older_postgres_at_its_next_batch(
    settings: ServiceSettings,
    producer: RecordProducer,
    positions: PositionStore,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(idle_committer, "INTERVAL_SECONDS", 60)
    handler = Handler()
    await produce(producer, settings, make_values("kept"))
    async with watched(settings, producer, handler, positions):
        await eventually(lambda: set(make_values("kept")) <= set(handler.done))
        before = await wait_until_stored(positions, 60)
        await produce(producer, settings, make_values("lost"))
        await eventually(lambda: set(make_values("lost")) <= set(handler.done))
        await wait_until_stored(positions, 120)
        handler.done.clear()
        overwrite(database_url, before)
        await produce(producer, settings, make_values("new"))
        await eventually(lambda: {*make_values("lost"), *make_values("new")} <= set(handler.done))
    assert not select_by_prefix("kept", handler.done)


async def wait_until_stored(
    positions: PositionStore, records: int
) -> dict[TopicPartition, StoredPosition]:
    """Waits until the positions cover `records` records. Returns the positions."""

    async def is_stored() -> bool:
        return sum(stored.next_offset for stored in (await positions.load()).values()) == records

    await eventually(is_stored)
    return await positions.load()


async def test_invariant_2_an_older_postgres_is_noticed_without_new_records(
    settings: ServiceSettings,
    producer: RecordProducer,
    positions: PositionStore,
    database_url: str,
) -> None:
    handler = Handler()
    await produce(producer, settings, make_values("lost"))
    async with watched(settings, producer, handler, positions) as consumer:
        await wait_until_ready(consumer)
        await eventually(lambda: set(make_values("lost")) <= set(handler.done))
        stored = await wait_until_stored(positions, 60)
        handler.done.clear()
        overwrite(
            database_url,
            {partition: position._replace(next_offset=0) for partition, position in stored.items()},
        )
        await eventually(lambda: set(make_values("lost")) <= set(handler.done))


async def test_a_new_connection_to_postgres_makes_the_consumer_read_its_positions_again(
    settings: ServiceSettings,
    producer: RecordProducer,
    positions: PositionStore,
    database_url: str,
) -> None:
    """The new connection may lead to an older Postgres, in which the positions of other replicas'
    partitions are lower too."""
    readings = 0

    class Counting(Preparation):
        async def catch_up(self) -> None:
            nonlocal readings
            readings += 1

    handler = Handler()
    async with watched(settings, producer, handler, positions, preparation=Counting()) as consumer:
        await wait_until_ready(consumer)
        before = readings
        execute(
            database_url,
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = "
            "'tests' and pid <> pg_backend_pid()",
        )
        await eventually(lambda: readings > before)
        await wait_until_ready(consumer)
        await produce(producer, settings, make_values("after"))
        await eventually(lambda: set(make_values("after")) <= set(handler.done))


async def test_nothing_is_processed_before_the_positions_are_read(
    settings: ServiceSettings,
    producer: RecordProducer,
    positions: PositionStore,
    database_url: str,
) -> None:
    await consume(settings, producer, positions, "before")
    handler = Handler()
    await produce(producer, settings, make_values("waiting"))
    with psycopg.connect(database_url) as lock:
        lock.execute("lock table status.positions in access exclusive mode")
        async with watched(settings, producer, handler, positions) as consumer:
            await eventually(lambda: consumer.problem() == "reading positions")
            await eventually(lambda: is_read_blocked(database_url))
            assert not handler.done
            lock.rollback()
            await eventually(lambda: set(make_values("waiting")) <= set(handler.done))
    assert not select_by_prefix("before", handler.done)


def is_read_blocked(database_url: str) -> bool:
    """Returns whether a query of the positions waits for the lock."""
    query = (
        "select from pg_stat_activity where application_name = 'tests' and wait_event_type = 'Lock'"
    )
    with psycopg.connect(database_url) as connection:
        return connection.execute(query).rowcount > 0


async def test_a_group_without_committed_offsets_starts_at_the_beginning(
    settings: ServiceSettings, producer: RecordProducer, positions: PositionStore
) -> None:
    await consume(settings, producer, positions, "again")
    handler = Handler()
    async with watched(settings, producer, handler, positions, name="another group"):
        await eventually(lambda: set(make_values("again")) <= set(handler.done))


async def test_records_deleted_before_processing_refuse_only_their_partition(
    settings: ServiceSettings,
    producer: RecordProducer,
    positions: PositionStore,
    database_url: str,
) -> None:
    stored = await consume(settings, producer, positions, "before")
    await produce(producer, settings, make_values("deleted"))
    gap = min(stored)
    async with admin_client(settings) as admin:
        await admin.delete_records(
            {gap: RecordsToDelete(before_offset=stored[gap].next_offset + 2)}
        )
    handler = Handler()
    async with watched(settings, producer, handler, positions) as consumer:
        await eventually(lambda: len(select_by_prefix("deleted", handler.done)) > 10)
        problem = consumer.problem() or ""
        assert f"{gap.topic}/{gap.partition} (before_begin)" in problem
        assert "pinflow recover" in problem
        missing = set(make_values("deleted")) - set(handler.done)
        assert missing
        accept(database_url, gap, stored[gap].next_offset + 2)
        await wait_until_ready(consumer)
        await eventually(lambda: len(set(make_values("deleted")) - set(handler.done)) == 2)


def accept(database_url: str, partition: TopicPartition, begin: int) -> None:
    """Accepts a loss like `pinflow recover --accept` on the same cluster."""
    execute(
        database_url,
        "update status.positions set next_offset = %s, refused = null, replay_until = null where "
        "topic = %s and partition = %s",
        begin,
        partition.topic,
        partition.partition,
    )


async def test_a_log_that_ended_before_the_position_is_refused_even_after_it_has_grown(
    settings: ServiceSettings,
    producer: RecordProducer,
    positions: PositionStore,
    database_url: str,
) -> None:
    stored = await consume(settings, producer, positions, "before")
    ahead = min(stored)
    overwrite(
        database_url, {ahead: stored[ahead]._replace(next_offset=stored[ahead].next_offset + 5)}
    )
    async with watched(settings, producer, Handler(), positions) as consumer:
        await eventually(lambda: "beyond_end" in (consumer.problem() or ""))
    await produce(producer, settings, make_values("new", 200))
    handler = Handler()
    async with watched(settings, producer, handler, positions) as consumer:
        await eventually(lambda: "beyond_end" in (consumer.problem() or ""))
        assert (await positions.load())[ahead].refused is Refusal.BEYOND_END
        accept(database_url, ahead, 0)
        await eventually(lambda: set(make_values("new", 200)) <= set(handler.done))
        await wait_until_ready(consumer)


async def test_positions_of_another_cluster_are_refused(
    settings: ServiceSettings,
    producer: RecordProducer,
    positions: PositionStore,
    database_url: str,
) -> None:
    await consume(settings, producer, positions, "before")
    execute(database_url, "update status.positions set cluster_id = 'another'")
    handler = Handler()
    await produce(producer, settings, make_values("unread"))
    async with watched(settings, producer, handler, positions) as consumer:
        await eventually(lambda: "other_cluster" in (consumer.problem() or ""))
        assert not handler.done
        execute(
            database_url,
            "update status.positions set next_offset = 0, cluster_id = %s, refused = null",
            await read_cluster_id(settings),
        )
        await eventually(lambda: set(make_values("unread")) <= set(handler.done))


async def test_a_first_start_after_an_upgrade_takes_over_the_committed_offsets_once(
    settings: ServiceSettings,
    producer: RecordProducer,
    positions: PositionStore,
    database_url: str,
) -> None:
    before = await consume(settings, producer, positions, "before")
    execute(database_url, "delete from status.positions")
    execute(database_url, "insert into status.position_seed default values")
    handler = Handler()
    await produce(producer, settings, make_values("after"))
    async with watched(settings, producer, handler, positions) as consumer:
        await wait_until_ready(consumer)
        await eventually(lambda: set(make_values("after")) <= set(handler.done))
    assert not select_by_prefix("before", handler.done)
    assert not await positions.has_offsets_to_take_over()
    assert (await positions.load()).keys() == before.keys()


async def test_without_positions_and_without_a_seed_the_whole_log_is_read(
    settings: ServiceSettings,
    producer: RecordProducer,
    positions: PositionStore,
    database_url: str,
) -> None:
    await consume(settings, producer, positions, "before")
    execute(database_url, "delete from status.positions")
    handler = Handler()
    async with watched(settings, producer, handler, positions):
        await eventually(lambda: set(make_values("before")) <= set(handler.done))


async def test_filtered_records_move_the_position(
    settings: ServiceSettings, producer: RecordProducer, positions: PositionStore
) -> None:
    topic = TopicNames(settings.topic_prefix)[TOPIC]
    nothing = RecordFilter(topic, lambda _value: False)
    await produce(producer, settings, make_values("skipped"))
    async with watched(settings, producer, Handler(), positions, record_filter=nothing):
        await wait_until_stored(positions, 60)


async def test_a_position_is_stored_before_unwanted_records_are_skipped(
    settings: ServiceSettings, producer: RecordProducer, positions: PositionStore
) -> None:
    async def nobody() -> bool:
        return False

    await produce(producer, settings, make_values("unwanted"))
    async with watched(settings, producer, Handler(), positions, is_wanted=nobody) as consumer:
        await wait_until_ready(consumer)
        await consumer.pause_when_unused.check()
        await wait_until_stored(positions, 60)


async def test_a_batch_that_ends_after_its_partition_was_revoked_moves_no_position_back(
    settings: ServiceSettings, positions: PositionStore
) -> None:
    """The old owner of a partition may finish its batch after the new owner's."""
    partition = TopicPartition(TopicNames(settings.topic_prefix)[TOPIC], 0)
    await positions.add({partition: 0}, "cluster")
    tracker = PositionTracker(positions, settings, service="status", consumer=lambda: None)
    tracker._positions = {partition: 0}
    tracker._checked_at = float("inf")
    late, early = tracker.advance({partition: 10}), tracker.advance({partition: 30})
    assert early is not None
    assert late is not None
    await positions.move(early)
    await positions.move(late)
    assert (await positions.load())[partition].next_offset == 30


async def test_a_paused_consumer_notices_that_kafka_lost_records(
    settings: ServiceSettings,
    producer: RecordProducer,
    positions: PositionStore,
    database_url: str,
) -> None:
    """A paused consumer fetches nothing, so it gets no fetch error."""

    async def nobody() -> bool:
        return False

    async with watched(settings, producer, Handler(), positions, is_wanted=nobody) as consumer:
        await wait_until_ready(consumer)
        await produce(producer, settings, make_values("unwanted"))
        await consumer.pause_when_unused.check()
        stored = await wait_until_stored(positions, 60)
        ahead = {
            partition: position._replace(next_offset=position.next_offset + 5)
            for partition, position in stored.items()
        }
        overwrite(database_url, ahead)
        tracker = consumer._tracker
        assert tracker is not None
        tracker._positions = {
            partition: position.next_offset for partition, position in ahead.items()
        }

        async def notices() -> bool:
            # A check does nothing while the positions are being read: the next one looks again
            await consumer.pause_when_unused.check()
            return "beyond_end" in (consumer.problem() or "")

        await eventually(notices)


async def test_a_position_stored_during_a_read_does_not_look_like_an_older_postgres(
    settings: ServiceSettings, positions: PositionStore
) -> None:
    """Otherwise all partitions would wait for 20 s."""
    partition = TopicPartition(TopicNames(settings.topic_prefix)[TOPIC], 0)
    await positions.add({partition: 0}, "cluster")
    for offset in range(1, 50):
        advance = Advance({partition: Span(offset - 1, offset)}, checked_at=float("inf"))
        await asyncio.gather(positions.load(), positions.move(advance), positions.load())
    assert positions.remaining_wait(60) == 0


async def test_an_older_postgres_is_recognized_by_positions_that_this_process_has_seen(
    settings: ServiceSettings, positions: PositionStore, database_url: str
) -> None:
    partition = TopicPartition(TopicNames(settings.topic_prefix)[TOPIC], 0)
    await positions.add({partition: 10}, "cluster")
    stored = await positions.load()
    overwrite(database_url, {partition: stored[partition]._replace(next_offset=9)})
    await positions.load()
    assert positions.remaining_wait(60) > 50
