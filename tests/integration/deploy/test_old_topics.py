"""An upgrade asks for topics of the version before that are drained, on the real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from typer.testing import CliRunner

from deploy import old_topics
from deploy.cli.exit_codes import ExitCode
from deploy.cli.main import app
from deploy.old_topics import NotDrained, TopicBacklog, require_drained
from deploy.topics import create_topics
from shared.kafka.admin import admin_client
from shared.runtime.settings import KafkaSettings
from tests.support.waiting import eventually

PARTITIONS = 2


class Before:
    """An installation of the version before, with what its ingest and its readers did."""

    def __init__(self, kafka: str) -> None:
        self.settings = KafkaSettings(
            kafka_bootstrap_servers=kafka, topic_prefix=f"test-{uuid4().hex[:12]}"
        )
        self.imports, self.rows = (self._named(name) for name in ("imports.v1", "rows.v1"))
        self.status, self.publisher = self._named("status"), self._named("publisher")

    def _named(self, name: str) -> str:
        return f"{self.settings.topic_prefix}.{name}"

    async def create(self) -> None:
        async with admin_client(self.settings) as admin:
            await admin.create_topics(
                [NewTopic(name, PARTITIONS, 1) for name in (self.imports, self.rows)]
            )

        async def are_there() -> bool:
            return await self.topics() >= {self.imports, self.rows}

        await eventually(are_there)

    async def topics(self) -> set[str]:
        async with admin_client(self.settings) as admin:
            every = await admin.list_topics()
        return {name for name in every if name.startswith(self.settings.topic_prefix)}

    @asynccontextmanager
    async def ingest(self) -> AsyncIterator[AIOKafkaProducer]:
        servers = self.settings.kafka_bootstrap_servers
        producer = AIOKafkaProducer(
            bootstrap_servers=servers, transactional_id=self._named("ingest-0")
        )
        async with producer:
            yield producer

    async def accept(self, producer: AIOKafkaProducer, rows: int = 3) -> None:
        async with producer.transaction():
            await self.write(producer, rows)

    async def write(self, producer: AIOKafkaProducer, rows: int = 3) -> None:
        await producer.send_and_wait(self.imports, b"import", partition=0)
        for _ in range(rows):
            await producer.send_and_wait(self.rows, b"row", partition=1)

    async def settle(self) -> None:
        """Commits the readers' groups up to the end of all that they can see."""
        for topic, group in ((self.imports, self.status), (self.rows, self.publisher)):
            servers = self.settings.kafka_bootstrap_servers
            consumer = AIOKafkaConsumer(
                bootstrap_servers=servers, group_id=group, enable_auto_commit=False
            )
            async with consumer:
                partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
                consumer.assign(partitions)
                await consumer.commit(await consumer.end_offsets(partitions))

    async def settle_up_to(self, topic: str, group: str, partition: int, offset: int) -> None:
        servers = self.settings.kafka_bootstrap_servers
        consumer = AIOKafkaConsumer(
            bootstrap_servers=servers, group_id=group, enable_auto_commit=False
        )
        async with consumer:
            place = TopicPartition(topic, partition)
            consumer.assign([place])
            await consumer.commit({place: offset})

    async def undrained(self) -> tuple[TopicBacklog, ...]:
        try:
            await require_drained(self.settings)
        except NotDrained as error:
            return error.backlogs
        return ()

    async def accept_one(self) -> None:
        """Creates the old topics and accepts one import on them."""
        await self.create()
        async with self.ingest() as ingest:
            await self.accept(ingest)
        await self.wait_until_transactions_end()

    async def wait_until_transactions_end(self) -> None:
        """Waits for the markers: a commit is answered before they are written."""

        async def have_ended() -> bool:
            return not any(one.open_partitions for one in await self.undrained())

        await eventually(have_ended)

    async def delete(self) -> None:
        async with admin_client(self.settings) as admin:
            await admin.delete_topics(sorted(await self.topics()))


@pytest.fixture
async def before(kafka: str) -> AsyncIterator[Before]:
    installation = Before(kafka)
    yield installation
    await installation.delete()


async def test_a_new_installation_has_no_old_topics(before: Before) -> None:
    created = await create_topics(before.settings)
    assert created.drained == []
    assert len(created.topics.names) == len(await before.topics())


async def test_drained_topics_let_an_upgrade_go_on_and_are_named(before: Before) -> None:
    await before.accept_one()
    await before.settle()
    created = await create_topics(before.settings)
    assert created.drained == [before.imports, before.rows]
    assert created.topics.names
    assert (await create_topics(before.settings)).drained == created.drained  # as at each make up


async def test_old_topics_that_were_never_written_to_are_drained(before: Before) -> None:
    await before.create()
    assert await require_drained(before.settings) == [before.imports, before.rows]


async def test_waiting_records_refuse_an_upgrade_and_nothing_is_created(before: Before) -> None:
    await before.accept_one()
    there = await before.topics()
    with pytest.raises(NotDrained) as refusal:
        await create_topics(before.settings)
    assert refusal.value.backlogs == (
        TopicBacklog(before.imports, before.status, 1, 0),
        TopicBacklog(before.rows, before.publisher, 3, 0),
    )
    assert await before.topics() == there


async def test_only_what_its_group_has_not_committed_waits(before: Before) -> None:
    await before.create()
    async with before.ingest() as ingest:
        await before.accept(ingest)
        await before.wait_until_transactions_end()
        await before.settle()
        await before.accept(ingest, rows=2)
    await before.wait_until_transactions_end()
    await before.settle_up_to(before.imports, before.status, 0, 4)
    assert await before.undrained() == (TopicBacklog(before.rows, before.publisher, 2, 0),)


async def test_markers_and_aborted_records_behind_the_committed_offset_do_not_wait(
    before: Before,
) -> None:
    await before.create()
    async with before.ingest() as ingest:
        await before.accept(ingest)
        await before.wait_until_transactions_end()
        # A consumer commits the offset behind the last record; then comes the marker
        await before.settle_up_to(before.imports, before.status, 0, 1)
        await before.settle_up_to(before.rows, before.publisher, 1, 3)
        assert await require_drained(before.settings) == [before.imports, before.rows]
        await ingest.begin_transaction()
        await before.write(ingest)
        await ingest.abort_transaction()
    await before.wait_until_transactions_end()
    assert await require_drained(before.settings) == [before.imports, before.rows]


async def test_an_open_transaction_refuses_an_upgrade(before: Before) -> None:
    await before.create()
    async with before.ingest() as ingest:
        await ingest.begin_transaction()
        await before.write(ingest)
        assert await before.undrained() == (
            TopicBacklog(before.imports, before.status, 0, 1),
            TopicBacklog(before.rows, before.publisher, 0, 1),
        )
        with pytest.raises(NotDrained, match=r"kafka-transactions\.sh"):
            await create_topics(before.settings)
        await ingest.abort_transaction()
    await before.wait_until_transactions_end()
    assert await before.undrained() == ()


async def test_offsets_that_the_topic_cannot_have_had_count_as_none(before: Before) -> None:
    await before.accept_one()
    await before.settle_up_to(before.imports, before.status, 0, 1000)
    await before.settle_up_to(before.rows, before.publisher, 1, 1000)
    assert [one.records for one in await before.undrained()] == [1, 3]


async def test_counting_ends_at_a_bound_and_says_so(
    before: Before, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(old_topics, "MAX_COUNTED", 2)
    await before.accept_one()
    with pytest.raises(
        NotDrained, match=r"rows\.v1 \(group .*\.publisher\): at least 2 records wait"
    ):
        await require_drained(before.settings)


async def test_the_command_refuses_with_what_waits_and_the_next_step(before: Before) -> None:
    await before.accept_one()
    environment = {
        "PINFLOW_KAFKA_BOOTSTRAP_SERVERS": before.settings.kafka_bootstrap_servers,
        "PINFLOW_TOPIC_PREFIX": before.settings.topic_prefix,
    }

    def create() -> tuple[int, str]:
        done = CliRunner().invoke(app, ["topics", "create"], env=environment)
        return done.exit_code, done.output

    code, output = await asyncio.to_thread(create)
    assert code == ExitCode.REFUSED, output
    for part in (
        f"{before.imports} (group {before.status}): 1 record waits",
        f"{before.rows} (group {before.publisher}): 3 records wait",
        "Nothing was created",
        "Start the previous version, stop its ingest",
    ):
        assert part in output
    await before.settle()
    code, output = await asyncio.to_thread(create)
    assert code == ExitCode.DONE, output
    assert f"{before.rows} is drained" in output


async def test_waiting_outcomes_refuse_an_upgrade_and_are_nobodys_business_after_it(
    before: Before,
) -> None:
    """Ingest wrote them in transactions, at whose ends the new version does not look."""
    outcomes = before._named("outcomes.v1")
    await before.create()
    async with admin_client(before.settings) as admin:
        await admin.create_topics([NewTopic(outcomes, PARTITIONS, 1)])
    async with before.ingest() as ingest, ingest.transaction():
        await eventually(lambda: _sent(ingest, outcomes))
    await before.wait_until_transactions_end()
    assert [(one.topic, one.group, one.records) for one in await before.undrained()] == [
        (outcomes, before.status, 1)
    ]
    await before.settle_up_to(outcomes, before.status, 0, 1)
    created = await create_topics(before.settings)
    assert created.drained == [before.imports, before.rows]
    await before.settle_up_to(
        outcomes, before.status, 0, 0
    )  # status is behind, as it may be at any time
    assert (await create_topics(before.settings)).drained == created.drained


async def _sent(producer: AIOKafkaProducer, topic: str) -> bool:
    await producer.send_and_wait(topic, b"outcome", partition=0)
    return True
