"""python -m tests.tools.bench.peers.equal_work.relay: sends the outbox's events to Kafka.

An event leaves the outbox after Kafka has acknowledged it. A killed relay sends its last events
again under the same ids.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

import structlog
import uvloop

from services.publisher.config import PublisherSettings
from shared.contract.errors import Unavailable
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.producer import SEND_TIMEOUT_SECONDS, RecordProducer
from shared.kafka.records import Record
from shared.postgres.arrays import Column
from shared.postgres.database import Database, driver_connection
from shared.runtime.process import configure_gc
from tests.tools.bench.peers.equal_work.events import build_records
from tests.tools.bench.peers.equal_work.tables import DELETE_OUTBOX, TAKE_OUTBOX
from tests.tools.bench.peers.runtime import PeerSettings

MAX_IMPORTS = 20
"""Imports in one transaction: at most 10 000 events, 6 MB."""
PAUSE_SECONDS = 0.05
"""Pause after a transaction that emptied the outbox. Without it, each import under load would pay
for a transaction of its own.
"""
RETRY_SECONDS = 0.5

log = structlog.get_logger()


class Relay:
    def __init__(self, settings: PeerSettings) -> None:
        self._names = TopicNames(settings.topic_prefix)
        self._database = Database.from_settings(settings, application="peer-relay")
        self._producer = RecordProducer(
            settings,
            client_id="peer-relay",
            compressed_topics=[self._names[name] for name in PublisherSettings().compressed_topics],
        )

    async def run(self) -> None:
        """Sends events until it is canceled. Waits and retries while a server is down."""
        while True:
            try:
                pause = 0.0 if await self.send_waiting() == MAX_IMPORTS else PAUSE_SECONDS
            except Unavailable as error:
                log.warning("relay_waits", error=str(error))
                pause = RETRY_SECONDS
            await asyncio.sleep(pause)

    async def send_waiting(self) -> int:
        """Sends the oldest imports' events. Returns the number of imports."""
        async with self._database.transaction(
            extra_timeout_seconds=SEND_TIMEOUT_SECONDS
        ) as connection:
            driver = await driver_connection(connection)
            cursor = await driver.execute(TAKE_OUTBOX, (MAX_IMPORTS,), binary=True)
            waiting = await cursor.fetchall()
            if waiting:
                await self._send([(workspace_id, packed) for _, workspace_id, packed in waiting])
                ids = Column("int8", [number for number, _, _ in waiting])
                await driver.execute(DELETE_OUTBOX, (ids,), binary=True)
        return len(waiting)

    async def _send(self, packed_imports: Sequence[tuple[UUID, bytes]]) -> None:
        by_topic: dict[TopicName, list[Record]] = defaultdict(list)
        for workspace_id, packed in packed_imports:
            for topic, record in build_records(workspace_id, packed):
                by_topic[topic].append(record)
        await asyncio.gather(
            *(
                self._producer.send(self._names[topic], records)
                for topic, records in by_topic.items()
            )
        )


if __name__ == "__main__":
    configure_gc()
    uvloop.run(Relay(PeerSettings()).run())
