"""python -m tests.tools.bench.peers.direct_web: inserts the whole import, then answers 201."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI

from shared.postgres.arrays import to_columns
from shared.postgres.database import Database
from shared.runtime.process import configure_gc
from tests.tools.bench.peers import rows
from tests.tools.bench.peers.runtime import WEB_PROCESSES, PeerSettings, serve
from tests.tools.bench.peers.store import COLUMNS, SETTLE_IMPORT
from tests.tools.bench.peers.web import AcceptImport, Job, create_app, insert_job


@asynccontextmanager
async def open_intake(_settings: PeerSettings, database: Database) -> AsyncIterator[AcceptImport]:
    async def settle(job: Job) -> None:
        """Writes job and rows in one transaction and one round trip."""
        column_values = rows.build_values(
            job.workspace_id, job.id, job.accepted_at, job.rows.to_queued()
        )
        async with database.pipeline() as driver:
            await insert_job(driver, job)
            if column_values:
                await driver.execute(
                    SETTLE_IMPORT, (*to_columns(COLUMNS, column_values), job.id), binary=True
                )

    yield settle


def build() -> FastAPI:
    """Builds the app of one process."""
    configure_gc()
    return create_app(PeerSettings(), open_intake, accepted=HTTPStatus.CREATED)


if __name__ == "__main__":
    serve("tests.tools.bench.peers.direct_web:build", PeerSettings(), processes=WEB_PROCESSES)
