"""Kafka in KRaft mode: one node or three, each of them broker and controller."""

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
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
JVM_OPTIONS = ("-Xmx512m", "-XX:+UseSerialGC")

STOP_SECONDS, CLUSTER_STOP_SECONDS = 30, 5
"""A node of three stops in 3 s, but for the last: it would wait five minutes for a majority of
controllers that have gone.
"""

BROKER_COUNTS = (1, 3)
"""The allowed numbers of brokers.

Two would survive no loss of one. More than three would show nothing more on one machine.
"""

# The rebalance delay lets both of the publisher's members join an empty group at once. If one
# joined alone, the other waited for its next heartbeat: 3 s, at four of ten starts
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
"""A broker that is killed leads its partitions until its session ends: with 9 s, the default, an
import waited up to 14 s for that.

Not for a lone node: it would fence itself after a pause of 4 s.
"""


class NodePorts(NamedTuple):
    clients: int
    controller: int


def new_cluster_id() -> str:
    """Returns 16 random bytes as Kafka writes them. Its tools take a leading - for an option."""
    while True:
        made = base64.urlsafe_b64encode(uuid4().bytes).rstrip(b"=").decode()
        if not made.startswith("-"):
            return made


@dataclass(frozen=True)
class KafkaNode:
    """One node whose data lies in `directory`.

    Ports may change between two starts; who the other nodes are may not.
    """

    directory: Path
    ports: NodePorts
    jvm_options: tuple[str, ...] = JVM_OPTIONS
    node_id: int = 1
    controllers: tuple[int, ...] = ()
    """The controllers' ports of all nodes, this one's too, in the order of their ids; none is a
    node alone.
    """
    cluster_id: str = field(default_factory=new_cluster_id)
    """Written when the storage is formatted; `formatted_cluster_id` is what counts afterwards."""

    @property
    def name(self) -> str:
        return node_names(len(self._voters))[self.node_id - 1]

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.ports.clients}"

    def formatted_cluster_id(self) -> str:
        """Reads the id of the cluster that the data belongs to."""
        lines = self._identity.read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)["cluster.id"]

    @property
    def _identity(self) -> Path:
        return self.directory / "data" / "meta.properties"

    @property
    def _is_alone(self) -> bool:
        return len(self._voters) == 1

    @property
    def _voters(self) -> tuple[int, ...]:
        return self.controllers or (self.ports.controller,)

    def properties(self) -> dict[str, str]:
        """Internal topics are as well replicated as Pinflow's own: on three brokers thrice, and
        written when two have it.
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
        if not self._is_alone:
            properties |= CLUSTER_PROPERTIES
        return properties

    def prepare(self) -> Program:
        """Write its configuration and format its storage, the first time. Raises LocalError."""
        class_path = fetch_kafka()
        file = self.directory / "server.properties"
        self.directory.mkdir(parents=True, exist_ok=True)
        file.write_text(
            "".join(f"{name}={value}\n" for name, value in self.properties().items()),
            encoding="utf-8",
        )
        if not self._identity.exists():
            tool = [
                find_java(),
                QUIET,
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
            QUIET,
            "-cp",
            class_path,
            "kafka.Kafka",
            str(file),
        )
        return Program(
            self.name,
            command,
            stop_seconds=STOP_SECONDS if self._is_alone else CLUSTER_STOP_SECONDS,
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
        """Makes a node for each of `ports`, with a folder of its own in `directory`."""
        cluster_id = cluster_id or new_cluster_id()
        controllers = tuple(one.controller for one in ports)
        named = zip(node_names(len(ports)), ports, strict=True)
        nodes = [
            KafkaNode(directory / name, its, jvm_options, number, controllers, cluster_id)
            for number, (name, its) in enumerate(named, 1)
        ]
        return cls(tuple(nodes))

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(node.bootstrap_servers for node in self.nodes)

    def prepare(self) -> list[Program]:
        """Raises LocalError."""
        fetch_kafka()  # once, before three look for it at the same time
        with ThreadPoolExecutor() as pool:
            return list(pool.map(KafkaNode.prepare, self.nodes))

    async def is_ready(self) -> bool:
        """Tells whether all brokers are registered: topics made earlier would have fewer replicas.

        Raises ForeignServer if a broker of another cluster answers.
        """
        if any(
            is_free(node.ports.clients) for node in self.nodes
        ):  # asked first: aiokafka logs every attempt
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
                f"Kafka at {self.bootstrap_servers} is another cluster, not this stack's."
            )
        return len(cluster["brokers"]) == len(self.nodes)


def node_names(brokers: int) -> list[str]:
    return ["kafka"] if brokers == 1 else [f"kafka-{number}" for number in range(1, brokers + 1)]


def preferred_ports(brokers: int) -> dict[str, int]:
    """By the name of each node, and of each node's controller."""
    return {
        name: 9092 + number
        for number, name in enumerate(
            name for node in node_names(brokers) for name in (node, f"{node}_controller")
        )
    }


def select_ports(brokers: int, chosen: Mapping[str, int]) -> list[NodePorts]:
    """What was chosen under the names of preferred_ports."""
    return [NodePorts(chosen[name], chosen[f"{name}_controller"]) for name in node_names(brokers)]


def _format(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=FORMAT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise LocalError(
            f"Kafka's storage could not be formatted within {FORMAT_SECONDS} s: {' '.join(command)}"
        ) from None
    if done.returncode:
        raise LocalError(
            f"Kafka's storage could not be formatted:\n{(done.stdout + done.stderr).strip()}\nRun "
            "make clean, then make up."
        )
