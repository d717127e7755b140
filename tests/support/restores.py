"""Restores a server to an earlier state, as from a backup or after a lost disk.

Works on a program of tests/support/infrastructure.py: Postgres or one Kafka broker. Clients may be
connected meanwhile; they lose their connections.
"""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from deploy.local.kafka import KafkaCluster, new_cluster_id
from tests.support.processes import RunningProgram

POSTGRES_LOCK = "postmaster.pid"
KAFKA_PROPERTIES = "server.properties"


def snapshot(program: RunningProgram) -> Path:
    """Copies the data of a running server and returns the copy's path.

    Its processes are paused during the copy, so a server that starts on the copy recovers as after
    a crash.
    """
    data = find_data_directory(program)
    copy = data.with_name(f"{data.name}-{uuid4().hex[:8]}")
    program.pause()
    try:
        _copy(data, copy)
    finally:
        program.resume()
    (copy / POSTGRES_LOCK).unlink(
        missing_ok=True
    )  # it names a process: Postgres would refuse to start while one with this id is alive
    return copy


def restore(program: RunningProgram, copy: Path) -> None:
    """Kills the server if it is running, replaces its data with the copy, and starts it.

    Returns before the server is ready. The copy stays and can be used again.
    """
    if program.is_alive:
        program.kill_with_children()
    data = find_data_directory(program)
    shutil.rmtree(data)
    _copy(copy, data)
    program.start()


def recreate(program: RunningProgram, kafka: KafkaCluster) -> None:
    """Kills the only broker if it is running, and starts an empty one on its port.

    The empty broker is a new cluster without topics. Returns before it is ready.
    """
    (node,) = kafka.nodes
    if program.is_alive:
        program.kill_with_children()
    data = find_data_directory(program)
    shutil.rmtree(data)
    replace(node, cluster_id=new_cluster_id()).prepare()
    program.start()


def find_data_directory(program: RunningProgram) -> Path:
    """Returns the directory in which the server keeps its data."""
    command = program.program.command
    if "-D" in command:
        return Path(command[command.index("-D") + 1])
    properties = Path(command[-1])
    assert properties.name == KAFKA_PROPERTIES, (
        f"{program.program.name} is neither Postgres nor a Kafka broker"
    )
    return properties.parent / "data"


def _copy(source: Path, target: Path) -> None:
    # cp, because shutil does not keep the owner: if root runs the tests, Postgres's data belongs to
    # `nobody`
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)
