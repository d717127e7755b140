"""python -m tests.tools.bench.peers.celery_web TASK: writes the job to Postgres and its rows to
Redis, then answers 202.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from shared.postgres.database import Database
from tests.tools.bench.peers.celery_app import SETTLE_IMPORT_TASK, create_celery
from tests.tools.bench.peers.runtime import PeerSettings, serve
from tests.tools.bench.peers.web import AcceptImport, Job, OpenIntake, create_app, insert_job


def build_intake_opener(task: str) -> OpenIntake:
    """Returns a context manager that yields a function to enqueue an import's tasks."""

    @asynccontextmanager
    async def open_intake(
        settings: PeerSettings, database: Database
    ) -> AsyncIterator[AcceptImport]:
        celery = create_celery(settings, task)

        async def enqueue(job: Job) -> None:
            async with database.pipeline() as driver:
                await insert_job(driver, job)
            await asyncio.to_thread(_send_tasks, celery, task, job)

        yield enqueue
        celery.close()

    return open_intake


def _send_tasks(celery: Any, task: str, job: Job) -> None:
    queued_rows = job.rows.to_queued()
    task_contents = [queued_rows] if task == SETTLE_IMPORT_TASK else queued_rows
    with celery.producer_pool.acquire(block=True) as producer:
        for task_content in task_contents:
            celery.tasks[task].apply_async(
                (job.id, job.workspace_id, job.accepted_at.isoformat(), task_content),
                producer=producer,
            )


if __name__ == "__main__":
    (name,) = sys.argv[1:]
    settings = PeerSettings()
    serve(create_app(settings, build_intake_opener(name)), settings)
