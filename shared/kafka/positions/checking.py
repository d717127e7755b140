"""Checks positions against Kafka's log, and stores the refusals and replays that follow."""

from typing import NamedTuple

import structlog
from aiokafka import TopicPartition

from shared.kafka.positions.reading import PositionSnapshot
from shared.kafka.positions.rules import (
    PartitionLog,
    PartitionStart,
    Refusal,
    StoredPosition,
    compare_with_log,
)
from shared.kafka.positions.store import PositionStore
from shared.runtime import metrics

log = structlog.get_logger()

NEXT_STEP = "pinflow recover"


class PositionCheck(NamedTuple):
    """Holds what a check decided, by partition."""

    starts: dict[TopicPartition, PartitionStart]
    refused: dict[TopicPartition, Refusal]
    replays: dict[TopicPartition, int]
    """Where each replay ends that has not ended yet."""


class PositionChecker:
    """Checks one service's positions. Called by PositionTracker."""

    def __init__(self, store: PositionStore, *, service: str) -> None:
        self._store = store
        self._service = service

    async def check(self, found: PositionSnapshot) -> PositionCheck:
        """Decides where partitions start. Raises DatabaseUnavailable."""
        checked = PositionCheck({}, {}, {})
        for partition, partition_log in found.logs.items():
            position = found.stored[partition]
            verdict = compare_with_log(position, partition_log, found.cluster)
            if isinstance(verdict, Refusal):
                checked.refused[partition] = verdict
                if position.refused is None:
                    await self._refuse(partition, position, partition_log, verdict)
                continue
            checked.starts[partition] = verdict
            if verdict.replay_until is not None:
                fields = {"partition": str(partition), **verdict._asdict()}
                log.warning("postgres_is_older", service=self._service, **fields)
                metrics.REPLAYS.labels(self._service).inc()
            until = await self._store_replay(partition, position, verdict, partition_log.end)
            if until > verdict.offset:
                checked.replays[partition] = until
        return checked

    async def is_accepted(self, refused: set[TopicPartition]) -> bool:
        """Tells whether an operator has accepted the loss in a refused partition."""
        stored = await self._store.load()
        return not refused <= {
            partition for partition, position in stored.items() if position.refused
        }

    async def _refuse(
        self,
        partition: TopicPartition,
        position: StoredPosition,
        partition_log: PartitionLog,
        refusal: Refusal,
    ) -> None:
        fields = {
            "partition": str(partition),
            "refusal": refusal,
            "stored": position.next_offset,
            "cluster_id": position.cluster_id,
            **partition_log._asdict(),
        }
        log.critical("position_refused", service=self._service, **fields, next=NEXT_STEP)
        await self._store.refuse(partition, refusal)

    async def _store_replay(
        self,
        partition: TopicPartition,
        position: StoredPosition,
        start: PartitionStart,
        end: int,
    ) -> int:
        """Stores the end of a partition's replay, at most the log's end. Returns it, or 0."""
        until = max(start.replay_until or 0, min(position.replay_until or 0, end))
        if until != (position.replay_until or 0):
            await self._store.replay(partition, until)
        return until
