"""Sets up Celery as an experienced team would. Needs the packages of `make bench-peers`.

The worker is celery_worker.py.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import psycopg
from celery import Celery
from kombu.serialization import register

from shared.postgres.arrays import Column, ColumnDumper, to_columns
from shared.runtime.process import configure_gc
from tests.tools.bench.peers import rows
from tests.tools.bench.peers.runtime import PeerSettings
from tests.tools.bench.peers.store import COLUMNS, SETTLE_IMPORT, SETTLE_ROW

SETTLE_IMPORT_TASK, SETTLE_ROW_TASK = "settle_import", "settle_row"
PREFETCH = {SETTLE_IMPORT_TASK: 4, SETTLE_ROW_TASK: 64}
"""Tasks that a worker's process prefetches. Short tasks need many, or each would wait for Redis."""

RETRIES: dict[str, Any] = {
    "autoretry_for": (psycopg.OperationalError,),
    "retry_backoff": True,
    "max_retries": None,
}


def create_base_app(settings: PeerSettings, prefetch: int) -> Any:
    """Creates an app without tasks. Each process of its worker prefetches `prefetch` tasks.

    A task is acknowledged when it is done. So a killed worker's tasks run again, unless it had just
    taken them from Redis.
    """
    register(
        "orjson",
        lambda value: orjson.dumps(value).decode(),
        orjson.loads,
        "application/x-orjson",
        "utf-8",
    )
    app = Celery("peer", broker=settings.redis_url)
    app.conf.update(
        task_serializer="orjson",
        accept_content=["orjson"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=prefetch,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
    )
    return app


def run_worker(app: Any, processes: str) -> None:
    """Runs the app's worker with this number of processes until it is stopped."""
    configure_gc()
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "warning")
    app.worker_main(["worker", "--pool", "prefork", "--concurrency", processes, *quiet])


def create_celery(settings: PeerSettings, task: str) -> Any:
    """Creates the app for one of the two tasks that keep counters or short results."""
    app = create_base_app(settings, PREFETCH[task])
    # Redis redelivers a task without acknowledgement only after visibility_timeout, by default an
    # hour
    connection = _Connection(settings.database_url.get_secret_value())

    def settle_import(
        job_id: str, workspace_id: str, accepted_at: str, content: list[rows.QueuedRow]
    ) -> None:
        job = UUID(job_id)
        column_values = rows.build_values(
            UUID(workspace_id), job, datetime.fromisoformat(accepted_at), rows.parse_queued(content)
        )
        connection.execute(SETTLE_IMPORT, (*to_columns(COLUMNS, column_values), job))

    def settle_row(
        job_id: str, workspace_id: str, accepted_at: str, content: rows.QueuedRow
    ) -> None:
        column_values = rows.build_values(
            UUID(workspace_id),
            UUID(job_id),
            datetime.fromisoformat(accepted_at),
            rows.parse_queued([content]),
        )
        connection.execute(SETTLE_ROW, to_columns(COLUMNS, column_values))

    app.task(settle_import, name=SETTLE_IMPORT_TASK, **RETRIES)
    app.task(settle_row, name=SETTLE_ROW_TASK, **RETRIES)
    return app


class _Connection:
    """One process's connection. It opens at the first use, which is after the fork."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None

    def execute(self, statement: str, parameters: Sequence[Any]) -> None:
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(
                self._url, autocommit=True, prepare_threshold=1, application_name="peer-worker"
            )
            self._connection.adapters.register_dumper(Column, ColumnDumper)
        self._connection.execute(statement.encode(), parameters, binary=True)
