"""python -m tests.tools.bench.peers.celery_web TASK: the job goes to Postgres, its rows to Redis;
then 202.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from shared.postgres.database import Database
from tests.tools.bench.peers.celery_app import SETTLE_IMPORT_TASK, create_celery
from tests.tools.bench.peers.process import PeerSettings, serve
from tests.tools.bench.peers.web import Intake, Job, Open, create_app, insert_job


def opener(task: str) -> Open:
    @asynccontextmanager
    async def open_intake(settings: PeerSettings, database: Database) -> AsyncIterator[Intake]:
        celery = create_celery(settings, task)

        async def enqueue(job: Job) -> None:
            async with database.pipeline() as driver:
                await insert_job(driver, job)
            await asyncio.to_thread(_publish, celery, task, job)

        yield enqueue
        celery.close()

    return open_intake


def _publish(celery: Any, task: str, job: Job) -> None:
    content = job.rows.sent()
    portions = [content] if task == SETTLE_IMPORT_TASK else content
    with celery.producer_pool.acquire(block=True) as producer:
        for portion in portions:
            celery.tasks[task].apply_async(
                (job.id, job.workspace_id, job.accepted_at.isoformat(), portion), producer=producer
            )


if __name__ == "__main__":
    (name,) = sys.argv[1:]
    settings = PeerSettings()
    serve(create_app(settings, opener(name)), settings)
