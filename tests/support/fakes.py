"""Fakes of classes that use the network.

tests/contract runs the same scenarios on a fake and on the real class.
"""

from collections.abc import Sequence

from shared.kafka.producer import choose_partition
from shared.kafka.records import Record

PARTITIONS = 6


class MemorySender:
    """A RecordSender that keeps its records by topic and partition, in order."""

    def __init__(self) -> None:
        self.topics: dict[str, list[list[Record]]] = {}

    async def send(
        self,
        topic: str,
        records: Sequence[Record],
        *,
        seconds: float = 0,  # noqa: ARG002 - it never waits
    ) -> None:
        partitions = self.topics.setdefault(topic, [[] for _ in range(PARTITIONS)])
        for record in records:
            partitions[
                choose_partition(record.key, PARTITIONS) if record.key is not None else 0
            ].append(record)
