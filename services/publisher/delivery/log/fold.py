"""Reads the topic `deliveries` into Postgres, and tells whether pins may be sent (ADR 0046).

Kafka has every attempt before its request leaves. A restored or promoted Postgres may lack attempts
whose pins are on Pinterest. So nothing is sent before all records of the topic are in the Postgres
that the process is connected to.
"""

import time
from collections.abc import Mapping

import structlog
from aiokafka import TopicPartition

from services.publisher.delivery.log.applying import AttemptApplier
from services.publisher.delivery.log.gate_rules import (
    describe_refusals,
    describe_replays,
    find_refusals,
    find_replays,
)
from services.publisher.delivery.log.reading import CommittedOffsets, DeliveryLogReader
from services.publisher.delivery.log.records import parse_entries
from services.publisher.delivery.log.repository import AttemptLogRepository
from shared.kafka.batches import find_end_offsets
from shared.kafka.positions.advance import Advance, Span
from shared.kafka.positions.checking import NEXT_STEP
from shared.kafka.positions.gauges import PositionGauges
from shared.kafka.positions.rules import PartitionLog, Refusal, StoredPosition
from shared.runtime import metrics

log = structlog.get_logger()

Stored = Mapping[TopicPartition, StoredPosition]


class DeliveryFold:
    """Brings Postgres up to the topic's end. Not for concurrent calls."""

    def __init__(
        self,
        repository: AttemptLogRepository,
        applier: AttemptApplier,
        reader: DeliveryLogReader,
        topic: str,
    ) -> None:
        self._repository = repository
        self._applier = applier
        self._reader = reader
        self._topic = topic
        self._gauges = PositionGauges("publisher")
        self._lost_pins = 0

    async def catch_up(self) -> str | None:
        """Reads the topic to its end. Returns why nothing may be sent, or None.

        Raises DatabaseUnavailable, BrokerUnavailable, PositionBehind.
        """
        await self._repository.warm()
        checked_at = time.monotonic()
        committed = await self._reader.read_committed()
        logs, stored = await self._read_logs(committed.cluster_id)
        refusals = find_refusals(stored, logs, committed.cluster_id)
        await self._show_refusals(refusals, stored, logs)
        if refusals:
            return describe_refusals(refusals)
        await self._record(stored, logs, checked_at)
        await self._applier.apply_attempts()
        if obstacle := await self._find_missing_rows(stored, committed):
            return obstacle
        # The rows that were read again may be the pins of attempts that were recorded before
        await self._applier.apply_attempts()
        await self._applier.apply_losses()
        await self._show_lost_pins()
        return None

    async def _read_logs(
        self, cluster_id: str
    ) -> tuple[dict[TopicPartition, PartitionLog], Stored]:
        """Reads the topic's bounds. Stores missing positions: a partition is read completely.

        The topic may have attempts that this Postgres lacks although it has no position: it is a
        backup from before the upgrade that introduced the topic.
        """
        stored = await self._repository.positions.load()
        bounds = await self._reader.deliveries.bounds()
        missing = {
            partition: begin for partition, (begin, _) in bounds.items() if partition not in stored
        }
        if missing:
            await self._repository.add_positions(missing, cluster_id)
            stored = await self._repository.positions.load()
        logs = {
            # No group reads the topic: the stored position counts as committed
            partition: PartitionLog(begin, end, stored[partition].next_offset)
            for partition, (begin, end) in bounds.items()
        }
        return logs, stored

    async def _record(
        self, stored: Stored, logs: Mapping[TopicPartition, PartitionLog], checked_at: float
    ) -> None:
        offsets = {partition: stored[partition].next_offset for partition in logs}
        ends = {partition: partition_log.end for partition, partition_log in logs.items()}
        attempts = 0
        async for records in self._reader.deliveries.read(offsets, ends):
            read = find_end_offsets(records)
            spans = {partition: Span(offsets[partition], end) for partition, end in read.items()}
            entries = parse_entries(record.value for record in records)
            recorded = await self._repository.record(entries, Advance(spans, checked_at))
            attempts += recorded.attempts
            offsets |= read
        if attempts:
            log.warning("attempts_restored", attempts=attempts)
            metrics.DELIVERY_ATTEMPTS_RESTORED.inc(attempts)
        reached = {partition: Span(offset, offset) for partition, offset in offsets.items()}
        await self._repository.renew_positions(self._topic, Advance(reached, checked_at))

    async def _find_missing_rows(self, stored: Stored, committed: CommittedOffsets) -> str | None:
        """Returns why the rows of Postgres are not complete, or None if they are."""
        logs = await self._reader.read_rows_logs(committed)
        if refusals := find_refusals(stored, logs, committed.cluster_id):
            return describe_refusals(refusals)
        replays = find_replays(stored, logs, committed.cluster_id)
        return describe_replays(replays) if replays else None

    async def _show_refusals(
        self,
        refusals: Mapping[TopicPartition, Refusal],
        stored: Stored,
        logs: Mapping[TopicPartition, PartitionLog],
    ) -> None:
        for partition, refusal in refusals.items():
            if stored[partition].refused is None:
                fields = {"stored": stored[partition].next_offset, **logs[partition]._asdict()}
                log.critical(
                    "position_refused",
                    service="publisher",
                    partition=str(partition),
                    refusal=refusal,
                    **fields,
                    next=NEXT_STEP,
                )
                await self._repository.store_refusal(partition, refusal)
        self._gauges.show_refusals(refusals)

    async def _show_lost_pins(self) -> None:
        count = await self._repository.count_lost_pins()
        metrics.DELIVERY_LOST_PINS.set(count)
        if count > self._lost_pins:
            log.error("pins_only_on_pinterest", pins=count, next="pinflow recover")
        self._lost_pins = count
