"""Kafka in KRaft mode: one node or three. Each node is both broker and controller."""

import asyncio
import base64
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from deploy.local.layout import LocalError
from deploy.local.ownership import ForeignServer
from deploy.local.ports import is_free
from deploy.local.programs import Program
from deploy.local.software import fetch_kafka, find_java
from shared.contract.errors import BrokerUnavailable
from shared.kafka.admin import admin_client
from shared.runtime.settings import KafkaSettings

FORMAT_SECONDS = 60
LOG_LEVEL = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
JVM_OPTIONS = ("-Xmx512m", "-XX:+UseSerialGC")

STOP_SECONDS, CLUSTER_STOP_SECONDS = 30, 5
"""The seconds after which a stopping node is killed. The second value is for each of three nodes.

Each of three stops within 3 s, except the last. It would wait five minutes for a majority of the
controllers, but the other two have already stopped.
"""

BROKER_COUNTS = (1, 3)
"""The allowed numbers of brokers.

Two brokers can't tolerate the loss of one. More than three have no benefit on one machine.
"""

# The rebalance delay lets both members of the publisher's group join it together. Without it, one
# joined first in four of ten starts, and the other waited 3 s for the next heartbeat
PROPERTIES = """\
process.roles=broker,controller
node.id={node_id}
listeners=PLAINTEXT://127.0.0.1:{ports.clients},CONTROLLER://127.0.0.1:{ports.controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{ports.clients}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
controller.quorum.voters={voters}
log.dirs={data}
auto.create.topics.enable=false
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=4
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=100
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=2
num.io.threads=4
"""
CLUSTER_PROPERTIES = {"broker.session.timeout.ms": "4000", "broker.heartbeat.interval.ms": "1000"}
"""Additional properties of a cluster with several nodes.

A killed broker stays the leader of its partitions until its session ends. With the default of 9 s
imports waited up to 14 s. A single node keeps the default: with 4 s a pause of the process would
fence it.
"""


class NodePorts(NamedTuple):
    clients: int
    controller: int


def new_cluster_id() -> str:
    """Returns 16 random bytes in Kafka's encoding.

    The id never begins with "-": Kafka's tools would read it as an option.
    """
    while True:
        cluster_id = base64.urlsafe_b64encode(uuid4().bytes).rstrip(b"=").decode()
        if not cluster_id.startswith("-"):
            return cluster_id


@dataclass(frozen=True)
class KafkaNode:
    """One node with its data in `directory`.

    Its ports may change between two starts. The set of nodes may not.
    """

    directory: Path
    ports: NodePorts
    jvm_options: tuple[str, ...] = JVM_OPTIONS
    node_id: int = 1
    controllers: tuple[int, ...] = ()
    """The controller ports of all nodes including this one, in the order of the node ids. Empty for
    a single node.
    """
    cluster_id: str = field(default_factory=new_cluster_id)
    """The id for formatting new storage. Formatted storage has its own: `formatted_cluster_id`."""

    @property
    def name(self) -> str:
        return node_names(len(self._voters))[self.node_id - 1]

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.ports.clients}"

    def formatted_cluster_id(self) -> str:
        """Reads the cluster id from the formatted storage."""
        lines = self._storage_properties.read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)["cluster.id"]

    @property
    def _storage_properties(self) -> Path:
        return self.directory / "data" / "meta.properties"

    @property
    def _is_single(self) -> bool:
        return len(self._voters) == 1

    @property
    def _voters(self) -> tuple[int, ...]:
        return self.controllers or (self.ports.controller,)

    def properties(self) -> dict[str, str]:
        """Returns the server's configuration.

        Internal topics are replicated like Pinflow's own. With three brokers they have three
        replicas, of which two must be in sync.
        """
        replicas = len(self._voters)
        values = {
            "node_id": self.node_id,
            "ports": self.ports,
            "voters": ",".join(
                f"{number}@127.0.0.1:{port}" for number, port in enumerate(self._voters, 1)
            ),
            "data": self.directory / "data",
            "replicas": replicas,
            "in_sync": max(1, replicas - 1),
        }
        properties = dict(line.split("=", 1) for line in PROPERTIES.format(**values).splitlines())
        if not self._is_single:
            properties |= CLUSTER_PROPERTIES
        return properties

    def prepare(self) -> Program:
        """Writes the configuration, and formats the storage if it is new. Raises LocalError."""
        class_path = fetch_kafka()
        file = self.directory / "server.properties"
        self.directory.mkdir(parents=True, exist_ok=True)
        file.write_text(
            "".join(f"{name}={value}\n" for name, value in self.properties().items()),
            encoding="utf-8",
        )
        if not self._storage_properties.exists():
            tool = [
                find_java(),
                LOG_LEVEL,
                "-Xshare:auto",
                "-XX:TieredStopAtLevel=1",
                "-cp",
                class_path,
                "kafka.tools.StorageTool",
            ]
            _format([*tool, "format", "-t", self.cluster_id, "-c", str(file), "--ignore-formatted"])
        command = (
            find_java(),
            *self.jvm_options,
            LOG_LEVEL,
            "-cp",
            class_path,
            "kafka.Kafka",
            str(file),
        )
        return Program(
            self.name,
            command,
            stop_seconds=STOP_SECONDS if self._is_single else CLUSTER_STOP_SECONDS,
        )


@dataclass(frozen=True)
class KafkaCluster:
    """All brokers of a stack."""

    nodes: tuple[KafkaNode, ...]

    @classmethod
    def from_ports(
        cls,
        directory: Path,
        ports: Sequence[NodePorts],
        jvm_options: tuple[str, ...] = JVM_OPTIONS,
        cluster_id: str | None = None,
    ) -> "KafkaCluster":
        """Creates a node for each of `ports`. Each has its own folder in `directory`."""
        cluster_id = cluster_id or new_cluster_id()
        controllers = tuple(node_ports.controller for node_ports in ports)
        names_and_ports = zip(node_names(len(ports)), ports, strict=True)
        nodes = [
            KafkaNode(directory / name, node_ports, jvm_options, node_id, controllers, cluster_id)
            for node_id, (name, node_ports) in enumerate(names_and_ports, 1)
        ]
        return cls(tuple(nodes))

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def prepare(self) -> list[Program]:
        """Prepares all nodes. Raises LocalError."""
        fetch_kafka()  # before the threads, which would all fetch it
        with ThreadPoolExecutor() as pool:
            return list(pool.map(KafkaNode.prepare, self.nodes))

    async def is_ready(self) -> bool:
        """Returns whether all brokers are registered.

        Topics that are created earlier would have fewer replicas. Raises ForeignServer if a broker
        of another cluster answers.
        """
        # First, because aiokafka logs every failed connection
        if any(is_free(node.ports.clients) for node in self.nodes):
            return False
        settings = KafkaSettings(
            kafka_bootstrap_servers=self.bootstrap_servers, kafka_security_protocol="PLAINTEXT"
        )
        try:
            async with asyncio.timeout(5), admin_client(settings) as admin:
                cluster = await admin.describe_cluster()
        except (BrokerUnavailable, TimeoutError):
            return False
        if cluster["cluster_id"] != self.nodes[0].formatted_cluster_id():
            raise ForeignServer(
                f"The Kafka at {self.bootstrap_servers} does not belong to this stack: its cluster "
                "id is different."
            )
        return len(cluster["brokers"]) == len(self.nodes)


def node_names(brokers: int) -> list[str]:
    return ["kafka"] if brokers == 1 else [f"kafka-{number}" for number in range(1, brokers + 1)]


def preferred_ports(brokers: int) -> dict[str, int]:
    """Returns the usual port of each node and of each node's controller, by name."""
    return {
        name: 9092 + number
        for number, name in enumerate(
            name for node in node_names(brokers) for name in (node, f"{node}_controller")
        )
    }


def select_ports(brokers: int, ports: Mapping[str, int]) -> list[NodePorts]:
    """Selects the ports of each node from ports with the names of `preferred_ports`."""
    return [NodePorts(ports[name], ports[f"{name}_controller"]) for name in node_names(brokers)]


def _format(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=FORMAT_SECONDS,
            check=False,
            close_fds=False,  # it keeps the stack locked, even if this process is killed
        )
    except subprocess.TimeoutExpired:
        raise LocalError(
            f"Kafka's storage was not formatted within {FORMAT_SECONDS} s. Run make up again. The "
            f"command was: {' '.join(command)}"
        ) from None
    if done.returncode:
        raise LocalError(
            f"Kafka's storage could not be formatted:\n{(done.stdout + done.stderr).strip()}\nRun "
            "make clean, then make up."
        )
