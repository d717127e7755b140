"""Stops and starts partitions in a rebalance, which moves them between members of the group."""

import asyncio

import structlog
from aiokafka import ConsumerRebalanceListener, TopicPartition

from shared.kafka.consumer_health.health import ConsumerHealth
from shared.kafka.positions.tracker import PositionTracker
from shared.kafka.retry_backoff import RetryBackoff

log = structlog.get_logger()

REVOCATION_TIMEOUT_SECONDS = 25.0
"""The time a rebalance waits for the batch in flight. Keep it below the rebalance timeout, after
which the group removes this member."""


class RebalanceListener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Handles one consumer's rebalances. Called by aiokafka."""

    def __init__(
        self,
        *,
        title: str,
        idle: asyncio.Event,
        health: ConsumerHealth,
        retry_backoff: RetryBackoff,
        tracker: PositionTracker | None,
    ) -> None:
        """Receives the parts of the consumer. `idle` is set while no batch is processed."""
        self._title = title
        self._idle = idle
        self._health = health
        self._retry_backoff = retry_backoff
        self._tracker = tracker

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Waits for the batch in flight, which another member would otherwise process again."""
        self._health.on_revoked()
        self._retry_backoff.interrupt()
        if self._tracker is not None:
            self._tracker.revoke()
        try:
            async with asyncio.timeout(REVOCATION_TIMEOUT_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            log.warning("revoked_in_flight", consumer=self._title, partitions=len(revoked))

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Starts the partitions. With stored positions, each waits until its position is read."""
        if self._tracker is not None:
            self._tracker.assign(assigned)  # before any await, because aiokafka fetches then
        self._retry_backoff.allow()
        self._health.on_assigned()
        partitions = sorted(f"{partition.topic}/{partition.partition}" for partition in assigned)
        log.info("partitions_assigned", consumer=self._title, partitions=partitions)
