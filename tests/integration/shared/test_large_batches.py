"""The largest import is one batch. It exceeds the consumers' fetch size, and is still read."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from services.ingest.appender import AppendProgress, PartitionAppender
from shared.contract.events import MAX_ROWS, RecordKind
from shared.contract.import_limits import MAX_IMPORT_BYTES, MEBIBYTE
from shared.contract.import_records import (
    is_for_publisher,
    is_for_status,
    is_whole_import,
    kind_prefix,
)
from shared.contract.topics import TOPICS, TopicName, TopicNames
from shared.contract.wire import encode
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record
from shared.kafka.subscription import RecordFilter
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import Handler, consuming
from tests.support.factories import import_accepted
from tests.support.waiting import eventually

RECORDS = MAX_ROWS + 2
FRAMING = 64
"""The maximum number of bytes in a record besides its value."""


def largest_import(payload: Callable[[int], bytes]) -> list[Record]:
    """Builds an import of the maximum uncompressed size: the import, an upload and 500 rows."""
    accepted = encode(import_accepted(batch_records=RECORDS))
    size = (MAX_IMPORT_BYTES - len(accepted)) // (RECORDS - 1) - FRAMING
    kinds = [RecordKind.UPLOAD, *[RecordKind.ROW] * MAX_ROWS]
    begins = [kind_prefix(kind) + b',"number":%03d,' % number for number, kind in enumerate(kinds)]
    values = [accepted, *(begin + payload(size - len(begin)) for begin in begins)]
    assert MAX_IMPORT_BYTES - 2 * FRAMING * RECORDS < sum(map(len, values)) < MAX_IMPORT_BYTES
    return [Record(b"job", value) for value in values]


@asynccontextmanager
async def appending(settings: ServiceSettings, partition: int) -> AsyncIterator[PartitionAppender]:
    topic = TopicNames(settings.topic_prefix)[TopicName.IMPORTS]
    appender = PartitionAppender(
        settings,
        topic=topic,
        partition=partition,
        client_id="test-large",
        max_bytes=MAX_IMPORT_BYTES,
    )
    appender.connect()
    try:
        await appender.wait_until_connected()
        yield appender
    finally:
        await appender.stop()


@pytest.mark.parametrize(
    "payload",
    [random.Random(15).randbytes, partial(bytes.__mul__, b"x")],
    ids=["incompressible", "compressible"],
)
async def test_both_readers_read_the_largest_imports_completely_and_the_records_after_them(
    settings: ServiceSettings,
    producer: RecordProducer,
    payload: Callable[[int], bytes],
    request: pytest.FixtureRequest,
) -> None:
    (topic,) = (topic for topic in TOPICS if topic.name is TopicName.IMPORTS)
    assert topic.fetch_bytes == MEBIBYTE
    name = TopicNames(settings.topic_prefix)[TopicName.IMPORTS]
    mark = request.node.callspec.id.encode()
    largest = largest_import(payload)
    small = [
        Record(b"job", kind_prefix(kind) + mark) for kind in (RecordKind.ROW, RecordKind.RESULTS)
    ]
    async with appending(settings, 0) as first, appending(settings, 1) as second:
        # In two partitions at once, because an answer contains at most one batch that is too large
        await asyncio.gather(
            first.append(largest, AppendProgress()), second.append(largest, AppendProgress())
        )
        await asyncio.gather(
            first.append(largest, AppendProgress()), first.append(small, AppendProgress())
        )
    rows, jobs = Handler(), Handler()
    publisher = RecordFilter(name, is_for_publisher)
    status = RecordFilter(name, is_for_status, is_whole_import)
    imports, group = [TopicName.IMPORTS], mark.decode()
    async with (
        consuming(
            settings,
            producer,
            rows,
            name=f"rows-{group}",
            topics=imports,
            record_filter=publisher,
        ),
        consuming(
            settings,
            producer,
            jobs,
            name=f"jobs-{group}",
            topics=imports,
            record_filter=status,
        ),
    ):
        row, result = (record.value for record in small)
        await eventually(lambda: row in rows.done and result in jobs.done, seconds=60)
        sent = [record.value for record in largest]
        sent_values = set(sent)
        # The last record of each import: a batch may end within an import
        await eventually(lambda: rows.done.count(sent[-1]) == 3 and jobs.done.count(sent[1]) == 3)
    assert [value for value in rows.done if value in sent_values] == sent[2:] * 3
    assert [value for value in jobs.done if value in sent_values] == sent[:2] * 3
