"""python -m tests.tools.bench.peers.faststream_worker: settles one message per row.

It follows FastStream's examples and acknowledges a message when it is done.
"""

import logging

import uvloop
from fast_depends.msgspec import MsgSpecSerializer
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker

from shared.contract.events import RowAccepted
from shared.contract.topics import TopicName, TopicNames
from shared.postgres.arrays import to_columns
from shared.postgres.database import Database
from shared.runtime.process import configure_gc
from tests.tools.bench.peers import rows
from tests.tools.bench.peers.runtime import PeerSettings
from tests.tools.bench.peers.store import COLUMNS, SETTLE_ROW

MAX_WORKERS = 6
"""Concurrent handlers: one for each of the topic's six partitions, in order within a partition.

This is FastStream's own way to process several messages without losing any.
"""


def create_worker(settings: PeerSettings) -> FastStream:
    database = Database.from_settings(settings, application="peer-worker")
    broker = KafkaBroker(
        settings.kafka_bootstrap_servers, logger=None, serializer=MsgSpecSerializer()
    )

    @broker.subscriber(
        TopicNames(settings.topic_prefix)[TopicName.IMPORTS],
        group_id="peer",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
        max_workers=MAX_WORKERS,
    )
    async def settle(event: RowAccepted) -> None:
        content = (event.row_number, *(getattr(event.row, name) for name in rows.CONTENT))
        column_values = rows.build_values(
            event.workspace_id, event.job_id, event.accepted_at, [content]
        )
        async with database.pipeline() as driver:
            await driver.execute(SETTLE_ROW, to_columns(COLUMNS, column_values), binary=True)

    return FastStream(broker, on_shutdown=[database.dispose])


if __name__ == "__main__":
    worker = create_worker(PeerSettings())
    configure_gc()
    uvloop.run(worker.run(log_level=logging.WARNING))
