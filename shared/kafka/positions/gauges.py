"""Sets the metrics of refused partitions and running replays."""

from collections.abc import Mapping

from aiokafka import TopicPartition

from shared.kafka.positions.rules import Refusal
from shared.runtime import metrics


class PositionGauges:
    """Sets the gauges of one service's positions. Called by PositionTracker."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._refused: dict[TopicPartition, Refusal] = {}

    def show_refusals(self, refused: Mapping[TopicPartition, Refusal]) -> None:
        """Sets the gauges of refused partitions, and resets those of earlier refusals."""
        gauge = metrics.POSITION_REFUSED
        for partition, refusal in self._refused.items() - refused.items():
            gauge.labels(self._service, partition.topic, partition.partition, refusal).set(0)
        for partition, refusal in refused.items():
            gauge.labels(self._service, partition.topic, partition.partition, refusal).set(1)
        self._refused = dict(refused)

    def show_replays(
        self, replays: Mapping[TopicPartition, int], positions: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Sets the number of records that each replay still has. Returns the unfinished replays.

        `replays` are the ends of the replays. A partition without an entry in `positions` is not
        consumed any more, and has no replay.
        """
        gauge = metrics.REPLAY_RECORDS
        running = {}
        for partition, until in replays.items():
            remaining = max(0, until - positions[partition]) if partition in positions else 0
            gauge.labels(self._service, partition.topic, partition.partition).set(remaining)
            if remaining:
                running[partition] = until
        return running
