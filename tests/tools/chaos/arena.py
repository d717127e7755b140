"""The system under test: its own servers, the services, and a supervisor.

The services reach the servers through proxies, which can cut the connections.
"""

import asyncio
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from deploy.administration import NewWorkspace
from deploy.local.ports import choose
from shared.kafka.admin import create_topics
from shared.runtime.settings import KafkaSettings
from tests.acceptance.conftest import new_workspace
from tests.support import ports
from tests.support.deployment import Deployment, deployed, program_for_replica
from tests.support.infrastructure import fresh_database, kafka_cluster, postgres_server
from tests.support.processes import RunningProgram
from tests.support.proxied_kafka import proxied_port
from tests.tools.chaos.network import HOST, Network, Proxy
from tests.tools.chaos.skewed_clock import OFFSET_VARIABLE

WORKSPACES = 2
REPLICAS = {"ingest": 2}
INGEST_REPLICA = "ingest-1"
WATCH_SECONDS = 0.2


class Arena:
    """The system under test.

    `kafka` and `database_url` are the servers' own addresses. Services connect through the proxies.
    """

    def __init__(
        self,
        directory: Path,
        deployment: Deployment,
        brokers: list[RunningProgram],
        postgres: RunningProgram,
        network: Network,
        kafka_proxies: list[Proxy],
        postgres_proxy: Proxy,
    ) -> None:
        self.directory = directory
        self.deployment = deployment
        self.brokers = brokers
        self.postgres = postgres
        self.network = network
        self.kafka_proxies = kafka_proxies
        self.postgres_proxy = postgres_proxy
        self.kafka = ""
        self.topic_prefix = ""
        self.database_url = ""
        self.workspaces: list[NewWorkspace] = []
        self.held_down: set[str] = set()
        """Programs that a fault has stopped. The fault also starts them again."""
        self.died: list[str] = []
        """Programs that ended by themselves and were restarted."""

    def program(self, name: str) -> RunningProgram:
        return self.deployment.programs[name]

    async def supervise(self) -> None:
        """Restarts programs that ended by themselves. Runs until it is canceled."""
        while True:
            for program in (*self.deployment.programs.values(), *self.brokers, self.postgres):
                self.restart_dead(program)
            await asyncio.sleep(WATCH_SECONDS)

    def restart_dead(self, program: RunningProgram) -> None:
        """Restarts a program if no fault has ended it, and shows the end of its log."""
        name = program.program.name
        if not program.is_alive and name not in self.held_down:
            print(describe_death(program), flush=True)
            self.died.append(name)
            program.start()

    def second_replica(self, name: str) -> RunningProgram:
        """Returns a further replica of a service, not started. The gateway does not know it."""
        (port,) = choose({name: self.deployment.ports[name] + 50}).values()
        number = len(self.deployment.replica_names(name))
        return RunningProgram(
            program_for_replica(self.program(name).program, number, port), self.directory
        )

    def set_clock(self, name: str, seconds: float) -> None:
        """Skews a service's clock by `seconds`, from its next start."""
        running = self.program(name)
        command = (
            (sys.executable, "-m", "tests.tools.chaos.skewed_clock", name)
            if seconds
            else (sys.executable, "-m", f"services.{name}")
        )
        environment = {**running.program.environment, OFFSET_VARIABLE: str(seconds)}
        running.program = replace(running.program, command=command, environment=environment)


def describe_death(program: RunningProgram) -> str:
    """Describes a program that has ended: its exit code and the last 30 lines of its log."""
    return (
        f"{program.program.name} ended by itself, with exit code "
        f"{program.process.returncode}. Its log ends:\n{program.tail()}"
    )


@contextmanager
def arena(
    directory: Path, brokers: int, replicas: Mapping[str, int] = REPLICAS, **variables: str
) -> Iterator[Arena]:
    """Starts servers, proxies and services, and stops them at the end.

    `variables` are further settings of the services, as `deployed` takes them.
    """
    network = Network()
    chosen = choose({f"proxy {number}": ports.PROXIES for number in range(brokers + 1)})
    *kafka_ports, postgres_port = chosen.values()
    with (
        kafka_cluster(directory, brokers=brokers, proxy_ports=kafka_ports) as (
            kafka,
            broker_programs,
        ),
        postgres_server(directory) as (postgres, postgres_program),
        fresh_database(postgres.url) as url,
    ):
        settings = KafkaSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)
        asyncio.run(create_topics(settings))
        kafka_proxies = [
            network.proxy(proxied_port(node), port)
            for node, port in zip(kafka.nodes, kafka_ports, strict=True)
        ]
        postgres_proxy = network.proxy(postgres.port, postgres_port)
        settings_of_services = {
            "kafka": ",".join(f"{HOST}:{port}" for port in kafka_ports),
            "database_url": replace_port(url, postgres_port),
            "topic_prefix": settings.topic_prefix,
            "access_cache_seconds": "1",
            "database_timeout_seconds": "3",
            **variables,
        }
        with deployed(directory, replicas, **settings_of_services) as deployment:
            new_arena = Arena(
                directory,
                deployment,
                broker_programs,
                postgres_program,
                network,
                kafka_proxies,
                postgres_proxy,
            )
            new_arena.kafka = kafka.bootstrap_servers
            new_arena.topic_prefix = settings.topic_prefix
            new_arena.database_url = url
            new_arena.workspaces = [
                new_workspace(url, f"Chaos {number}") for number in range(WORKSPACES)
            ]
            yield new_arena
    network.close()


def replace_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@{HOST}:{port}"))
