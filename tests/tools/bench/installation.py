"""Starts the servers and services that are measured.

They are real processes on free ports, start without data, and belong to the benchmark alone.
"""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from deploy.administration import NewWorkspace
from deploy.local.kafka import KafkaNode
from deploy.services import SERVICES
from tests.acceptance.conftest import new_workspace
from tests.support.connections import name_settings
from tests.support.deployment import Deployment, deployed, is_ready
from tests.support.infrastructure import (
    FAST_JVM_OPTIONS,
    FAST_POSTGRES_SETTINGS,
    fresh_database,
    fresh_topics,
    kafka_server,
    postgres_server,
)
from tests.support.simulator import running_simulator
from tests.support.waiting import wait_until
from tests.tools.bench.batches import BatchTotals, read_batch_totals
from tests.tools.bench.cores import CoreHalves, pin_to_cores
from tests.tools.bench.disk_usage import DiskUsage, measure_disk_usage
from tests.tools.bench.figures import Figures
from tests.tools.bench.machine import read_server_settings, read_service_settings
from tests.tools.bench.measure import Usage, measure_usage


@dataclass(frozen=True)
class ServerOptions:
    """JVM options of Kafka and settings of Postgres."""

    kafka_options: tuple[str, ...]
    postgres_settings: dict[str, str]


PRODUCTION_OPTIONS = ServerOptions(
    ("-Xms1g", "-Xmx1g", "-XX:+UseSerialGC"), {"shared_buffers": "512MB"}
)
"""Kafka gets the heap of its own start script and no limit on its JIT compiler.

Postgres is set as in the local stack, with fsync.
"""
TEST_OPTIONS = ServerOptions(FAST_JVM_OPTIONS, FAST_POSTGRES_SETTINGS)


@dataclass(frozen=True)
class DeploymentShape:
    """Number of replicas of each service, the cores for services and servers (None: all), and
    whether the delivery process runs, with the simulator of Pinterest."""

    replicas: int = 1
    cores: CoreHalves | None = None
    has_delivery: bool = False

    @property
    def service_cores(self) -> frozenset[int] | None:
        return self.cores.services if self.cores else None

    @property
    def server_cores(self) -> frozenset[int] | None:
        return self.cores.servers if self.cores else None

    def to_figures(self) -> Figures:
        cores = (
            {name: sorted(numbers) for name, numbers in self.cores._asdict().items()}
            if self.cores
            else None
        )
        return {"replicas": self.replicas, "cores": cores, "delivery": self.has_delivery}


DEFAULT_SHAPE = DeploymentShape()
SERVICE_SETTINGS = {
    "log_level": "WARNING",
    "list_scan_limit": "1000000",
    "list_count_limit": "1000000",
}
"""Settings that differ from the services' defaults.

The high list limits allow a list to count all settled imports, also those of a soak.
"""
READY_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class BenchServers:
    """Running Kafka and Postgres."""

    directory: Path
    kafka: KafkaNode
    owner_url: str
    pids: dict[str, int]

    @property
    def bootstrap_servers(self) -> str:
        return self.kafka.bootstrap_servers


@contextmanager
def bench_servers(server_options: ServerOptions = PRODUCTION_OPTIONS) -> Iterator[BenchServers]:
    """Starts Kafka and Postgres in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="pinflow-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        with (
            kafka_server(directory, server_options.kafka_options) as (kafka, broker),
            postgres_server(directory, server_options.postgres_settings) as (postgres, database),
        ):
            pids = {"kafka": broker.process.pid, "postgres": database.process.pid}
            yield BenchServers(directory, kafka.nodes[0], postgres.url, pids)


class Installation:
    """The gateway and the services that are measured."""

    def __init__(
        self,
        servers: BenchServers,
        deployment: Deployment,
        database_url: str,
        topic_prefix: str,
        shape: DeploymentShape,
    ) -> None:
        self.servers = servers
        self.shape = shape
        self.deployment = deployment
        self.database_url = database_url
        self.topic_prefix = topic_prefix

    @property
    def base_url(self) -> str:
        return self.deployment.base_url

    @property
    def pids(self) -> dict[str, int]:
        """Current process ids of servers, gateway and services. Scenarios restart some services."""
        return self.servers.pids | {
            name: program.process.pid for name, program in self.deployment.programs.items()
        }

    def new_workspaces(self, count: int) -> list[NewWorkspace]:
        return [new_workspace(self.database_url, f"Bench {number}") for number in range(count)]

    def usage(self) -> Usage:
        return measure_usage(self.pids)

    def disk_usage(self) -> DiskUsage:
        return measure_disk_usage(
            self.database_url, self.servers.kafka.directory / "data", self.topic_prefix
        )

    def batches(self) -> BatchTotals:
        return read_batch_totals(
            self.deployment.service_url(name)
            for service in SERVICES
            for name in self.deployment.replica_names(service)
        )

    def settings(self) -> Figures:
        servers = read_server_settings(self.servers.kafka, self.database_url)
        return {
            **servers,
            "services": read_service_settings(SERVICE_SETTINGS),
            **self.shape.to_figures(),
        }

    @contextmanager
    def changed_settings(self, service: str, **variables: str) -> Iterator[None]:
        """Restarts the service with changed settings, and after the body with its original ones."""
        replicas = [
            self.deployment.programs[name] for name in self.deployment.replica_names(service)
        ]
        original_programs = [replica.program for replica in replicas]
        overrides = {f"PINFLOW_{name.upper()}": value for name, value in variables.items()}
        self.stop(service)
        for replica in replicas:
            replica.program = replace(
                replica.program, environment={**replica.program.environment, **overrides}
            )
        self.start(service)
        try:
            yield
        finally:
            self.stop(service)
            for replica, program in zip(replicas, original_programs, strict=True):
                replica.program = program
            self.start(service)

    def stop(self, service: str) -> None:
        for name in self.deployment.replica_names(service):
            self.deployment.programs[name].terminate()

    def start(self, service: str) -> None:
        """Starts all replicas and waits until they are ready. Other services need not be."""
        names = self.deployment.replica_names(service)
        with pin_to_cores(self.shape.service_cores):
            for name in names:
                self.deployment.programs[name].start()
        wait_until(
            lambda: all(is_ready(self.deployment.service_url(name)) for name in names),
            seconds=READY_TIMEOUT_SECONDS,
        )


@contextmanager
def installation(
    servers: BenchServers, shape: DeploymentShape = DEFAULT_SHAPE
) -> Iterator[Installation]:
    """Starts the gateway and the services, with topics and a database of their own."""
    with ExitStack() as stack:
        prefix = stack.enter_context(fresh_topics(servers.bootstrap_servers))
        url = stack.enter_context(fresh_database(servers.owner_url))
        directory = Path(tempfile.mkdtemp(dir=servers.directory))
        connection_settings = {
            "kafka": servers.bootstrap_servers,
            "database_url": url,
            "topic_prefix": prefix,
        }
        settings = dict(SERVICE_SETTINGS)
        if shape.has_delivery:
            settings |= name_settings(stack.enter_context(running_simulator()))
        with pin_to_cores(shape.service_cores):
            deployment = stack.enter_context(
                deployed(directory, shape.replicas, **connection_settings, **settings)
            )
        yield Installation(servers, deployment, url, prefix, shape)
