"""Who gets which partitions: the assignor that consumers have by default, given the names that ours
have.
"""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from shared.contract.topics import TopicName
from shared.kafka.consumer import BatchConsumer
from shared.runtime.settings import ServiceSettings
from tests.support.consuming import Handler, subscription_of
from tests.support.fakes import MemorySender


def consumer_of(replica: int, member: int) -> BatchConsumer:
    settings = ServiceSettings(replica=str(replica))
    return BatchConsumer(
        subscription_of("publisher", TopicName.IMPORTS),
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
        consumer_of(replica, member).group_instance_id: replica
        for replica in range(replicas)
        for member in range(members)
    }
    shares = assigned(list(consumers), partitions)
    of_processes = [
        sum(shares[name] for name in consumers if consumers[name] == replica)
        for replica in range(replicas)
    ]
    assert sum(shares.values()) == partitions
    assert max(shares.values()) - min(shares.values()) <= 1
    assert max(of_processes) - min(of_processes) <= 1


def assigned(names: list[str], partitions: int) -> dict[str, int]:
    """How many each gets, by name.

    Kafka makes a static member's id of its name and something random.
    """
    ids = {f"{name}-{number * 7919 % 101:03}": name for number, name in enumerate(names)}
    cluster: Any = SimpleNamespace(partitions_for_topic=lambda _topic: set(range(partitions)))
    asked = {one: RoundRobinPartitionAssignor.metadata(["rows"]) for one in ids}
    given = RoundRobinPartitionAssignor.assign(cluster, asked)
    return {name: len(given[one].partitions()) for one, name in ids.items()}


def test_consumers_use_the_round_robin_assignor() -> None:
    consumer = consumer_of(0, 0)
    strategy = consumer._member._subscriber._connection_args["partition_assignment_strategy"]
    assert tuple(strategy) == (RoundRobinPartitionAssignor,)
