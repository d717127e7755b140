"""The transactional pool against a broker that fails in every way, each test with a broker of its own to torment."""

import asyncio
from collections.abc import Iterator
from functools import partial
from operator import attrgetter
from random import randbytes
from uuid import UUID, uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import CoordinatorNotAvailableError, MessageSizeTooLargeError

from deploy.local.kafka import KafkaCluster
from services.ingest import transactions
from services.ingest.config import IngestSettings
from services.ingest.transactions import TransactionPool
from shared.errors import AcceptanceUnknown, BrokerUnavailable
from shared.messaging.admin import create_topics
from shared.topics import TopicName, TopicNames
from tests.infrastructure import kafka_server
from tests.kafka import kill_metadata_task
from tests.processes import RunningProgram
from tests.transactions import ROWS, all_seen, an_import, heals, pool_of
from tests.waiting import eventually

TOO_LARGE = 2 * 1024 * 1024


class Broker:
    def __init__(self, kafka: KafkaCluster, program: RunningProgram) -> None:
        self.address = kafka.bootstrap_servers
        self.kafka = kafka
        self.program = program


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with kafka_server(tmp_path_factory.mktemp("own-broker")) as (kafka, program):
        yield Broker(kafka, program)


@pytest.fixture
def settings(broker: Broker) -> IngestSettings:
    settings = IngestSettings(
        kafka_bootstrap_servers=broker.address,
        topic_prefix=f"t-{uuid4().hex[:8]}",
        transactional_producers=2,
        broker_deadline_seconds=1.5,
        commit_deadline_seconds=2,
        transaction_timeout_ms=2000,
    )
    asyncio.run(create_topics(settings))
    return settings


async def seen(settings: IngestSettings, job_id: UUID) -> int:
    return (await all_seen(settings))[job_id]


async def test_invariant_1_a_commit_that_returned_is_seen_whole(settings: IngestSettings) -> None:
    async with pool_of(settings) as pool:
        job = uuid4()
        await pool.commit(an_import(job))
        assert await seen(settings, job) == ROWS + 1


async def test_invariant_1_when_the_broker_refuses_a_part_nobody_sees_any_of_it_and_the_pool_goes_on(settings: IngestSettings) -> None:
    """aiokafka would commit the rest: a refused batch fails only its own future."""
    async with pool_of(settings) as pool:
        refused, good = uuid4(), uuid4()
        with pytest.raises(MessageSizeTooLargeError):
            await pool.commit(an_import(refused, last=randbytes(TOO_LARGE)))
        await heals(pool)
        await pool.commit(an_import(good))
        assert (await all_seen(settings, "read_uncommitted"))[refused] > 0
        committed = await all_seen(settings)
        assert (committed[refused], committed[good]) == (0, ROWS + 1)


async def test_an_import_lies_compressed_in_the_log(settings: IngestSettings, broker: Broker) -> None:
    async with pool_of(settings) as pool:
        await pool.commit(an_import(uuid4()))
    rows = TopicNames(settings.topic_prefix)[TopicName.ROWS]
    (log,) = [log for log in (broker.kafka.nodes[0].directory / "data").glob(f"{rows}-*/*.log") if log.stat().st_size]
    assert b"\x82SNAPPY" in log.read_bytes()
    assert log.stat().st_size < ROWS * 1500 / 2


async def test_invariant_1_a_frozen_broker_is_broker_unavailable_in_time_and_nothing_stands(
    settings: IngestSettings, broker: Broker
) -> None:
    async with pool_of(settings) as pool:
        await pool.commit(an_import(uuid4()))
        refused, loop = uuid4(), asyncio.get_running_loop()
        broker.program.pause()
        try:
            started = loop.time()
            with pytest.raises(BrokerUnavailable) as error:
                await pool.commit(an_import(refused))
            assert not isinstance(error.value, AcceptanceUnknown)
            assert loop.time() - started < 3
        finally:
            broker.program.resume()
        await heals(pool)
        assert await seen(settings, refused) == 0


async def test_invariant_1_silence_during_the_commit_is_unknown_and_never_a_part(
    settings: IngestSettings, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool_of(settings) as pool:
        await pool.commit(an_import(uuid4()))
        begin = transactions._Attempt.begin_commit

        def freeze_then_begin(attempt: transactions._Attempt) -> None:
            broker.program.pause()
            begin(attempt)

        monkeypatch.setattr(transactions._Attempt, "begin_commit", freeze_then_begin)
        unknown = uuid4()
        try:
            with pytest.raises(AcceptanceUnknown):
                await pool.commit(an_import(unknown))
        finally:
            monkeypatch.undo()
            broker.program.resume()
        await heals(pool)
        assert await seen(settings, unknown) in {0, ROWS + 1}


async def test_a_killed_broker_is_waited_out_and_the_pool_heals(settings: IngestSettings, broker: Broker) -> None:
    async with pool_of(settings) as pool:
        before = uuid4()
        await pool.commit(an_import(before))
        # Wait for its markers: a lone Kafka 4.4 that is killed before it wrote them forgets them (docs/decisions/0008)
        assert await seen(settings, before) == ROWS + 1
        broker.program.kill()
        refused = uuid4()
        with pytest.raises(BrokerUnavailable):
            await pool.commit(an_import(refused))
        broker.program.start()
        await heals(pool)
        assert await seen(settings, before) == ROWS + 1
        assert await seen(settings, refused) == 0


async def test_invariant_1_a_client_that_goes_away_leaves_nothing_or_one_whole_job(settings: IngestSettings) -> None:
    async with pool_of(settings) as pool:
        jobs = [uuid4() for _ in range(20)]
        for number, job in enumerate(jobs):
            committing = asyncio.create_task(pool.commit(an_import(job)))
            await asyncio.sleep(number / 2000)  # somewhere in the middle
            committing.cancel()
            await asyncio.gather(committing, return_exceptions=True)
        await heals(pool)
        committed = await all_seen(settings)
        assert {committed[job] for job in jobs} <= {0, ROWS + 1}


async def test_a_dead_process_holds_up_its_successor_no_longer_than_it_takes_to_fence_it(settings: IngestSettings) -> None:
    """The new pool takes the old one's transactional ids: what that left open is aborted, not waited out."""
    left_open, after = uuid4(), uuid4()
    old = TransactionPool(settings.model_copy(update={"transaction_timeout_ms": 60_000}))
    await old.start()
    slot = await old._take(5)
    assert slot.producer is not None
    await slot.producer.begin_transaction()
    await asyncio.wait_for(slot.producer.send_and_wait(f"{settings.topic_prefix}.rows.v1", key=str(left_open).encode(), value=b"x"), 10)
    async with pool_of(settings) as new:
        await heals(new)
        await new.commit(an_import(after))
        assert await seen(settings, after) == ROWS + 1
        assert await seen(settings, left_open) == 0
    old._free.put_nowait(slot)
    await old.stop()


@pytest.mark.parametrize("part", ["client._sync_task", "_sender.sender_task"])
async def test_invariant_9_producers_that_died_while_they_were_free_are_replaced_before_an_import_is_given_to_them(
    settings: IngestSettings, part: str
) -> None:
    async with pool_of(settings.model_copy(update={"broker_deadline_seconds": 20, "commit_deadline_seconds": 20})) as pool:
        await heals(pool)
        dead, job = [slot.producer for slot in pool._slots], uuid4()
        for producer in dead:
            task: asyncio.Task[None] = attrgetter(part)(producer)
            task.cancel()
            await asyncio.wait([task])
        await pool.commit(an_import(job))
        assert await seen(settings, job) == ROWS + 1
        await heals(pool)
        assert not {id(slot.producer) for slot in pool._slots} & {id(producer) for producer in dead}


async def begin_and_die(producer: AIOKafkaProducer) -> None:
    """In a client that can ask nobody any more where to send, and does not know the coordinator."""
    del producer.begin_transaction  # the real one again
    await producer.begin_transaction()
    await kill_metadata_task(producer.client)

    async def unknown(*_: object) -> None:
        raise CoordinatorNotAvailableError

    producer.client.coordinator_lookup = unknown
    producer._sender._coordinators.clear()


async def test_invariant_1_a_client_that_dies_under_an_import_ends_it_in_time_and_is_replaced(settings: IngestSettings) -> None:
    async with pool_of(settings) as pool:
        await heals(pool)
        before, job, loop = [slot.producer for slot in pool._slots], uuid4(), asyncio.get_running_loop()
        for producer in before:
            assert producer is not None
            producer.begin_transaction = partial(begin_and_die, producer)
        started = loop.time()
        with pytest.raises(BrokerUnavailable) as error:
            await pool.commit(an_import(job))
        assert not isinstance(error.value, AcceptanceUnknown)
        assert loop.time() - started < settings.broker_deadline_seconds + 2
        await eventually(lambda: not pool._renewing and sum(slot.producer not in before for slot in pool._slots) == 1)
        await heals(pool)
        assert await seen(settings, job) == 0


async def test_commits_without_time_left_throw_no_producer_away(settings: IngestSettings) -> None:
    async with pool_of(settings) as pool:
        await heals(pool)
        producers, long_ago = [slot.producer for slot in pool._slots], asyncio.get_running_loop().time() - 60
        for _ in range(4):
            with pytest.raises(BrokerUnavailable):
                await pool.commit(an_import(uuid4()), long_ago)
        assert not pool._renewing
        assert [slot.producer for slot in pool._slots] == producers
