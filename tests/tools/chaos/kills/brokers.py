"""Starts, kills and restarts brokers."""

import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from aiokafka import TopicPartition
from aiokafka.client import AIOKafkaClient

from deploy.local.kafka import KafkaCluster, KafkaNode
from deploy.local.layout import CHECKOUT
from deploy.local.software import find_java
from services.ingest.config import IngestSettings
from shared.kafka.aiokafka_internals import close_client
from shared.kafka.connection import client_options
from tests.support.infrastructure import FAST_JVM_OPTIONS, kafka_cluster
from tests.support.processes import RunningProgram

SHORT_SESSION = "\nbroker.session.timeout.ms=1200\nbroker.heartbeat.interval.ms=300\n"
"""A restarted single broker waits until its session from before the kill ends: 9 s by default."""
ARCHIVE = CHECKOUT / ".pinflow" / "kills" / "kafka.jsa"
"""The JVM's class data archive with Kafka's classes. It halves the CPU time of a start: 1.6 s
instead of 3 s."""
DISK_MEGABYTES = 64
ADDED_MEGABYTES = 24
"""The size that is added to a full disk."""


class CommandFailed(Exception):
    """A command of the system failed. Mounting needs root."""


@dataclass(slots=True)
class Brokers:
    """The one or three brokers of a run."""

    kafka: KafkaCluster
    programs: list[RunningProgram]

    def is_alive(self, node_id: int) -> bool:
        """Returns whether the broker's process runs."""
        return self.programs[node_id - 1].is_alive

    async def kill(self, node_id: int) -> None:
        """Sends SIGKILL and waits for the end of the process."""
        program = self.programs[node_id - 1]
        program.process.kill()
        await asyncio.to_thread(program.process.wait)

    def start(self, node_id: int, *, short_session: bool = False) -> None:
        """Restarts a killed broker.

        With `short_session` a single broker starts earlier, because its old session ends earlier.
        """
        node = self.kafka.nodes[node_id - 1]
        properties = "".join(f"{name}={value}\n" for name, value in node.properties().items())
        _properties_file(node).write_text(
            properties + (SHORT_SESSION if short_session else ""), encoding="utf-8"
        )
        self.programs[node_id - 1].start()


def _properties_file(node: KafkaNode) -> Path:
    return node.directory / "server.properties"


@contextmanager
def start_brokers(number: int) -> Iterator[Brokers]:
    """Starts `number` brokers. At the end they are stopped and their data is deleted."""
    with (
        _directory() as directory,
        kafka_cluster(directory, brokers=number, jvm_options=_jvm_options()) as (kafka, programs),
    ):
        yield Brokers(kafka, programs)


@contextmanager
def start_broker_on_small_disk() -> Iterator[tuple[Brokers, "SmallDisk"]]:
    """Starts a single broker whose data is on a small file system. Raises CommandFailed."""
    with _directory() as directory:
        disk = SmallDisk(directory / "kafka" / "data")
        disk.mount()
        try:
            with kafka_cluster(directory, brokers=1, jvm_options=_jvm_options()) as (
                kafka,
                programs,
            ):
                yield Brokers(kafka, programs), disk
        finally:
            disk.unmount()


def _jvm_options() -> tuple[str, ...]:
    """Returns the JVM's options for a fast start. Creates the class archive if it is missing."""
    base = ARCHIVE.with_name("java.jsa")
    if not ARCHIVE.exists():
        ARCHIVE.parent.mkdir(parents=True, exist_ok=True)
        _run(find_java(), "-Xshare:dump", "-XX:+UseSerialGC", f"-XX:SharedArchiveFile={base}")
        temporary = ARCHIVE.with_suffix(f".{os.getpid()}")  # another run may create it now
        options = (
            *FAST_JVM_OPTIONS,
            f"-XX:SharedArchiveFile={base}",
            f"-XX:ArchiveClassesAtExit={temporary}",
        )
        with (
            _directory() as directory,
            kafka_cluster(directory, brokers=1, jvm_options=options) as (_, (program,)),
        ):
            program.terminate()
        temporary.replace(ARCHIVE)
    return (*FAST_JVM_OPTIONS, f"-XX:SharedArchiveFile={base}:{ARCHIVE}")


@contextmanager
def _directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="pinflow-kills-"))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class SmallDisk:
    """A tmpfs that can be enlarged."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._megabytes = DISK_MEGABYTES

    def mount(self) -> None:
        """Mounts the file system, empty."""
        self._directory.mkdir(parents=True)
        _run(
            "mount", "-t", "tmpfs", "-o", f"size={self._megabytes}m", "tmpfs", str(self._directory)
        )

    def enlarge(self) -> None:
        """Adds free space. The files stay."""
        self._megabytes += ADDED_MEGABYTES
        _run("mount", "-o", f"remount,size={self._megabytes}m", str(self._directory))

    def unmount(self) -> None:
        """Removes the file system and all files on it."""
        _run("umount", str(self._directory))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandFailed(f"{' '.join(command)}: {done.stderr.strip()}")


async def find_leader(settings: IngestSettings, topic: str, partition: int) -> int:
    """Returns the node that is the partition's leader now."""
    client = AIOKafkaClient(**client_options(settings, client_id="kills"))
    try:
        await client.bootstrap()
        await client.add_topic(topic)
        return int(client.cluster.leader_for_partition(TopicPartition(topic, partition)))
    finally:
        await close_client(client)
