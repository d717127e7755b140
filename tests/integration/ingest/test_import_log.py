"""KafkaImportLog with a broker of its own that these tests freeze, kill and disturb."""

import asyncio
import sys
from collections.abc import Iterator
from random import randbytes
from uuid import UUID, uuid4

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError
from aiokafka.protocol.produce import ProduceRequest

from deploy.local.kafka import KafkaCluster
from services.ingest import appender as appender_module
from services.ingest.config import IngestSettings
from services.ingest.import_log import KafkaImportLog
from services.ingest.records import ImportBatch
from shared.contract.errors import AcceptanceUnknown, BrokerUnavailable, ProcessNotConnected
from shared.contract.import_limits import MAX_IMPORT_BYTES
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import create_topics
from shared.kafka.records import Record
from tests.support.import_log import (
    RECORDS,
    ROWS,
    build_import,
    count_records_by_job,
    new_job_id_for,
    open_import_log,
    wait_until_all_partitions_accept,
)
from tests.support.infrastructure import kafka_server
from tests.support.kafka import kill_metadata_task
from tests.support.processes import RunningProgram
from tests.support.waiting import eventually


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
        broker_deadline_seconds=3,
        acceptance_deadline_seconds=3.5,
    )
    asyncio.run(create_topics(settings))
    return settings


def with_long_deadlines(settings: IngestSettings) -> IngestSettings:
    """Returns the settings with deadlines that even a busy machine meets."""
    return settings.model_copy(
        update={"broker_deadline_seconds": 25, "acceptance_deadline_seconds": 30}
    )


def list_connections(import_log: KafkaImportLog) -> list[object]:
    """Returns the open connections of all partitions."""
    sessions = [appender._session for appender in import_log._appenders.values()]
    return [
        connection
        for session in sessions
        if session
        for connection in session.client._conns.values()
        if connection.connected()
    ]


async def count_records(settings: IngestSettings, job_id: UUID) -> int:
    return (await count_records_by_job(settings))[job_id]


async def test_invariant_1_an_acknowledged_import_is_read_completely(
    settings: IngestSettings,
) -> None:
    async with open_import_log(with_long_deadlines(settings)) as import_log:
        first, second = new_job_id_for(3), new_job_id_for(3)
        for job in (first, second):
            import_end = await import_log.append(build_import(job))
            assert import_end is not None
            assert (import_end.partition, import_end.offset % RECORDS) == (3, 0)
        counts = await count_records_by_job(settings)
        assert (counts[first], counts[second]) == (RECORDS, RECORDS)


async def test_concurrent_imports_are_each_read_completely(settings: IngestSettings) -> None:
    async with open_import_log(with_long_deadlines(settings)) as import_log:
        jobs = [uuid4() for _ in range(30)]
        await asyncio.gather(*(import_log.append(build_import(job)) for job in jobs))
        assert await count_records_by_job(settings) == dict.fromkeys(jobs, RECORDS)


async def test_invariant_1_a_batch_that_the_broker_refuses_leaves_nothing(
    settings: IngestSettings,
) -> None:
    """Kafka has none of its records, and the partition accepts the next import."""
    async with open_import_log(with_long_deadlines(settings)) as import_log:
        refused, good = new_job_id_for(2), new_job_id_for(2)
        key = str(refused).encode()
        size = MAX_IMPORT_BYTES // 8
        too_large = ImportBatch(key, [Record(key, randbytes(size)) for _ in range(9)], 9)
        with pytest.raises(MessageSizeTooLargeError):
            await import_log.append(too_large)
        await wait_until_all_partitions_accept(import_log)
        await import_log.append(build_import(good))
        counts = await count_records_by_job(settings)
        assert (counts[refused], counts[good]) == (0, RECORDS)


async def test_an_import_is_stored_compressed(settings: IngestSettings, broker: Broker) -> None:
    job = uuid4()
    key = str(job).encode()
    async with open_import_log(with_long_deadlines(settings)) as import_log:
        await import_log.append(
            ImportBatch(key, [Record(key, b"x" * 1500) for _ in range(ROWS)], ROWS)
        )
    topic = TopicNames(settings.topic_prefix)[TopicName.IMPORTS]
    (log,) = [
        log
        for log in (broker.kafka.nodes[0].directory / "data").glob(f"{topic}-*/*.log")
        if log.stat().st_size
    ]
    assert b"\x82SNAPPY" in log.read_bytes()
    assert log.stat().st_size < ROWS * 1500 / 2


async def test_invariant_1_a_frozen_broker_is_unknown_once_and_unavailable_after_that(
    settings: IngestSettings, broker: Broker
) -> None:
    """The first import was written to a connection, so the broker may append it when it resumes.

    The later imports were not written.
    """
    async with open_import_log(settings) as import_log:
        await wait_until_all_partitions_accept(import_log)
        sent, waiting, later = new_job_id_for(1), new_job_id_for(1), new_job_id_for(1)
        loop = asyncio.get_running_loop()
        broker.program.pause()
        try:
            started = loop.time()
            first, second = await asyncio.gather(
                import_log.append(build_import(sent)),
                import_log.append(build_import(waiting)),
                return_exceptions=True,
            )
            assert isinstance(first, AcceptanceUnknown)
            assert isinstance(second, BrokerUnavailable)
            assert not isinstance(second, AcceptanceUnknown)
            # Twice: a busy machine notices the deadline late. Without it, nothing would end
            assert loop.time() - started < 2 * settings.acceptance_deadline_seconds
            with pytest.raises(BrokerUnavailable) as error:
                await import_log.append(build_import(later))
            assert not isinstance(error.value, AcceptanceUnknown)
        finally:
            broker.program.resume()
        await wait_until_all_partitions_accept(import_log)
        counts = await count_records_by_job(settings)
        assert counts[sent] in {0, RECORDS}
        assert (counts[waiting], counts[later]) == (0, 0)


async def test_invariant_1_a_send_without_an_answer_is_unknown_and_never_partial(
    settings: IngestSettings, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_import_log(settings) as import_log:
        await wait_until_all_partitions_accept(import_log)
        mark_sent = appender_module.AppendProgress.mark_sent

        def freeze_then_mark_sent(progress: appender_module.AppendProgress) -> None:
            broker.program.pause()
            mark_sent(progress)

        monkeypatch.setattr(appender_module.AppendProgress, "mark_sent", freeze_then_mark_sent)
        unknown = uuid4()
        try:
            with pytest.raises(AcceptanceUnknown):
                await import_log.append(build_import(unknown))
        finally:
            monkeypatch.undo()
            broker.program.resume()
        await wait_until_all_partitions_accept(import_log)
        assert await count_records(settings, unknown) in {0, RECORDS}


@pytest.mark.slow
async def test_imports_are_accepted_again_after_a_broker_was_killed(
    settings: IngestSettings, broker: Broker
) -> None:
    async with open_import_log(settings) as import_log:
        await wait_until_all_partitions_accept(import_log)
        before, refused = new_job_id_for(4), new_job_id_for(4)
        await import_log.append(build_import(before))
        broker.program.kill()
        # Otherwise the import could be written to a dying connection
        await eventually(lambda: not list_connections(import_log))
        with pytest.raises(BrokerUnavailable) as error:
            await import_log.append(build_import(refused))
        assert not isinstance(error.value, AcceptanceUnknown)
        broker.program.start()
        await wait_until_all_partitions_accept(import_log)
        counts = await count_records_by_job(settings)
        assert (counts[before], counts[refused]) == (RECORDS, 0)


async def test_a_batch_whose_answer_was_lost_is_sent_again_without_duplicates(
    settings: IngestSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker recognizes the batch by producer id and sequence and answers with its offset."""
    async with open_import_log(with_long_deadlines(settings)) as import_log:
        job, after = new_job_id_for(5), new_job_id_for(5)
        client = import_log._appenders[5]
        await client.wait_until_connected()
        assert client._session is not None
        send = client._session.client.send
        lost: list[object] = []

        async def lose_the_first(node: int, request: object, **options: object) -> object:
            answer = await send(node, request, **options)
            if isinstance(request, ProduceRequest) and not lost:
                lost.append(answer)
                raise KafkaConnectionError("the answer was lost")
            return answer

        monkeypatch.setattr(client._session.client, "send", lose_the_first)
        assert await import_log.append(build_import(job)) is not None
        assert len(lost) == 1
        await import_log.append(build_import(after))
        counts = await count_records_by_job(settings)
        assert (counts[job], counts[after]) == (RECORDS, RECORDS)


async def test_a_producer_id_that_the_broker_has_forgotten_is_replaced(
    settings: IngestSettings,
) -> None:
    async with open_import_log(with_long_deadlines(settings)) as import_log:
        await import_log.append(build_import(new_job_id_for(0)))
        appender = import_log._appenders[0]
        assert appender._session is not None
        appender._session.next_sequence += 7  # as if the broker had lost earlier batches
        job = new_job_id_for(0)
        await import_log.append(build_import(job))
        assert await count_records(settings, job) == RECORDS


async def test_invariant_1_a_client_that_disconnects_leaves_nothing_or_one_whole_job(
    settings: IngestSettings,
) -> None:
    async with open_import_log(settings) as import_log:
        jobs = [uuid4() for _ in range(20)]
        for number, job in enumerate(jobs):
            appending = asyncio.create_task(import_log.append(build_import(job)))
            await asyncio.sleep(number / 2000)  # at different moments of the append
            appending.cancel()
            await asyncio.gather(appending, return_exceptions=True)
        await wait_until_all_partitions_accept(import_log)
        counts = await count_records_by_job(settings)
        assert {counts[job] for job in jobs} <= {0, RECORDS}


PRODUCER_SCRIPT = """
import asyncio, sys
from uuid import uuid4
from services.ingest.config import IngestSettings
from tests.support.import_log import open_import_log, build_import

async def main():
    settings = IngestSettings(
        kafka_bootstrap_servers=sys.argv[1],
        topic_prefix=sys.argv[2],
        broker_deadline_seconds=25,
        acceptance_deadline_seconds=30,
    )
    async with open_import_log(settings) as import_log:
        print("ready", flush=True)
        while True:
            await asyncio.gather(*(import_log.append(build_import(uuid4())) for _ in range(8)))

asyncio.run(main())
"""


async def test_a_killed_producer_delays_neither_readers_nor_its_successor(
    settings: IngestSettings,
) -> None:
    """With transactions, readers waited up to 12 s for its open transaction."""
    producer = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PRODUCER_SCRIPT,
        settings.kafka_bootstrap_servers,
        settings.topic_prefix,
        stdout=asyncio.subprocess.PIPE,
    )
    assert producer.stdout is not None
    assert await asyncio.wait_for(producer.stdout.readline(), 30) == b"ready\n"
    await eventually(lambda: count_records_by_job(settings), seconds=20)
    producer.kill()
    await producer.wait()
    # Less than a transaction would delay it, and enough for a busy machine to connect
    deadlines = {"broker_deadline_seconds": 8, "acceptance_deadline_seconds": 9}
    async with open_import_log(settings.model_copy(update=deadlines)) as successor:
        jobs = [new_job_id_for(partition) for partition in range(6)]
        for job in jobs:
            await successor.append(build_import(job))
        counts = await count_records_by_job(settings)
    assert {counts[job] for job in jobs} == {RECORDS}
    assert set(counts.values()) == {RECORDS}


async def test_invariant_9_a_connection_that_died_is_replaced_before_the_next_import(
    settings: IngestSettings,
) -> None:
    async with open_import_log(with_long_deadlines(settings)) as import_log:
        await wait_until_all_partitions_accept(import_log)
        appender, job = import_log._appenders[2], new_job_id_for(2)
        assert appender._session is not None
        dead = appender._session.client
        await kill_metadata_task(dead)
        await import_log.append(build_import(job))
        assert await count_records(settings, job) == RECORDS
        assert appender._session.client is not dead


async def test_imports_past_their_deadline_are_refused_and_replace_no_connection(
    settings: IngestSettings,
) -> None:
    async with open_import_log(settings) as import_log:
        await wait_until_all_partitions_accept(import_log)
        sessions = [appender._session for appender in import_log._appenders.values()]
        long_ago = asyncio.get_running_loop().time() - 60
        for _ in range(4):
            with pytest.raises(BrokerUnavailable):
                await import_log.append(build_import(uuid4()), long_ago)
        assert [appender._session for appender in import_log._appenders.values()] == sessions


async def test_no_import_begins_after_a_stop(settings: IngestSettings) -> None:
    import_log = KafkaImportLog(settings)
    await import_log.start()
    await import_log.stop()
    with pytest.raises(ProcessNotConnected):
        await import_log.append(build_import(uuid4()))


async def test_before_its_start_the_import_log_says_that_it_is_not_connected(
    settings: IngestSettings,
) -> None:
    with pytest.raises(ProcessNotConnected):
        await KafkaImportLog(settings).append(build_import(uuid4()))


@pytest.mark.slow
async def test_during_an_outage_the_import_log_reports_a_problem_and_leaves_no_task_running(
    settings: IngestSettings, broker: Broker
) -> None:
    before = asyncio.all_tasks()
    broker.program.kill()
    import_log = KafkaImportLog(settings)
    starting = asyncio.create_task(import_log.start())
    await eventually(lambda: import_log._appenders)
    assert import_log.problem()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await import_log.stop()
    assert not asyncio.all_tasks() - before
    broker.program.start()
    await eventually(broker.kafka.is_ready, seconds=60)


@pytest.mark.slow
async def test_ten_concurrent_imports_of_the_largest_size_are_read_completely(
    settings: IngestSettings,
) -> None:
    async with open_import_log(with_long_deadlines(settings)) as import_log:
        jobs = [uuid4() for _ in range(10)]
        row_bytes = MAX_IMPORT_BYTES // 501 - 400
        await asyncio.gather(
            *(import_log.append(build_import(job, rows=500, row_bytes=row_bytes)) for job in jobs)
        )
        assert await count_records_by_job(settings) == dict.fromkeys(jobs, 501)
