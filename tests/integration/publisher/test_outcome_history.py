"""The publisher records outcomes from the real topic in the real Postgres."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from msgspec.structs import replace
from pydantic import SecretStr

from services.publisher.rows import outcome_history
from services.publisher.rows.outcome_history import OutcomeHistory
from services.publisher.rows.positions_header import POSITIONS_HEADER, encode_positions
from services.publisher.rows.repository import RowRepository
from shared.contract.errors import PositionBehind
from shared.contract.events import (
    ExistingState,
    FieldDifference,
    RowResult,
    RowsSettled,
    RowStatus,
)
from shared.contract.schedule_ids import derive_schedule_id
from shared.contract.topics import TopicName, TopicNames
from shared.contract.wire import encode
from shared.kafka.admin import read_cluster_id
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record
from shared.postgres.database import Database
from shared.runtime.settings import ServiceSettings
from tests.support.infrastructure import fresh_topics

PIN, SCHEDULED = uuid4(), uuid4()
CREATED = RowResult(row_number=1, status=RowStatus.CREATED, idempotency_key="a", pin_id=PIN)
PLANNED = RowResult(
    row_number=2,
    status=RowStatus.CREATED,
    idempotency_key="b",
    schedule_id=derive_schedule_id(SCHEDULED),
)
EXISTING = RowResult(
    row_number=3,
    status=RowStatus.EXISTING,
    idempotency_key="a",
    pin_id=PIN,
    payload_matches=False,
    existing_state=ExistingState.FAILED,
    differing_fields=[FieldDifference(field="title", stored="a\0b", sent=None)],
)
DIFFERING = '[{"field":"title","stored":"a\\u0000b","sent":null}]'
FAILED = RowResult(
    row_number=4, status=RowStatus.FAILED, error_code="board_not_found", error_message="no board"
)


@pytest.fixture
def _no_position_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allows the position to move to the topic's end at once, instead of a minute later."""
    monkeypatch.setattr(outcome_history, "POSITION_LAG_SECONDS", 0)


@pytest.fixture
def settings(kafka: str, database_url: str) -> Any:
    with fresh_topics(kafka) as prefix:
        yield ServiceSettings(
            kafka_bootstrap_servers=kafka, topic_prefix=prefix, database_url=SecretStr(database_url)
        )


class Records:
    """Sends outcomes like a publisher. `end_offset` is the end of its batch in partition 0."""

    def __init__(self, settings: ServiceSettings, producer: RecordProducer) -> None:
        self._topic = TopicNames(settings.topic_prefix)[TopicName.OUTCOMES]
        self._producer = producer

    async def send(self, *results: RowResult, end_offset: int | None) -> UUID:
        job_id = uuid4()
        event = RowsSettled(job_id=job_id, workspace_id=uuid4(), results=list(results))
        headers = (
            [] if end_offset is None else [(POSITIONS_HEADER, encode_positions({0: end_offset}))]
        )
        record = Record(str(job_id).encode(), encode(event), headers)
        await self._producer.send(self._topic, [record])
        return job_id


@pytest_asyncio.fixture(loop_scope="module")
async def records(settings: ServiceSettings) -> AsyncIterator[Records]:
    producer = RecordProducer(settings, client_id="test-history")
    await producer.start()
    yield Records(settings, producer)
    await producer.stop()


@pytest.fixture
def store(database: Database, database_url: str) -> RowRepository:
    execute(database_url, "truncate publisher.positions, publisher.row_outcomes")
    return RowRepository(database)


@pytest_asyncio.fixture(loop_scope="module")
async def history(settings: ServiceSettings, store: RowRepository) -> AsyncIterator[OutcomeHistory]:
    names = TopicNames(settings.topic_prefix)
    imports = {TopicPartition(names[TopicName.IMPORTS], number): 0 for number in range(6)}
    await store.positions.add(
        {**imports, find_first_partition(settings): 50}, await read_cluster_id(settings)
    )
    history = OutcomeHistory(store, settings, names)
    yield history
    await history.close()


def find_first_partition(settings: ServiceSettings) -> TopicPartition:
    return TopicPartition(TopicNames(settings.topic_prefix)[TopicName.IMPORTS], 0)


def execute(database_url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        cursor = connection.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def select_recorded(database_url: str, *jobs: UUID) -> list[tuple[Any, ...]]:
    query = """
        select row_number, status, pin_id, schedule_id, payload_matches, error_code,
            promised_pin_id, existing_state, differing_fields
        from publisher.row_outcomes where job_id = any(%s) order by 1
    """
    return execute(database_url, query, list(jobs))


async def count_read_records(store: RowRepository, settings: ServiceSettings) -> int:
    """Counts the records of the topic before the publisher's position."""
    topic = TopicNames(settings.topic_prefix)[TopicName.OUTCOMES]
    stored = await store.positions.load()
    return sum(
        position.next_offset for partition, position in stored.items() if partition.topic == topic
    )


async def test_invariant_4_outcomes_of_rows_after_the_positions_are_recorded_completely(
    history: OutcomeHistory,
    records: Records,
    store: RowRepository,
    settings: ServiceSettings,
    database_url: str,
) -> None:
    job = await records.send(CREATED, PLANNED, EXISTING, FAILED, end_offset=60)
    await history.catch_up()
    assert select_recorded(database_url, job) == [
        (1, "created", PIN, None, None, None, PIN, None, None),
        (2, "created", None, derive_schedule_id(SCHEDULED), None, None, SCHEDULED, None, None),
        (3, "existing", PIN, None, False, None, None, "failed", DIFFERING),
        (4, "failed", None, None, None, "board_not_found", None, None, None),
    ]
    assert await count_read_records(store, settings) == 1


async def test_outcomes_of_rows_before_the_positions_are_skipped(
    history: OutcomeHistory, records: Records, database_url: str
) -> None:
    settled = await records.send(CREATED, end_offset=50)
    lost = await records.send(FAILED, end_offset=51)
    unknown = await records.send(FAILED, end_offset=None)
    await history.catch_up()
    assert select_recorded(database_url, settled) == []
    assert (
        len(select_recorded(database_url, lost)) == len(select_recorded(database_url, unknown)) == 1
    )


async def test_the_first_outcome_of_a_row_counts(
    history: OutcomeHistory, records: Records, database_url: str, settings: ServiceSettings
) -> None:
    job = await records.send(EXISTING, replace(EXISTING, payload_matches=True), end_offset=60)
    await history.catch_up()
    (recorded,) = select_recorded(database_url, job)
    assert recorded[:5] == (3, "existing", PIN, None, False)


@pytest.mark.usefixtures("_no_position_lag")
async def test_normally_the_position_moves_and_nothing_is_read(
    history: OutcomeHistory,
    records: Records,
    store: RowRepository,
    settings: ServiceSettings,
    database_url: str,
) -> None:
    await history.catch_up()
    jobs = [await records.send(CREATED, end_offset=60 + number) for number in range(10)]
    await history.run_periodic_work()
    assert await count_read_records(store, settings) == 10
    await history.catch_up()
    assert select_recorded(database_url, *jobs) == []


@pytest.mark.usefixtures("_no_position_lag")
async def test_an_older_position_is_noticed_and_later_outcomes_are_recorded(
    history: OutcomeHistory,
    records: Records,
    store: RowRepository,
    settings: ServiceSettings,
    database_url: str,
) -> None:
    await history.catch_up()
    jobs = [await records.send(CREATED, end_offset=60) for _ in range(10)]
    await history.run_periodic_work()
    topic = TopicNames(settings.topic_prefix)[TopicName.OUTCOMES]
    execute(database_url, "update publisher.positions set next_offset = 0 where topic = %s", topic)
    await records.send(CREATED, end_offset=60)
    with pytest.raises(PositionBehind):
        await move_until_noticed(history, records)
    await history.catch_up()
    assert len(select_recorded(database_url, *jobs)) == 10


async def move_until_noticed(history: OutcomeHistory, records: Records) -> None:
    """Sends outcomes and moves the position, often enough to reach every partition."""
    for _ in range(50):
        await records.send(CREATED, end_offset=60)
        await history.run_periodic_work()


@pytest.mark.parametrize("change", ["next_offset = 10000", "cluster_id = 'another'"])
async def test_with_a_position_of_another_log_the_whole_topic_is_read(
    history: OutcomeHistory,
    records: Records,
    settings: ServiceSettings,
    database_url: str,
    change: str,
) -> None:
    """Recording an outcome again is harmless, but missing one is not."""
    job = await records.send(CREATED, end_offset=60)
    await history.catch_up()
    execute(database_url, "truncate publisher.row_outcomes")
    topic = TopicNames(settings.topic_prefix)[TopicName.OUTCOMES]
    execute(database_url, f"update publisher.positions set {change} where topic = %s", topic)
    await history.catch_up()
    assert len(select_recorded(database_url, job)) == 1


async def test_many_outcomes_are_recorded_in_several_transactions(
    history: OutcomeHistory,
    records: Records,
    store: RowRepository,
    settings: ServiceSettings,
    database_url: str,
) -> None:
    jobs: Sequence[UUID] = [await records.send(CREATED, FAILED, end_offset=60) for _ in range(700)]
    await history.catch_up()
    assert len(select_recorded(database_url, *jobs)) == 1400
    assert await count_read_records(store, settings) == 700
    (statistics,) = execute(
        database_url, "select reltuples from pg_class where relname = 'row_outcomes'"
    )
    assert statistics == (1400,), "without statistics each batch would scan the whole table"


async def test_an_unreadable_record_is_skipped(
    history: OutcomeHistory, records: Records, database_url: str, settings: ServiceSettings
) -> None:
    producer = RecordProducer(settings, client_id="test-broken")
    await producer.start()
    names = TopicNames(settings.topic_prefix)
    broken = [Record(b"k", b"broken", [(POSITIONS_HEADER, b"nonsense")]), Record(b"k", b"{}", [])]
    await producer.send(names[TopicName.OUTCOMES], broken)
    await producer.stop()
    job = await records.send(CREATED, end_offset=60)
    await history.catch_up()
    assert len(select_recorded(database_url, job)) == 1


async def test_outcomes_that_arrive_after_another_member_has_read_are_not_skipped(
    history: OutcomeHistory, records: Records, database_url: str
) -> None:
    """A batch that was stored in a lost Postgres may send its outcomes late."""
    await history.catch_up()
    late = await records.send(CREATED, end_offset=60)
    for _ in range(3):
        await history.run_periodic_work()
    await history.catch_up()
    assert len(select_recorded(database_url, late)) == 1


async def test_a_position_that_is_moved_concurrently_is_accepted(
    history: OutcomeHistory, records: Records, store: RowRepository, settings: ServiceSettings
) -> None:
    await records.send(CREATED, end_offset=60)
    await history.catch_up()
    before = await store.positions.load()
    await asyncio.gather(
        *(history.catch_up() for _ in range(3)), *(history.run_periodic_work() for _ in range(3))
    )
    assert await store.positions.load() == before


async def test_results_that_postgres_would_reject_do_not_stop_the_reading(
    history: OutcomeHistory, records: Records, database_url: str
) -> None:
    """Pinflow never writes such results, but another producer may."""
    nameless = RowResult(row_number=5, status=RowStatus.EXISTING)
    unprintable = replace(FAILED, error_message="a\0b", error_code=None)
    job = await records.send(CREATED, nameless, unprintable, end_offset=60)
    await history.catch_up()
    assert [(row[0], row[1], row[5]) for row in select_recorded(database_url, job)] == [
        (1, "created", None),
        (4, "failed", ""),
    ]


async def test_invariant_3_a_new_connection_is_confirmed_only_if_postgres_is_the_same(
    history: OutcomeHistory, store: RowRepository, settings: ServiceSettings, database_url: str
) -> None:
    with pytest.raises(PositionBehind):
        await history.require_current_database(time.monotonic())  # the topic was not read yet
    await history.catch_up()
    await history.require_current_database(time.monotonic())
    topic = TopicNames(settings.topic_prefix)[TopicName.OUTCOMES]
    execute(database_url, "delete from publisher.positions where topic = %s", topic)
    with pytest.raises(PositionBehind):
        await history.require_current_database(time.monotonic())
