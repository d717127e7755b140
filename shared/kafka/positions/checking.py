"""Compares positions with Kafka's log, and stores the resulting refusals and replays."""

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
    """The result of a check, by partition."""

    starts: dict[TopicPartition, PartitionStart]
    refused: dict[TopicPartition, Refusal]
    replays: dict[TopicPartition, int]
    """The ends of unfinished replays."""


class PositionChecker:
    """Checks one service's positions. Called by PositionTracker."""

    def __init__(self, store: PositionStore, *, service: str) -> None:
        self._store = store
        self._service = service

    async def check(self, snapshot: PositionSnapshot) -> PositionCheck:
        """Decides where the partitions start. Raises DatabaseUnavailable."""
        result = PositionCheck({}, {}, {})
        for partition, partition_log in snapshot.logs.items():
            position = snapshot.stored[partition]
            decision = compare_with_log(position, partition_log, snapshot.cluster_id)
            if isinstance(decision, Refusal):
                result.refused[partition] = decision
                if position.refused is None:
                    await self._refuse(partition, position, partition_log, decision)
                continue
            result.starts[partition] = decision
            if decision.replay_until is not None:
                fields = {"partition": str(partition), **decision._asdict()}
                log.warning("postgres_is_older", service=self._service, **fields)
                metrics.REPLAYS.labels(self._service).inc()
            until = await self._store_replay(partition, position, decision, partition_log.end)
            if until > decision.offset:
                result.replays[partition] = until
        return result

    async def is_accepted(self, refused: set[TopicPartition]) -> bool:
        """Returns whether an operator has accepted the loss in at least one refused partition."""
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
        await self._store.store_refusal(partition, refusal)

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
            await self._store.store_replay(partition, until)
        return until
