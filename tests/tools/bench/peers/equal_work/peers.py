"""The two equal-work peers: how they start, and what they do not guarantee."""

import asyncio
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from shared.kafka.admin import create_topics
from shared.runtime.settings import KafkaSettings
from tests.support.kafka import delete_topics
from tests.tools.bench.peers import software
from tests.tools.bench.peers.celery_peer import redis_server
from tests.tools.bench.peers.equal_work.judge import EqualWorkStore
from tests.tools.bench.peers.peer import EQUAL_WORK, TOPIC_PREFIX, PeerServers
from tests.tools.bench.peers.processes import WEB, RunningProcesses, start_processes

RELAY, WORKER, REDIS = "relay", "worker", "redis"
_PACKAGE = "tests.tools.bench.peers.equal_work"
_RELAY_COMMAND = (sys.executable, "-m", f"{_PACKAGE}.relay")
COMMON_MISSING_FEATURES = (
    (
        "No admission control and no fairness between workspaces: a flood of one workspace delays "
        "all others."
    ),
    "Events of two imports have no order: ids of the outbox are not in the order of commits.",
    "One workspace and one API key. Idempotency-Keys are kept for ever.",
    (
        "Outcomes exist only in Postgres: after a restore of an older backup, rows are published "
        "and announced again."
    ),
    (
        "Schedules are stored but never published. No delivery to Pinterest, no imports by Kafka "
        "topic or CSV, no kept uploads, retries, cancel or undo."
    ),
)


class EqualDirectPeer:
    """FastAPI inserts the import in its request. A relay sends the outbox to Kafka."""

    name = "FastAPI, inserted in the request, equal work"
    work = EQUAL_WORK
    uses = ("kafka", "postgres")
    max_unsettled_imports = 150
    missing_features = (
        (
            "While Postgres is down or slow, nothing is accepted: there is no buffer between the "
            "client and the database."
        ),
        "A burst waits in the clients' connections until each import has settled.",
        "A row that Postgres refuses makes the whole import fail.",
        *COMMON_MISSING_FEATURES,
    )

    @contextmanager
    def start(self, servers: PeerServers, directory: Path) -> Iterator[RunningProcesses]:
        modules = {WEB: (sys.executable, "-m", f"{_PACKAGE}.direct_web"), RELAY: _RELAY_COMMAND}
        with _start(servers, directory, "peer_equal_direct", modules) as running:
            yield running


class EqualCeleryPeer:
    """FastAPI keeps each import in Redis and queues a task for it, and a Celery worker settles it.

    Web sends a task again if its import is still kept after a while (kept_imports.py).

    The worker writes events to the outbox, in the transaction of the rows. If it sent them itself,
    a kill between commit and sending would lose them, unless a redelivered task could tell which
    events its first run had sent. A relay only has to send again what is left.
    """

    name = "Celery with Redis, one task per import, equal work"
    work = EQUAL_WORK
    uses = ("kafka", "postgres")
    max_unsettled_imports = 150
    missing_features = (
        (
            "202 is not durable: Redis writes to its disk once per second. A crash of the machine, "
            "or of Redis while it waits for its disk, loses the last imports: their jobs never "
            "end, and a repeated request gets their 202 again."
        ),
        (
            "While Postgres or Redis is down, nothing is accepted. An import whose job could not "
            "be written gets an error, but is settled later."
        ),
        "A killed worker's imports are queued again only after a timeout, here of 30 s.",
        "No dead letters: an import whose task fails by a bug is tried again for ever.",
        "Rows with the same key in different imports have no order: the fastest worker wins.",
        "A row that Postgres refuses makes all rows of its import fail.",
        *COMMON_MISSING_FEATURES,
    )

    def __init__(self, *, worker_processes: int = 4, redelivery_seconds: int = 30) -> None:
        self._worker_processes = worker_processes
        self._redelivery_seconds = redelivery_seconds

    @contextmanager
    def start(self, servers: PeerServers, directory: Path) -> Iterator[RunningProcesses]:
        python = software.find_python()
        modules = {
            WEB: (python, "-m", f"{_PACKAGE}.celery_web"),
            WORKER: (python, "-m", f"{_PACKAGE}.celery_app", str(self._worker_processes)),
            RELAY: _RELAY_COMMAND,
        }
        with redis_server(directory) as (url, redis):
            variables = {
                "PINFLOW_REDIS_URL": url,
                "PINFLOW_REDELIVERY_SECONDS": str(self._redelivery_seconds),
            }
            with _start(servers, directory, "peer_equal_celery", modules, variables) as running:
                yield replace(
                    running,
                    pids={**running.pids, REDIS: redis.process.pid},
                    programs={**running.programs, REDIS: redis},
                )


@contextmanager
def _start(
    servers: PeerServers,
    directory: Path,
    schema: str,
    modules: Mapping[str, tuple[str, ...]],
    variables: Mapping[str, str] | None = None,
) -> Iterator[RunningProcesses]:
    """Starts the processes, with topics of their own."""
    settings = KafkaSettings(
        kafka_bootstrap_servers=servers.kafka_bootstrap_servers, topic_prefix=TOPIC_PREFIX
    )
    asyncio.run(create_topics(settings))
    try:
        with start_processes(
            servers,
            directory,
            schema=schema,
            modules=modules,
            variables=variables,
            open_store=EqualWorkStore,
        ) as running:
            yield running
    finally:
        asyncio.run(delete_topics(settings))
