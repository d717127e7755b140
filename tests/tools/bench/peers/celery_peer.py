"""(a) and (b): Celery with Redis, a task a row or a task an import."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.local.ports import choose, is_free
from deploy.local.programs import Program
from tests.support.ports import FIRST_SERVICE_PORT, PORTS_PER_SERVICE
from tests.support.processes import RunningProgram
from tests.tools.bench.peers import software
from tests.tools.bench.peers.peer import PeerServers
from tests.tools.bench.peers.processes import WEB, RunningProcesses, start_processes

COMMON_MISSING_FEATURES = (
    (
        "202 is not durable: Redis writes to its disk once a second, so a crash of the machine "
        "loses what was accepted in the last one."
    ),
    (
        "Job and rows are written apart, to Postgres and to Redis: a crash in between leaves a job "
        "that never ends."
    ),
    "A killed worker's tasks come again only after the visibility timeout, an hour by default.",
    "No dead letters: a task that can't be read is logged and dropped.",
    "No order among rows of equal keys of different imports: whichever worker is first.",
    (
        "No events for others, no schedules, no accounts and boards checked, no telling whether an "
        "existing row's content matches."
    ),
)


@dataclass(frozen=True)
class CeleryPeer:
    name: str
    task: str
    worker_processes: int
    max_unsettled_imports: int
    missing_features: tuple[str, ...]
    uses: tuple[str, ...] = ("postgres",)

    @contextmanager
    def running(self, servers: PeerServers, directory: Path) -> Iterator[RunningProcesses]:
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
    "Celery with Redis, a task a row",
    "settle_row",
    worker_processes=8,
    max_unsettled_imports=4,
    missing_features=(
        *COMMON_MISSING_FEATURES,
        (
            "Rows of one import are published in whatever order workers are free; one of two equal "
            "keys in it wins by chance."
        ),
    ),
)
WHOLE_IMPORTS = CeleryPeer(
    "Celery with Redis, a task an import",
    "settle_import",
    worker_processes=4,
    max_unsettled_imports=40,
    missing_features=(
        *COMMON_MISSING_FEATURES,
        "No result for each row: a job has counters only.",
        "One row that Postgres refuses fails the other 499 with it, for ever.",
    ),
)


@contextmanager
def redis_server(directory: Path) -> Iterator[tuple[str, RunningProgram]]:
    """With an append-only file, written to disk every second: the least for tasks that must not be
    lost, and what most run.
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
