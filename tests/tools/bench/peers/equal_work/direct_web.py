"""python -m tests.tools.bench.peers.equal_work.direct_web: settles an import in its request.

One transaction has its rows, results, counters and events. The answer is 200: all is done.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from fastapi import FastAPI

from shared.postgres.database import Database
from shared.runtime.process import configure_gc
from tests.tools.bench.peers.equal_work.outcomes import Import
from tests.tools.bench.peers.equal_work.settlement import (
    ImportKey,
    KeyTaken,
    KnownDestinations,
    run,
    save_result_text,
    settle,
)
from tests.tools.bench.peers.equal_work.web import Acceptance, AcceptImport, create_app, read_claim
from tests.tools.bench.peers.runtime import WEB_PROCESSES, PeerSettings, serve


@asynccontextmanager
async def open_intake(_settings: PeerSettings, database: Database) -> AsyncIterator[AcceptImport]:
    known: KnownDestinations = KnownDestinations()

    async def accept(import_: Import, key: ImportKey | None) -> Acceptance:
        try:
            async with database.pipeline() as driver:
                await run(driver, settle(import_, known, save_result_text, key))
        except KeyTaken:
            assert key is not None
            claim = await read_claim(database, import_, key)
            # The claim and its job were committed together
            if (replayed := claim.replay()) is None:
                raise
            return replayed
        return Acceptance(import_.job_id, import_.total, len(import_.failures))

    yield accept


def build() -> FastAPI:
    """Builds the app of one process."""
    configure_gc()
    return create_app(PeerSettings(), open_intake, HTTPStatus.OK)


if __name__ == "__main__":
    serve(
        "tests.tools.bench.peers.equal_work.direct_web:build",
        PeerSettings(),
        processes=WEB_PROCESSES,
    )
