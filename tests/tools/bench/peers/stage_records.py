"""Builds the same rows for both engines of the publisher's stage, each in its own form."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import orjson
from aiokafka import AIOKafkaProducer

from services.ingest.ids import new_job_id
from services.ingest.model import Import
from services.ingest.parsing.rows import require_rows
from services.ingest.records import build_batch
from shared.contract.events import SourceType
from shared.contract.strict_json import parse_json
from shared.contract.topics import MAX_RECORD_BYTES, TopicName, TopicNames
from shared.kafka.producer import append_records, count_partitions
from shared.kafka.records import MAX_BATCH_BYTES, Record
from shared.runtime.settings import KafkaSettings
from tests.support.imports import validate
from tests.tools.bench.peers import connect_sink, rows

RecordBuilder = Callable[[UUID, bytes], Sequence[Record]]
"""Builds the records of an import from its workspace and body."""


def build_row_events(workspace_id: UUID, body: bytes) -> Sequence[Record]:
    """Builds row events as ingest writes them."""
    now = datetime.now(UTC)
    parsed = validate(require_rows(parse_json(body)))
    batch = build_batch(Import(new_job_id(now), workspace_id, now, SourceType.JSON, None, parsed))
    return batch.records[-batch.row_count :]


def build_flat_rows(workspace_id: UUID, body: bytes) -> Sequence[Record]:
    """Builds one flat record per table row, with its computed id and without nulls.

    Connect can neither compute nor nest.
    """
    return list(_generate_flat_rows(workspace_id, body))


def _generate_flat_rows(workspace_id: UUID, body: bytes) -> Iterator[Record]:
    now = datetime.now(UTC)
    names = [name for name, _ in connect_sink.FIELDS]
    for values in rows.build_values(
        workspace_id, new_job_id(now), now, rows.parse(body).to_queued()
    ):
        fields = zip(names, (*values, "published", now), strict=True)
        yield Record(
            None, orjson.dumps({name: value for name, value in fields if value is not None})
        )


async def produce(settings: KafkaSettings, imports: Iterable[Sequence[Record]]) -> None:
    """Sends each import to one partition, in rotation, with the same compression as ingest."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        acks="all",
        compression_type="snappy",
        max_batch_size=MAX_BATCH_BYTES,
        max_request_size=MAX_RECORD_BYTES,
    )
    topic = TopicNames(settings.topic_prefix)[TopicName.IMPORTS]
    async with producer:
        partitions = await count_partitions(producer, topic)
        for number, records in enumerate(imports):
            await asyncio.gather(
                *await append_records(producer, topic, number % partitions, records)
            )
