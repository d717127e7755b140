"""Sets up Celery for the equal-work peer: one task per import. Runs the worker as a program.

python -m tests.tools.bench.peers.equal_work.celery_app PROCESSES
"""

import sys
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import orjson
import psycopg

from shared.contract.events import RowResult
from shared.contract.wire import encode
from shared.postgres.arrays import Column, ColumnDumper
from shared.postgres.database import REJECTED_VALUE_ERRORS
from tests.tools.bench.peers.celery_app import create_base_app, run_worker
from tests.tools.bench.peers.equal_work.kept_imports import KeptImports
from tests.tools.bench.peers.equal_work.outcomes import Import
from tests.tools.bench.peers.equal_work.settlement import (
    KnownDestinations,
    run_synchronously,
    save_result_rows,
    settle_queued,
)
from tests.tools.bench.peers.rows import parse_queued
from tests.tools.bench.peers.runtime import PeerSettings

TASK = "settle_whole_import"
PREFETCH = 4
_decode_failures = msgspec.json.Decoder(list[RowResult]).decode


def create_celery(settings: PeerSettings) -> Any:
    """Creates the app. A killed process's task runs again at once."""
    app = create_base_app(settings, PREFETCH)
    kept = KeptImports(settings.redis_url)
    settler = _Settler(settings.database_url.get_secret_value())

    def settle(job_id: str) -> None:
        job = UUID(job_id)
        if content := kept.read(job):
            settler.settle(parse_import(job, content))
        kept.forget(job)

    app.task(
        settle,
        name=TASK,
        autoretry_for=(psycopg.OperationalError, psycopg.InterfaceError),
        retry_backoff=True,
        retry_backoff_max=10,
        max_retries=3,  # then the web process sends a new task
    )
    return app


def build_content(import_: Import) -> bytes:
    """Builds the content to keep in Redis."""
    failures = encode(import_.failures).decode()
    return orjson.dumps((import_.workspace_id, import_.accepted_at, import_.rows, failures))


def parse_import(job_id: UUID, content: bytes) -> Import:
    """Does the reverse of `build_content`."""
    workspace_id, accepted_at, rows, failures = orjson.loads(content)
    return Import(
        job_id,
        UUID(workspace_id),
        datetime.fromisoformat(accepted_at),
        parse_queued(rows),
        _decode_failures(failures),
    )


class _Settler:
    """Settles imports on one process's connection. It opens after the fork."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._known = KnownDestinations()
        self._connection: psycopg.Connection[Any] | None = None

    def settle(self, import_: Import) -> None:
        try:
            self._run(import_)
        except REJECTED_VALUE_ERRORS as error:
            self._run(import_, refusal=str(error).splitlines()[0])

    def _run(self, import_: Import, *, refusal: str = "") -> None:
        connection = self._connected()
        with connection.pipeline(), connection.transaction():
            run_synchronously(
                connection, settle_queued(import_, self._known, save_result_rows, refusal=refusal)
            )

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url, autocommit=True, prepare_threshold=1, application_name="peer-worker"
            )
            self._connection.adapters.register_dumper(Column, ColumnDumper)
        return self._connection


if __name__ == "__main__":
    (processes,) = sys.argv[1:]
    run_worker(create_celery(PeerSettings()), processes)
