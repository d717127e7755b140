"""Decides whether pins may be sent: not while Postgres may be older than Kafka. Does no I/O."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from shared.kafka.positions.rules import PartitionLog, Refusal, StoredPosition, compare_with_log

Partition = TypeVar("Partition", bound=tuple[str, int])
"""A topic and a partition's number."""


def find_refusals(
    stored: Mapping[Partition, StoredPosition],
    logs: Mapping[Partition, PartitionLog],
    cluster_id: str,
) -> dict[Partition, Refusal]:
    """Finds the positions that do not fit Kafka's log, also those that were refused earlier."""
    refusals = {}
    for partition, partition_log in logs.items():
        if position := stored.get(partition):
            decision = compare_with_log(position, partition_log, cluster_id)
            if isinstance(decision, Refusal):
                refusals[partition] = decision
    return refusals


def find_replays(
    stored: Mapping[Partition, StoredPosition],
    logs: Mapping[Partition, PartitionLog],
    cluster_id: str,
) -> list[Partition]:
    """Finds the partitions whose rows Postgres lacks although they were processed before.

    That is so while the position is before the group's committed offset, or, after the consumer has
    lowered that offset, before the replay's end. A backlog is no replay: its rows were never
    processed, so none of their pins was sent.
    """
    replays = []
    for partition, partition_log in logs.items():
        position = stored.get(partition) or StoredPosition(partition_log.begin, cluster_id)
        decision = compare_with_log(position, partition_log, cluster_id)
        if isinstance(decision, Refusal):
            continue
        until = max(decision.replay_until or 0, min(position.replay_until or 0, partition_log.end))
        if position.next_offset < until:
            replays.append(partition)
    return sorted(replays)


def describe_refusals(refusals: Mapping[Partition, Refusal]) -> str:
    names = ", ".join(f"{_name(key)} ({refusal})" for key, refusal in sorted(refusals.items()))
    return (
        f"nothing is sent to Pinterest: positions do not fit Kafka's log: {names}. To see what is "
        "lost, run: pinflow recover"
    )


def describe_replays(replays: Sequence[tuple[str, int]]) -> str:
    names = ", ".join(_name(key) for key in replays)
    return (
        f"nothing is sent to Pinterest: the publisher reads rows of {names} again, because "
        "Postgres is older than Kafka. No action is needed"
    )


def _name(partition: tuple[str, int]) -> str:
    topic, number = partition
    return f"{topic}/{number}"
