"""Peers that use Celery with Redis, with one task per row or one task per import."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.local.ports import choose, is_free
from deploy.local.programs import Program
from tests.support.ports import FIRST_SERVICE_PORT, PORTS_PER_SERVICE
from tests.support.processes import RunningProgram
from tests.tools.bench.peers import software
from tests.tools.bench.peers.peer import COUNTERS_ONLY, RESULTS_ONLY, PeerServers
from tests.tools.bench.peers.processes import WEB, RunningProcesses, start_processes

COMMON_MISSING_FEATURES = (
    (
        "202 is not durable: Redis writes to its disk once per second, so a crash of the machine "
        "loses the imports accepted in the last second."
    ),
    (
        "Job and rows are written separately, to Postgres and Redis: a crash in between leaves a "
        "job that never ends."
    ),
    (
        "A killed worker's tasks run again only after the visibility timeout, by default an hour. "
        "A task that it had just taken from Redis is lost."
    ),
    "No dead letters: a task that can't be read is logged and dropped.",
    "Rows with the same key in different imports have no order: the fastest worker wins.",
    (
        "No events for consumers, no schedules, no checks of accounts and boards or of whether an "
        "existing row's content matches."
    ),
)


@dataclass(frozen=True)
class CeleryPeer:
    name: str
    task: str
    worker_processes: int
    max_unsettled_imports: int
    work: str
    missing_features: tuple[str, ...]
    uses: tuple[str, ...] = ("postgres",)

    @contextmanager
    def start(self, servers: PeerServers, directory: Path) -> Iterator[RunningProcesses]:
        python = software.find_python()
        modules = {
            WEB: (python, "-m", "tests.tools.bench.peers.celery_web", self.task),
            "worker": (
                python,
                "-m",
                "tests.tools.bench.peers.celery_worker",
                self.task,
                str(self.worker_processes),
            ),
        }
        with (
            redis_server(directory) as (url, redis),
            start_processes(
                servers,
                directory,
                schema=f"peer_{self.task}",
                modules=modules,
                variables={"PINFLOW_REDIS_URL": url},
            ) as running,
        ):
            yield replace(running, pids={**running.pids, "redis": redis.process.pid})


ROW_BY_ROW = CeleryPeer(
    "Celery with Redis, one task per row",
    "settle_row",
    worker_processes=8,
    max_unsettled_imports=4,
    work=RESULTS_ONLY,
    missing_features=(
        *COMMON_MISSING_FEATURES,
        (
            "Rows of one import are published in random order: which of two rows with the same key "
            "wins is chance."
        ),
    ),
)
WHOLE_IMPORTS = CeleryPeer(
    "Celery with Redis, one task per import",
    "settle_import",
    worker_processes=4,
    max_unsettled_imports=150,
    work=COUNTERS_ONLY,
    missing_features=(
        *COMMON_MISSING_FEATURES,
        "No result for each row: a job has counters only.",
        "One row that Postgres refuses makes all 499 others of its import fail forever.",
    ),
)


@contextmanager
def redis_server(directory: Path) -> Iterator[tuple[str, RunningProgram]]:
    """Runs Redis with an append-only file that is written to disk every second.

    This is the usual configuration, and the minimum for tasks that must not be lost.
    """
    port = choose({"redis": FIRST_SERVICE_PORT + PORTS_PER_SERVICE})["redis"]
    data = directory / "redis"
    data.mkdir()
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "dir": str(data),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    running = RunningProgram(
        Program("redis", (software.find_redis_server(), *arguments)), directory
    )
    running.start()
    try:
        running.wait_until(lambda: not is_free(port))
        yield f"redis://127.0.0.1:{port}/0", running
    finally:
        running.close()
