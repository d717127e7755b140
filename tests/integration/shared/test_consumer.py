"""The safe batch consumer on a real broker: nothing is skipped, nothing is lost, poison moves aside."""

import asyncio
import gc
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import ConsumerStoppedError, UnsupportedCodecError

from shared.errors import BrokerUnavailable, DatabaseUnavailable, ErrorCode, Poison
from shared.messaging.admin import create_topics, delete_topics, leave_group
from shared.messaging.connection import create_broker
from shared.messaging.consumer import SESSION_TIMEOUT_MS, Batch, BatchConsumer, ConsumerLost
from shared.messaging.dead_letters import MAX_VALUE, DeadLetter
from shared.messaging.records import Record, RecordProducer, RecordSender
from shared.settings import ServiceSettings
from shared.topics import MEBIBYTE, TOPICS, TopicName, TopicNames
from tests.kafka import records_of
from tests.waiting import eventually

TOPIC = TopicName.ROWS


class Handler:
    """Remembers what it was given; does to a batch what the test wants. A value that begins with `poison` can't be read."""

    def __init__(self, before: Callable[[list[bytes]], Any] | None = None) -> None:
        self.done: list[bytes] = []
        self.batches: list[list[bytes]] = []
        self._before = before

    def decode(self, records: Batch) -> tuple[list[bytes], list[DeadLetter]]:
        poison = [DeadLetter(one, Poison(ErrorCode.INVALID_RECORD, "unreadable")) for one in records if _is_poison(one)]
        return [one.value or b"" for one in records if not _is_poison(one)], poison

    async def process(self, decoded: list[bytes], _poison: list[DeadLetter]) -> list[DeadLetter]:
        self.batches.append(decoded)
        if self._before is not None:
            await self._before(decoded)
        self.done += decoded
        return []


def _is_poison(record: "ConsumerRecord[bytes, bytes]") -> bool:
    return (record.value or b"").startswith(b"poison")


@pytest.fixture
def settings(environment: dict[str, Any]) -> ServiceSettings:
    """A group of its own for each test: by the consumer's name."""
    return ServiceSettings(**environment)


@pytest_asyncio.fixture(loop_scope="module")
async def producer(settings: ServiceSettings) -> AsyncIterator[RecordProducer]:
    producer = RecordProducer(settings, client_id="test")
    await producer.start()
    yield producer
    await producer.stop()


@asynccontextmanager
async def consuming(
    settings: ServiceSettings, producer: RecordSender, handler: Handler, *, name: str, clean: bool = True, member: int = 0
) -> AsyncIterator[BatchConsumer]:
    consumer: BatchConsumer = BatchConsumer(name, settings, [TOPIC], handler, producer, member=member)
    broker = create_broker(settings, client_id=f"test-{uuid4().hex[:6]}")
    consumer.subscribe(broker)
    await broker.start()
    try:
        yield consumer
    finally:
        consumer.interrupt()
        await broker.stop()
        if clean:
            await leave_group(settings, consumer.group, consumer.group_instance_id)


async def produce(
    producer: RecordProducer, settings: ServiceSettings, values: Sequence[bytes], *, headers: list[Any] | None = None
) -> None:
    """One key each, so that they spread over the partitions."""
    records = [Record(value, value, headers or []) for value in values]
    await producer.send(TopicNames(settings.topic_prefix)[TOPIC], records)


def some(prefix: str, count: int = 60) -> list[bytes]:
    return [f"{prefix}-{number}".encode() for number in range(count)]


def of(prefix: str, values: Sequence[bytes]) -> list[bytes]:
    """The topic is shared by the module's tests: only those of one."""
    return [value for value in values if value.startswith(prefix.encode())]


async def test_invariant_9_a_batch_waits_for_a_server_and_nothing_is_skipped(settings: ServiceSettings, producer: RecordProducer) -> None:
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


async def test_a_batch_is_freed_when_it_is_done_without_the_collector(settings: ServiceSettings, producer: RecordProducer) -> None:
    """It walks seldom (shared/process.py): in a cycle, batches would pile up to hundreds of megabytes."""

    seen: list[weakref.ref[ConsumerRecord[bytes, bytes]]] = []

    class Watching(Handler):
        def decode(self, records: Batch) -> tuple[list[bytes], list[DeadLetter]]:
            seen.extend(weakref.ref(record) for record in records)
            return super().decode(records)

    handler = Watching()
    gc.disable()
    try:
        async with consuming(settings, producer, handler, name="freed"):
            await produce(producer, settings, some("freed"))
            await eventually(lambda: set(some("freed")) <= set(handler.done))
            await produce(producer, settings, some("next"))  # until then a loop's variable still holds it

            def kept() -> list[bytes]:
                return of("freed", [record.value for one in seen if (record := one()) is not None])

            # 10 s: so long a cancelled timer of asyncio's own loop keeps the context that FastStream had the batch in (uvloop's does not)
            await eventually(lambda: not kept(), seconds=40)
    finally:
        gc.enable()


async def test_two_members_in_one_process_share_the_partitions(settings: ServiceSettings, producer: RecordProducer) -> None:
    first, second = Handler(), Handler()
    async with (
        consuming(settings, producer, first, name="pair") as one,
        consuming(settings, producer, second, name="pair", member=1) as other,
    ):
        await eventually(lambda: one.trouble() is None and other.trouble() is None)
        await produce(producer, settings, some("both"))
        await eventually(lambda: set(some("both")) <= {*first.done, *second.done})
    assert of("both", first.done)
    assert of("both", second.done)
    assert not set(of("both", first.done)) & set(of("both", second.done))


async def test_a_member_that_waits_holds_up_no_other_in_its_process(settings: ServiceSettings, producer: RecordProducer) -> None:
    async def away(_: list[bytes]) -> None:
        raise DatabaseUnavailable("away")

    waiting, working = Handler(away), Handler()
    await produce(producer, settings, some("beside-both"))  # some of it for each
    async with (
        consuming(settings, producer, waiting, name="beside") as one,
        consuming(settings, producer, working, name="beside", member=1) as other,
    ):
        await eventually(lambda: one.trouble() == "waiting for a server" and other.trouble() is None)
        await produce(producer, settings, some("beside-one"))
        await eventually(lambda: len(of("beside-one", working.done)) > 10)
        assert not waiting.done


async def test_a_bug_is_waited_out_too_and_skips_nothing(settings: ServiceSettings, producer: RecordProducer) -> None:
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


async def test_invariant_8_poison_moves_aside_with_all_it_carried(
    settings: ServiceSettings, producer: RecordProducer, kafka: str, topic_prefix: str
) -> None:
    handler = Handler()
    await produce(producer, settings, [b"poison-1"], headers=[("trace", b"\xff\xfe"), ("ce_id", b"x")])
    await produce(producer, settings, some("beside"))
    async with consuming(settings, producer, handler, name="poison"):
        await eventually(lambda: set(some("beside")) <= set(handler.done))
    letters = [one for one in await records_of(kafka, topic_prefix, TopicName.DEAD_LETTERS) if one.value == b"poison-1"]
    headers = dict(letters[0].headers)
    assert letters[0].key == b"poison-1"
    assert (headers["trace"], headers["ce_id"]) == (b"\xff\xfe", b"x")
    assert headers["pinflow-topic"].decode() == TopicNames(topic_prefix)[TOPIC]
    assert headers["pinflow-error-code"] == b"invalid_record"
    assert headers["pinflow-replay-count"] == b"0"


async def test_invariant_8_when_everything_is_poison_the_consumer_halts_and_keeps_it(
    environment: dict[str, Any], producer: RecordProducer
) -> None:
    prefix = {**environment, "consumer_poison_limit": 5}
    settings = ServiceSettings(**prefix)
    handler = Handler()
    async with consuming(settings, producer, handler, name="flood", clean=False) as consumer:
        await eventually(lambda: consumer.trouble() is None)
        await eventually(lambda: handler.batches)  # what other tests left behind is read
        await produce(producer, settings, [b"poison-%d" % number for number in range(200)])
        await eventually(lambda: (consumer.trouble() or "").startswith("halted"))
    # A restart with a version that can read them: all are still there
    later = Handler()
    later.decode = lambda records: ([one.value or b"" for one in records], [])  # type: ignore[method-assign]
    async with consuming(settings, producer, later, name="flood"):
        await eventually(lambda: b"poison-199" in later.done)
    assert len(of("poison", later.done)) >= 195


async def test_invariant_8_a_batch_of_poison_counts_once_however_often_it_is_tried(
    environment: dict[str, Any], producer: RecordProducer
) -> None:
    settings = ServiceSettings(**{**environment, "consumer_poison_limit": 500})
    refused = 0

    class AwayForAWhile:
        async def send(self, topic: str, records: Sequence[Record]) -> None:
            nonlocal refused
            if refused < 6 and any(record.value.startswith(b"poison-again") for record in records):
                refused += 1
                raise BrokerUnavailable("away")
            await producer.send(topic, records)

    handler = Handler()
    async with consuming(settings, AwayForAWhile(), handler, name="again") as consumer:
        await produce(producer, settings, some("before"))
        await eventually(lambda: set(some("before")) <= set(handler.done))  # what other tests left behind is read
        await produce(producer, settings, [b"poison-again-%d" % number for number in range(100)])
        await eventually(lambda: refused == 6)
        await produce(producer, settings, some("healthy"))
        await eventually(lambda: set(some("healthy")) <= set(handler.done))
        await eventually(lambda: consumer.trouble() is None)


async def test_invariant_8_poison_that_shows_in_processing_halts_too(environment: dict[str, Any], producer: RecordProducer) -> None:
    settings = ServiceSettings(**{**environment, "consumer_poison_limit": 5})

    class RefusesAll(Handler):
        def decode(self, records: Batch) -> tuple[list[Any], list[DeadLetter]]:
            return list(records), []

        async def process(self, decoded: list[Any], _poison: list[DeadLetter]) -> list[DeadLetter]:
            return [DeadLetter(record, Poison(ErrorCode.RECORD_REFUSED, "no")) for record in decoded]

    await produce(producer, settings, some("refused", 200))
    async with consuming(settings, producer, RefusesAll(), name="refuses-all") as consumer:
        await eventually(lambda: (consumer.trouble() or "").startswith("halted"))


@pytest_asyncio.fixture(loop_scope="module")
async def left_packed(environment: dict[str, Any]) -> AsyncIterator[ServiceSettings]:
    """A topic where the broker keeps what was compressed as it came, and nothing else on it."""
    settings = ServiceSettings(**{**environment, "topic_prefix": f"test-{uuid4().hex[:12]}"})
    topics = tuple(topic for topic in TOPICS if topic.name in {TOPIC, TopicName.DEAD_LETTERS})
    await create_topics(settings, topics)
    yield settings
    await delete_topics(settings, topics)


async def produce_packed(settings: ServiceSettings, value: bytes, codec: Any) -> None:
    servers = settings.kafka_bootstrap_servers
    async with AIOKafkaProducer(bootstrap_servers=servers, max_request_size=64 * MEBIBYTE, compression_type=codec) as packing:
        await packing.send_and_wait(TopicNames(settings.topic_prefix)[TOPIC], value, key=value[:20])


async def test_what_any_codec_packed_is_read(left_packed: ServiceSettings, producer: RecordProducer) -> None:
    handler, codecs = Handler(), ("gzip", "snappy", "lz4", "zstd")
    for codec in codecs:
        await produce_packed(left_packed, codec.encode(), codec)
    async with consuming(left_packed, producer, handler, name="codecs"):
        await eventually(lambda: sorted(handler.done) == sorted(codec.encode() for codec in codecs))


async def test_invariant_8_a_record_larger_than_a_dead_letter_may_be_does_not_block_its_partition(
    left_packed: ServiceSettings, producer: RecordProducer
) -> None:
    """It was small while it was packed. What is kept of it is its beginning, and a header that says so."""
    bomb = b"poison" + bytes(16 * MEBIBYTE)
    handler = Handler()
    await produce_packed(left_packed, bomb, "lz4")
    async with consuming(left_packed, producer, handler, name="bomb"):
        await produce(producer, left_packed, some("beside"))
        await eventually(lambda: set(some("beside")) <= set(handler.done))
        (letter,) = await eventually(lambda: letters_of(left_packed), every=0.2)
    assert letter.value == bomb[:MAX_VALUE]
    assert dict(letter.headers)["pinflow-truncated"] == str(len(bomb)).encode()


async def letters_of(settings: ServiceSettings) -> list["ConsumerRecord[bytes, bytes]"]:
    return await records_of(settings.kafka_bootstrap_servers, settings.topic_prefix, TopicName.DEAD_LETTERS)


async def test_a_fetch_that_fails_for_good_ends_the_consumer(settings: ServiceSettings, producer: RecordProducer) -> None:
    """What aiokafka had taken from other partitions is dropped with it: going on would commit past these records."""

    async def fails(_: object) -> Any:
        raise UnsupportedCodecError("zstd")

    async with consuming(settings, producer, Handler(), name="codec") as consumer:
        await eventually(lambda: consumer.trouble() is None)
        with pytest.raises(ConsumerStoppedError):
            await consumer._fetching(fails)(Any)
        assert (consumer.trouble() or "").startswith("lost")
        with pytest.raises(ConsumerLost, match="zstd"):
            await consumer.watch()


async def test_a_killed_consumers_batch_is_delivered_again(settings: ServiceSettings, producer: RecordProducer) -> None:
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
        await eventually(lambda: set(some("killed")) <= set(heir.done), seconds=SESSION_TIMEOUT_MS / 2000)
    assert not of("killed", stuck.done)


async def test_a_rebalance_in_the_middle_of_a_batch_waits_for_it(
    settings: ServiceSettings, producer: RecordProducer, environment: dict[str, Any]
) -> None:
    """Every record is processed once, though its partition goes to a new member while it is being processed."""
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
        # The joining member's rebalance has reached the first one, which holds it up until its batch has ended
        await eventually(lambda: one.trouble() is not None)
        go_on.set()
        await joining
    seen = Counter(of("rebalance", [*first.done, *second.done]))
    assert set(seen) == set(some("rebalance", 300))
    assert seen.most_common(1)[0][1] == 1


async def _consume_until(
    settings: ServiceSettings, producer: RecordProducer, handler: Handler, go_on: asyncio.Event, first: Handler
) -> None:
    async with consuming(settings, producer, handler, name="rebalance") as consumer:
        await go_on.wait()
        await eventually(lambda: consumer.trouble() is None)
        await produce(producer, settings, some("after", 60))
        await eventually(lambda: set(some("after", 60)) <= {*first.done, *handler.done})
        assert of("after", handler.done), "the new member has partitions of its own"


async def test_a_clean_stop_hands_over_at_once(settings: ServiceSettings, producer: RecordProducer, environment: dict[str, Any]) -> None:
    """A static member that stops would keep its partitions for a whole session, were it not removed from the group."""
    gone, heir = Handler(), Handler()
    other = ServiceSettings(**{**environment, "replica": "1"})
    async with consuming(settings, producer, gone, name="handover") as consumer:
        await eventually(lambda: consumer.trouble() is None)
    await produce(producer, settings, some("handover"))
    async with consuming(other, producer, heir, name="handover"):
        await eventually(lambda: set(some("handover")) <= set(heir.done), seconds=SESSION_TIMEOUT_MS / 3000)


async def test_a_commit_covers_what_was_processed_and_no_more(settings: ServiceSettings, producer: RecordProducer) -> None:
    first, second = Handler(), Handler()
    await produce(producer, settings, some("committed"))
    async with consuming(settings, producer, first, name="committed"):
        await eventually(lambda: set(some("committed")) <= set(first.done))
    await produce(producer, settings, some("next"))
    async with consuming(settings, producer, second, name="committed"):
        await eventually(lambda: set(some("next")) <= set(second.done))
    assert not of("committed", second.done)
