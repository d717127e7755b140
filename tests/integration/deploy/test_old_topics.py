"""An upgrade requires that the previous version's topics are drained, on a real broker."""

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
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import admin_client
from shared.runtime.settings import KafkaSettings
from tests.support.kafka import wait_until_served
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow

PARTITIONS = 2


class PreviousVersion:
    """An installation of the previous version, with its topics, its ingest and its groups."""

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
            topics = await admin.list_topics()
        return {name for name in topics if name.startswith(self.settings.topic_prefix)}

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

    async def commit_ends(self) -> None:
        """Commits the groups' offsets at the ends that a consumer can read."""
        for topic, group in ((self.imports, self.status), (self.rows, self.publisher)):
            servers = self.settings.kafka_bootstrap_servers
            consumer = AIOKafkaConsumer(
                bootstrap_servers=servers, group_id=group, enable_auto_commit=False
            )
            async with consumer:
                partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
                consumer.assign(partitions)
                await consumer.commit(await consumer.end_offsets(partitions))

    async def commit(self, topic: str, group: str, partition: int, offset: int) -> None:
        servers = self.settings.kafka_bootstrap_servers
        consumer = AIOKafkaConsumer(
            bootstrap_servers=servers, group_id=group, enable_auto_commit=False
        )
        async with consumer:
            topic_partition = TopicPartition(topic, partition)
            consumer.assign([topic_partition])
            await consumer.commit({topic_partition: offset})

    async def find_backlogs(self) -> tuple[TopicBacklog, ...]:
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
        """Waits for the transaction markers: Kafka acknowledges a commit before it writes them."""

        async def have_ended() -> bool:
            return not any(backlog.open_partitions for backlog in await self.find_backlogs())

        await eventually(have_ended)

    async def delete(self) -> None:
        async with admin_client(self.settings) as admin:
            await admin.delete_topics(sorted(await self.topics()))


@pytest.fixture
async def previous(kafka: str) -> AsyncIterator[PreviousVersion]:
    installation = PreviousVersion(kafka)
    yield installation
    await installation.delete()


async def test_a_new_installation_has_no_old_topics(previous: PreviousVersion) -> None:
    created = await create_topics(previous.settings)
    assert created.drained == []

    async def are_listed() -> bool:
        return len(await previous.topics()) == len(created.topics.names)

    await eventually(are_listed)


async def test_drained_topics_allow_an_upgrade_and_are_named(previous: PreviousVersion) -> None:
    await previous.accept_one()
    await previous.commit_ends()
    created = await create_topics(previous.settings)
    assert created.drained == [previous.imports, previous.rows]
    assert created.topics.names
    assert (
        await create_topics(previous.settings)
    ).drained == created.drained  # the same at each make up


async def test_old_topics_that_were_never_written_to_are_drained(previous: PreviousVersion) -> None:
    await previous.create()
    assert await require_drained(previous.settings) == [previous.imports, previous.rows]


async def test_waiting_records_refuse_an_upgrade_and_nothing_is_created(
    previous: PreviousVersion,
) -> None:
    await previous.accept_one()
    topics = await previous.topics()
    with pytest.raises(NotDrained) as error:
        await create_topics(previous.settings)
    assert error.value.backlogs == (
        TopicBacklog(previous.imports, previous.status, 1, 0),
        TopicBacklog(previous.rows, previous.publisher, 3, 0),
    )
    assert await previous.topics() == topics


async def test_only_records_that_their_group_has_not_committed_wait(
    previous: PreviousVersion,
) -> None:
    await previous.create()
    async with previous.ingest() as ingest:
        await previous.accept(ingest)
        await previous.wait_until_transactions_end()
        await previous.commit_ends()
        await previous.accept(ingest, rows=2)
    await previous.wait_until_transactions_end()
    await previous.commit(previous.imports, previous.status, 0, 4)
    assert await previous.find_backlogs() == (
        TopicBacklog(previous.rows, previous.publisher, 2, 0),
    )


async def test_markers_and_aborted_records_after_the_committed_offset_do_not_wait(
    previous: PreviousVersion,
) -> None:
    await previous.create()
    async with previous.ingest() as ingest:
        await previous.accept(ingest)
        await previous.wait_until_transactions_end()
        # A consumer commits the offset after the last record, which is the transaction marker's
        await previous.commit(previous.imports, previous.status, 0, 1)
        await previous.commit(previous.rows, previous.publisher, 1, 3)
        assert await require_drained(previous.settings) == [previous.imports, previous.rows]
        await ingest.begin_transaction()
        await previous.write(ingest)
        await ingest.abort_transaction()
    await previous.wait_until_transactions_end()
    assert await require_drained(previous.settings) == [previous.imports, previous.rows]


async def test_an_open_transaction_refuses_an_upgrade(previous: PreviousVersion) -> None:
    await previous.create()
    async with previous.ingest() as ingest:
        await ingest.begin_transaction()
        await previous.write(ingest)
        assert await previous.find_backlogs() == (
            TopicBacklog(previous.imports, previous.status, 0, 1),
            TopicBacklog(previous.rows, previous.publisher, 0, 1),
        )
        with pytest.raises(NotDrained, match=r"kafka-transactions\.sh"):
            await create_topics(previous.settings)
        await ingest.abort_transaction()
    await previous.wait_until_transactions_end()
    assert await previous.find_backlogs() == ()


async def test_committed_offsets_beyond_the_end_count_as_missing(previous: PreviousVersion) -> None:
    await previous.accept_one()
    await previous.commit(previous.imports, previous.status, 0, 1000)
    await previous.commit(previous.rows, previous.publisher, 1, 1000)
    assert [backlog.records for backlog in await previous.find_backlogs()] == [1, 3]


async def test_counting_ends_at_a_limit_and_the_message_says_at_least(
    previous: PreviousVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(old_topics, "MAX_COUNTED", 2)
    await previous.accept_one()
    with pytest.raises(
        NotDrained, match=r"rows\.v1 \(group .*\.publisher\): at least 2 records wait"
    ):
        await require_drained(previous.settings)


async def test_the_command_refuses_with_the_waiting_records_and_the_next_step(
    previous: PreviousVersion,
) -> None:
    await previous.accept_one()
    environment = {
        "PINFLOW_KAFKA_BOOTSTRAP_SERVERS": previous.settings.kafka_bootstrap_servers,
        "PINFLOW_TOPIC_PREFIX": previous.settings.topic_prefix,
    }

    def create() -> tuple[int, str]:
        result = CliRunner().invoke(app, ["topics", "create"], env=environment)
        return result.exit_code, result.output

    code, output = await asyncio.to_thread(create)
    assert code == ExitCode.REFUSED, output
    for part in (
        f"{previous.imports} (group {previous.status}): 1 record waits",
        f"{previous.rows} (group {previous.publisher}): 3 records wait",
        "Nothing was created",
        "Start the previous version, stop its ingest",
    ):
        assert part in output
    await previous.commit_ends()
    code, output = await asyncio.to_thread(create)
    assert code == ExitCode.DONE, output
    assert f"{previous.rows} is drained" in output


async def test_waiting_outcomes_refuse_an_upgrade_but_not_a_later_start(
    previous: PreviousVersion,
) -> None:
    """The new version ignores the outcomes that the previous ingest wrote in transactions."""
    outcomes = previous._named("outcomes.v1")
    await previous.create()
    async with admin_client(previous.settings) as admin:
        await admin.create_topics([NewTopic(outcomes, PARTITIONS, 1)])
    async with previous.ingest() as ingest, ingest.transaction():
        await eventually(lambda: _sent(ingest, outcomes))
    await previous.wait_until_transactions_end()
    assert [
        (backlog.topic, backlog.group, backlog.records)
        for backlog in await previous.find_backlogs()
    ] == [(outcomes, previous.status, 1)]
    await previous.commit(outcomes, previous.status, 0, 1)
    created = await create_topics(previous.settings)
    assert created.drained == [previous.imports, previous.rows]
    new_imports = TopicNames(previous.settings.topic_prefix)[TopicName.IMPORTS]
    await wait_until_served(previous.settings.kafka_bootstrap_servers, [new_imports])
    await previous.commit(outcomes, previous.status, 0, 0)  # status may have a lag at any time
    assert (await create_topics(previous.settings)).drained == created.drained


async def _sent(producer: AIOKafkaProducer, topic: str) -> bool:
    await producer.send_and_wait(topic, b"outcome", partition=0)
    return True
