"""Local stacks with one broker or three: the brokers' settings, and their number, which cannot
change while the data exists.
"""

import json
from pathlib import Path

import pytest

from deploy.local.kafka import KafkaCluster, NodePorts, preferred_ports, select_ports
from deploy.local.layout import LocalError
from deploy.local.state import StackState
from tests.support.proxied_kafka import with_proxies


def cluster(brokers: int, directory: Path = Path("/somewhere")) -> KafkaCluster:
    return KafkaCluster.from_ports(directory, select_ports(brokers, preferred_ports(brokers)))


def test_three_brokers_know_each_other_and_share_nothing() -> None:
    nodes = cluster(3).nodes
    brokers = [node.properties() for node in nodes]
    assert [node.name for node in nodes] == ["kafka-1", "kafka-2", "kafka-3"]
    assert [broker["node.id"] for broker in brokers] == ["1", "2", "3"]
    assert {broker["controller.quorum.voters"] for broker in brokers} == {
        "1@127.0.0.1:9093,2@127.0.0.1:9095,3@127.0.0.1:9097"
    }
    assert len({broker["log.dirs"] for broker in brokers}) == 3
    assert len({broker["listeners"] for broker in brokers}) == 3
    assert cluster(3).bootstrap_servers == "127.0.0.1:9092,127.0.0.1:9094,127.0.0.1:9096"


@pytest.mark.parametrize(("brokers", "replicas", "in_sync"), [(1, "1", "1"), (3, "3", "2")])
def test_kafkas_internal_topics_survive_the_loss_of_one_broker_of_three(
    brokers: int, replicas: str, in_sync: str
) -> None:
    for node in cluster(brokers).nodes:
        properties = node.properties()
        assert {properties[name] for name in properties if name.endswith("replication.factor")} == {
            replicas
        }
        assert {
            properties[name]
            for name in properties
            if name.endswith(("min.isr", "min.insync.replicas"))
        } == {in_sync}


def test_a_single_broker_keeps_its_name_folder_and_ports_of_earlier_versions() -> None:
    (node,) = cluster(1).nodes
    assert (node.name, node.directory, node.ports) == (
        "kafka",
        Path("/somewhere/kafka"),
        NodePorts(9092, 9093),
    )


def test_the_proxied_listener_advertises_the_proxys_port() -> None:
    (node,) = with_proxies(cluster(1), [3], [4]).nodes
    properties = node.properties()
    assert (
        properties["listeners"]
        == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093,PROXIED://127.0.0.1:3"
    )
    assert properties["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092,PROXIED://127.0.0.1:4"
    assert properties["inter.broker.listener.name"] == "PLAINTEXT"


def save(directory: Path, state: StackState) -> Path:
    file = directory / "state.json"
    state.save(file)
    return file


def test_the_number_of_brokers_is_kept_with_the_data(tmp_path: Path) -> None:
    state = StackState.load(tmp_path / "state.json", 3)
    file = save(tmp_path, state)
    assert StackState.load(file) == StackState.load(file, 3) == state
    assert {"kafka-1", "kafka-2_controller"} <= set(state.ports)


@pytest.mark.parametrize(("stored", "requested"), [(1, 3), (3, 1)])
def test_a_number_that_differs_from_the_stored_one_is_refused_with_the_next_step(
    tmp_path: Path, stored: int, requested: int
) -> None:
    file = save(tmp_path, StackState(stored))
    with pytest.raises(LocalError, match="make clean"):
        StackState.load(file, requested)


@pytest.mark.parametrize("requested", [-1, 0, 2, 4])
def test_another_number_of_brokers_is_refused(tmp_path: Path, requested: int) -> None:
    with pytest.raises(LocalError, match="1 or 3"):
        StackState.load(tmp_path / "state.json", requested)


def test_data_from_a_version_that_always_had_one_broker_keeps_one(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_text(
        json.dumps({"ports": {"kafka": 9192, "gateway": 8180}, "passwords": {"owner": "secret"}}),
        encoding="utf-8",
    )
    state = StackState.load(file)
    assert (
        state.brokers,
        state.ports["kafka"],
        state.ports["kafka_controller"],
        state.passwords["owner"],
    ) == (1, 9192, 9093, "secret")
