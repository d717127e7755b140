"""Stand-ins for what reaches the network, held to the same scenarios as the real things
(tests/contract).
"""

from collections.abc import Sequence

from shared.kafka.producer import choose_partition
from shared.kafka.records import Record

PARTITIONS = 6


class MemorySender:
    """A RecordSender that keeps what it is sent: topic, then partition, in order."""

    def __init__(self) -> None:
        self.topics: dict[str, list[list[Record]]] = {}

    # It never waits
    async def send(self, topic: str, records: Sequence[Record], *, seconds: float = 0) -> None:  # noqa: ARG002
        partitions = self.topics.setdefault(topic, [[] for _ in range(PARTITIONS)])
        for record in records:
            partitions[
                choose_partition(record.key, PARTITIONS) if record.key is not None else 0
            ].append(record)
