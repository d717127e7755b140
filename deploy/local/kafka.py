"""Kafka: one node that is broker and controller, in KRaft mode."""

import asyncio
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.local.layout import LocalError
from deploy.local.ports import is_free
from deploy.local.programs import Program
from deploy.local.software import java, kafka_class_path
from shared.errors import BrokerUnavailable
from shared.messaging.admin import admin_client
from shared.settings import KafkaSettings

CLUSTER_ID = "cGluZmxvdy1sb2NhbC0wMQ"
FORMAT_SECONDS = 60
QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"

PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=4194304
num.network.threads=2
num.io.threads=4
"""


@dataclass(frozen=True)
class Kafka:
    """One broker whose data lies in `directory`. Ports may change between two starts."""

    directory: Path
    port: int
    controller_port: int
    jvm_options: tuple[str, ...] = ("-Xmx512m", "-XX:+UseSerialGC")

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> Program:
        """Write its configuration and format its storage, the first time. Raises LocalError."""
        class_path = kafka_class_path()
        properties = self.directory / "server.properties"
        data = self.directory / "data"
        self.directory.mkdir(parents=True, exist_ok=True)
        text = PROPERTIES.format(port=self.port, controller_port=self.controller_port, data=data)
        properties.write_text(text, encoding="utf-8")
        if not (data / "meta.properties").exists():
            tool = [java(), QUIET, "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", class_path, "kafka.tools.StorageTool"]
            _format([*tool, "format", "-t", CLUSTER_ID, "-c", str(properties), "--ignore-formatted"])
        command = (java(), *self.jvm_options, QUIET, "-cp", class_path, "kafka.Kafka", str(properties))
        return Program("kafka", command)

    async def is_ready(self) -> bool:
        if is_free(self.port):  # asked first: aiokafka logs every attempt
            return False
        settings = KafkaSettings(kafka_bootstrap_servers=self.bootstrap_servers, kafka_security_protocol="PLAINTEXT")
        try:
            async with asyncio.timeout(5), admin_client(settings) as admin:
                return bool((await admin.describe_cluster())["brokers"])
        except (BrokerUnavailable, TimeoutError):
            return False


def _format(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise LocalError(f"Kafka's storage could not be formatted within {FORMAT_SECONDS} s: {' '.join(command)}") from None
    if done.returncode:
        raise LocalError(f"Kafka's storage could not be formatted:\n{(done.stdout + done.stderr).strip()}\nRun make clean, then make up.")
