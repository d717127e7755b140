"""python -m tests.tools.bench.peers.equal_work.celery_web: queues an import, then answers 202.

After its Idempotency-Key is claimed, the import is kept in Redis, then its task is sent, then its
job is written. If the process is killed in between, the import is settled nevertheless, and the
worker creates the job. The reverse order would leave a job that never ends.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any
from uuid import UUID

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from shared.contract.errors import BrokerUnavailable
from shared.postgres.database import Database
from tests.tools.bench.peers.equal_work.celery_app import TASK, build_content, create_celery
from tests.tools.bench.peers.equal_work.kept_imports import KeptImports
from tests.tools.bench.peers.equal_work.outcomes import Import
from tests.tools.bench.peers.equal_work.settlement import ImportKey, claim, open_job
from tests.tools.bench.peers.equal_work.web import Acceptance, AcceptImport, create_app, read_claim
from tests.tools.bench.peers.runtime import PeerSettings, serve

OVERDUE_CHECK_SECONDS = 1.0

log = structlog.get_logger()


@asynccontextmanager
async def open_intake(settings: PeerSettings, database: Database) -> AsyncIterator[AcceptImport]:
    celery, kept = create_celery(settings), KeptImports(settings.redis_url)

    async def accept(import_: Import, key: ImportKey | None) -> Acceptance:
        if key is not None and not await _claim(database, import_, key):
            earlier = await read_claim(database, import_, key)
            if replayed := earlier.replay():
                return replayed
            # Its request may have ended before it queued the import. Queueing it twice is harmless
            import_ = import_._replace(job_id=earlier.job_id)
        try:
            await asyncio.to_thread(_keep_and_send, kept, celery, import_)
        except RedisError as error:
            raise BrokerUnavailable(f"Redis does not answer: {error}") from error
        statement = open_job(import_)
        async with database.pipeline() as driver:
            await driver.execute(statement.sql.encode(), statement.parameters, binary=True)
        return Acceptance(import_.job_id, import_.total, len(import_.failures))

    sender = asyncio.create_task(_send_overdue(kept, celery, settings.redelivery_seconds))
    try:
        yield accept
    finally:
        sender.cancel()
        with suppress(asyncio.CancelledError):
            await sender
        celery.close()
        kept.close()


async def _claim(database: Database, import_: Import, key: ImportKey) -> bool:
    statement = claim(import_, key)
    async with database.pipeline() as driver:
        cursor = await driver.execute(statement.sql.encode(), statement.parameters, binary=True)
        return bool(await cursor.fetchall())


def _keep_and_send(kept: KeptImports, celery: Any, import_: Import) -> None:
    kept.keep(import_.job_id, build_content(import_))
    try:
        _send_task(celery, import_.job_id)
    except OperationalError:
        log.exception("task_not_sent")  # it is sent later, so the import is accepted


async def _send_overdue(kept: KeptImports, celery: Any, redelivery_seconds: float) -> None:
    """Sends tasks again for imports that have not settled in time. Runs until it is canceled."""
    while True:
        await asyncio.sleep(OVERDUE_CHECK_SECONDS)
        try:
            for job_id in await asyncio.to_thread(kept.take_overdue, redelivery_seconds):
                await asyncio.to_thread(_send_task, celery, job_id)
        # Whatever it is: without this loop, a lost task would never be sent again
        except Exception:
            log.exception("overdue_imports_wait")


def _send_task(celery: Any, job_id: UUID) -> None:
    with celery.producer_pool.acquire(block=True) as producer:
        celery.tasks[TASK].apply_async((job_id,), producer=producer)


if __name__ == "__main__":
    settings = PeerSettings()
    serve(create_app(settings, open_intake, HTTPStatus.ACCEPTED), settings)
