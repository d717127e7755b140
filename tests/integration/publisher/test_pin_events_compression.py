"""PINFLOW_PIN_EVENTS_COMPRESSION, on the topics of a running publisher."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from pydantic import ValidationError

from services.publisher.app import create_app
from services.publisher.config import PublisherSettings
from services.publisher.ids import compute_pin_id
from shared.contract.events import RowAccepted
from shared.contract.topics import TopicName, TopicNames
from shared.contract.wire import encode
from shared.kafka.producer import RecordProducer
from shared.kafka.records import SNAPPY_CODEC, Record
from tests.integration.conftest import Workspace
from tests.support.factories import row_accepted, submitted_row
from tests.support.infrastructure import fresh_topics
from tests.support.kafka import read_records
from tests.support.raw_batches import read_batches
from tests.support.record_batches import NO_CODEC
from tests.support.services import running_app
from tests.support.waiting import eventually

CODECS = {"snappy": SNAPPY_CODEC, "none": NO_CODEC}


@pytest_asyncio.fixture(params=CODECS)
async def settings(
    request: pytest.FixtureRequest, kafka: str, database_url: str
) -> AsyncIterator[PublisherSettings]:
    """The publisher's settings with each compression, and topics of its own."""
    topics = fresh_topics(kafka)
    prefix = await asyncio.to_thread(topics.__enter__)
    yield PublisherSettings(
        kafka_bootstrap_servers=kafka,
        topic_prefix=prefix,
        database_url=database_url,
        schedule_interval_seconds=0.1,
        pin_events_compression=request.param,
    )
    await asyncio.to_thread(topics.__exit__, None, None, None)


async def deliver(settings: PublisherSettings, row: RowAccepted) -> None:
    producer = RecordProducer(settings, client_id="test")
    await producer.start()
    topic = TopicNames(settings.topic_prefix)[TopicName.IMPORTS]
    await producer.send(topic, [Record(str(row.job_id).encode(), encode(row))])
    await producer.stop()


async def test_invariant_4_events_have_the_codec_of_the_setting_and_repeat_their_ids(
    settings: PublisherSettings, workspace: Workspace
) -> None:
    """Covers a row, its redelivery, and a pin from the outbox. Outcomes are always compressed."""
    kafka, names = settings.kafka_bootstrap_servers, TopicNames(settings.topic_prefix)

    async def read_ids(count: int) -> list[str] | None:
        records = await read_records(kafka, settings.topic_prefix, TopicName.PIN_EVENTS)
        ids = [dict(record.headers)["ce_id"].decode() for record in records]
        return ids if len(ids) == count else None

    row = row_accepted(workspace_id=workspace.id, account_id=str(workspace.account_id))
    first = f"{compute_pin_id(workspace.id, row.row.idempotency_key)}:published"
    async with running_app(create_app(settings)) as http:
        await deliver(settings, row)
        assert await eventually(lambda: read_ids(1), every=0.1) == [first]
        await deliver(settings, row)
        assert await eventually(lambda: read_ids(2), every=0.1) == [first] * 2
        pin = submitted_row(account_id=str(workspace.account_id))
        answer = await http.post("/v1/pins", json=pin, headers=workspace.headers)
        assert answer.status_code == 201
        ids = await eventually(lambda: read_ids(3), every=0.1)
        assert f"{answer.json()['id']}:published" in ids
    events = await read_batches(kafka, names[TopicName.PIN_EVENTS])
    outcomes = await read_batches(kafka, names[TopicName.OUTCOMES])
    assert [batch.codec for batch in events] == [CODECS[settings.pin_events_compression]] * 3
    assert {batch.codec for batch in outcomes} == {SNAPPY_CODEC}


def test_another_codec_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PINFLOW_PIN_EVENTS_COMPRESSION", "zstd")
    with pytest.raises(ValidationError, match="pin_events_compression"):
        PublisherSettings()
