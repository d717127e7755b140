"""python -m tests.tools.bench.peers.faststream_web: writes the job to Postgres and a Kafka message
per row, then answers 202.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fast_depends.msgspec import MsgSpecSerializer
from faststream.kafka import KafkaBroker

from shared.contract.events import RowAccepted
from shared.contract.topics import TopicName, TopicNames
from shared.postgres.database import Database
from tests.tools.bench.peers.runtime import PeerSettings, serve
from tests.tools.bench.peers.web import AcceptImport, Job, create_app, insert_job


@asynccontextmanager
async def open_intake(settings: PeerSettings, database: Database) -> AsyncIterator[AcceptImport]:
    topic = TopicNames(settings.topic_prefix)[TopicName.IMPORTS]
    async with KafkaBroker(
        settings.kafka_bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        max_batch_size=900 * 1024,
        serializer=MsgSpecSerializer(),  # the events are msgspec's structs
    ) as broker:

        async def publish(job: Job) -> None:
            async with database.pipeline() as driver:
                await insert_job(driver, job)
            await broker.publish_batch(*_build_messages(job), topic=topic)

        yield publish


def _build_messages(job: Job) -> list[RowAccepted]:
    """Builds the messages without a second validation.

    The job's id replaces the content's fingerprint, which no peer computes.
    """
    return [
        RowAccepted(
            kind="r",
            job_id=job.id,
            workspace_id=job.workspace_id,
            accepted_at=job.accepted_at,
            fingerprint=job.id,
            row_number=number,
            row=pin.to_content(),
        )
        for number, pin in job.rows.valid
    ]


if __name__ == "__main__":
    settings = PeerSettings()
    serve(create_app(settings, open_intake), settings)
