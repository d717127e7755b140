"""The assignment of partitions by aiokafka's default assignor, with Pinflow's member ids."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from shared.contract.topics import TopicName
from shared.kafka.consumer import BatchConsumer
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import Handler, build_subscription
from tests.support.fakes import MemorySender


def build_consumer(replica: int, member: int) -> BatchConsumer:
    settings = ServiceSettings(replica=str(replica))
    return BatchConsumer(
        build_subscription("publisher", TopicName.IMPORTS),
        settings,
        Handler(),
        MemorySender(),
        member=member,
    )


@pytest.mark.parametrize("partitions", [6, 10, 12, 16])
@pytest.mark.parametrize("replicas", [1, 2, 3, 4, 12])
@pytest.mark.parametrize("members", [1, 2, 3])
def test_partitions_are_shared_evenly_by_processes_and_members(
    replicas: int, members: int, partitions: int
) -> None:
    consumers = {
        build_consumer(replica, member).group_instance_id: replica
        for replica in range(replicas)
        for member in range(members)
    }
    shares = assign_partitions(list(consumers), partitions)
    process_shares = [
        sum(shares[name] for name in consumers if consumers[name] == replica)
        for replica in range(replicas)
    ]
    assert sum(shares.values()) == partitions
    assert max(shares.values()) - min(shares.values()) <= 1
    assert max(process_shares) - min(process_shares) <= 1


def assign_partitions(names: list[str], partitions: int) -> dict[str, int]:
    """Returns each member's number of partitions, by name.

    Kafka builds a static member's id from its name and a random suffix.
    """
    ids = {f"{name}-{number * 7919 % 101:03}": name for number, name in enumerate(names)}
    cluster: Any = SimpleNamespace(partitions_for_topic=lambda _topic: set(range(partitions)))
    members = {member_id: RoundRobinPartitionAssignor.metadata(["rows"]) for member_id in ids}
    assignment = RoundRobinPartitionAssignor.assign(cluster, members)
    return {name: len(assignment[member_id].partitions()) for member_id, name in ids.items()}


def test_consumers_use_the_round_robin_assignor() -> None:
    consumer = build_consumer(0, 0)
    strategy = consumer._member._subscriber._connection_args["partition_assignment_strategy"]
    assert tuple(strategy) == (RoundRobinPartitionAssignor,)
