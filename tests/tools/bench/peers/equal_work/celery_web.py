"""python -m tests.tools.bench.peers.equal_work.celery_web: queues an import, then answers 202.

The task has the whole import and comes first, the job second. If the process is killed in between,
the worker creates the job. The other order would leave a job that never ends.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from kombu.exceptions import OperationalError

from shared.contract.errors import BrokerUnavailable
from shared.postgres.database import Database
from tests.tools.bench.peers.equal_work.celery_app import TASK, build_arguments, create_celery
from tests.tools.bench.peers.equal_work.outcomes import Import
from tests.tools.bench.peers.equal_work.settlement import ImportKey, claim, open_job
from tests.tools.bench.peers.equal_work.web import Acceptance, AcceptImport, create_app, read_claim
from tests.tools.bench.peers.runtime import PeerSettings, serve


@asynccontextmanager
async def open_intake(settings: PeerSettings, database: Database) -> AsyncIterator[AcceptImport]:
    celery = create_celery(settings)

    async def accept(import_: Import, key: ImportKey | None) -> Acceptance:
        if key is not None and not await _claim(database, import_, key):
            earlier = await read_claim(database, import_, key)
            if replayed := earlier.replay():
                return replayed
            # Its request may have ended before it queued the import. Queueing it twice is harmless
            import_ = import_._replace(job_id=earlier.job_id)
        try:
            await asyncio.to_thread(_send_task, celery, import_)
        except OperationalError as error:
            raise BrokerUnavailable(f"Redis does not answer: {error}") from error
        statement = open_job(import_)
        async with database.pipeline() as driver:
            await driver.execute(statement.sql.encode(), statement.parameters, binary=True)
        return Acceptance(import_.job_id, import_.total, len(import_.failures))

    yield accept
    celery.close()


async def _claim(database: Database, import_: Import, key: ImportKey) -> bool:
    statement = claim(import_, key)
    async with database.pipeline() as driver:
        cursor = await driver.execute(statement.sql.encode(), statement.parameters, binary=True)
        return bool(await cursor.fetchall())


def _send_task(celery: Any, import_: Import) -> None:
    with celery.producer_pool.acquire(block=True) as producer:
        celery.tasks[TASK].apply_async(build_arguments(import_), producer=producer)


if __name__ == "__main__":
    settings = PeerSettings()
    serve(create_app(settings, open_intake, HTTPStatus.ACCEPTED), settings)
