"""The system under test: servers of its own, services that reach them through a network which can
be cut, and a supervisor.
"""

import asyncio
import sys
from collections.abc import Iterator
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
from tests.support.deployment import Deployment, another, deployed
from tests.support.infrastructure import fresh_database, kafka_cluster, postgres_server
from tests.support.processes import RunningProgram
from tests.support.proxied_kafka import proxied_port
from tests.tools.chaos.network import HOST, Network, Proxy
from tests.tools.chaos.skewed_clock import OFFSET_VARIABLE

WORKSPACES = 2
WATCH_SECONDS = 0.2


class Arena:
    """`kafka` and `database_url` are the servers' addresses. Services come through the proxies."""

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
        """Programs that the nemesis has killed and will start again itself."""
        self.died: list[str] = []
        """Programs that ended on their own and were started again."""

    def program(self, name: str) -> RunningProgram:
        return self.deployment.programs[name]

    async def supervise(self) -> None:
        """For ever: start again what ended on its own, as any supervisor would."""
        while True:
            for program in (*self.deployment.programs.values(), *self.brokers, self.postgres):
                name = program.program.name
                if not program.is_alive and name not in self.held_down:
                    self.died.append(name)
                    program.start()
            await asyncio.sleep(WATCH_SECONDS)

    def another(self, name: str) -> RunningProgram:
        """A second replica of a service, not started."""
        (port,) = choose({name: self.deployment.ports[name] + 50}).values()
        return RunningProgram(another(self.program(name).program, 1, port), self.directory)

    def set_clock(self, name: str, seconds: float) -> None:
        """Of the service, from its next start on."""
        running = self.program(name)
        command = (
            (sys.executable, "-m", "tests.tools.chaos.skewed_clock", name)
            if seconds
            else (sys.executable, "-m", f"services.{name}")
        )
        environment = {**running.program.environment, OFFSET_VARIABLE: str(seconds)}
        running.program = replace(running.program, command=command, environment=environment)


@contextmanager
def arena(directory: Path, brokers: int) -> Iterator[Arena]:
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
        addresses = {
            "kafka": ",".join(f"{HOST}:{port}" for port in kafka_ports),
            "database_url": at_port(url, postgres_port),
            "topic_prefix": settings.topic_prefix,
        }
        with deployed(
            directory, **addresses, access_cache_seconds="1", database_timeout_seconds="3"
        ) as deployment:
            made = Arena(
                directory,
                deployment,
                broker_programs,
                postgres_program,
                network,
                kafka_proxies,
                postgres_proxy,
            )
            made.kafka, made.topic_prefix, made.database_url = (
                kafka.bootstrap_servers,
                settings.topic_prefix,
                url,
            )
            made.workspaces = [
                new_workspace(url, f"Chaos {number}") for number in range(WORKSPACES)
            ]
            yield made
    network.close()


def at_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@{HOST}:{port}"))
