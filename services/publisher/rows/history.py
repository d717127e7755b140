"""Reads the topic `outcomes` into publisher.row_outcomes, so that a replay gives the same outcomes.

The topic is the record of all decisions. If Postgres is older than Kafka, the publisher reads rows
again that have outcomes in the topic. So it records those outcomes before it reads any row. A row
with a recorded outcome settles with exactly that outcome (ADR 0031).
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence

import structlog
from aiokafka import TopicPartition

from services.publisher.rows.history_parsing import Record, belongs_to_log, is_ahead, parse_outcomes
from services.publisher.rows.history_reader import Bounds, Offsets, OutcomeReader
from services.publisher.rows.repository import RowRepository
from shared.contract.errors import PositionBehind
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import read_cluster_id
from shared.kafka.batches import find_end_offsets
from shared.kafka.positions.advance import Advance, Span
from shared.kafka.positions.preparation import Preparation
from shared.kafka.positions.rules import StoredPosition
from shared.runtime.settings import ServiceSettings

log = structlog.get_logger()

MIN_ROWS_TO_ANALYZE = 1000
"""New rows from which the table is analyzed. With the statistics of an almost empty table the
planner scans row_outcomes for each batch (measured: 0.5 s instead of 1 ms at 500 000 rows)."""
POSITION_LAG_SECONDS = 60.0
"""How far the position stays behind the topic's end. It covers SEND_TIMEOUT_SECONDS until a lost
batch's last outcomes arrive, the time until its publisher notices, and its IN_FLIGHT_SECONDS."""


class OutcomeHistory(Preparation):
    """Keeps the publisher's position in `outcomes`: Postgres needs no outcome before it.

    The publisher sends outcomes after it has stored their rows' positions. So normally all outcomes
    in the topic belong to rows before the stored positions, and the position moves without reading.
    It stays a minute behind the end. If Postgres is lost, a batch that it had stored may still send
    outcomes until its publisher notices, and another member may have read the topic before that.

    All members of a process share one instance; calls take turns.
    """

    def __init__(self, store: RowRepository, settings: ServiceSettings, names: TopicNames) -> None:
        self._store = store
        self._settings = settings
        self._topic = names[TopicName.OUTCOMES]
        self._imports = names[TopicName.IMPORTS]
        self._lock = asyncio.Lock()
        self._reader = OutcomeReader(settings, self._topic)
        self._offsets: Offsets = {}
        self._checked_at = 0.0
        self._end_readings: deque[tuple[float, Offsets]] = deque()
        """When the topic's ends were read, by the monotonic clock, and the ends. Oldest first."""
        self.confirmed_at = 0.0
        """When Postgres last had all needed outcomes for certain, by the monotonic clock."""

    async def offsets_to_take_over(self) -> Offsets:
        """Returns the topic's ends: the first start after an upgrade replays nothing."""
        return _read_log_ends(await self._reader.bounds())

    async def catch_up(self) -> None:
        """Records the topic's outcomes of rows behind the stored positions.

        Raises DatabaseUnavailable, BrokerUnavailable, PositionBehind.
        """
        async with self._lock:
            checked_at = time.monotonic()
            cluster = await read_cluster_id(self._settings)
            # Positions before bounds: other members move positions up to ends that they have read
            stored = await self._store.positions.load()
            bounds = await self._reader.bounds()
            await self._find_start(stored, bounds, cluster)
            self._checked_at = checked_at
            rows = 0
            async for records in self._reader.read(self._offsets, _read_log_ends(bounds)):
                rows += await self._record(records)
            if rows >= MIN_ROWS_TO_ANALYZE:
                await self._store.analyze_outcomes()
            self.confirmed_at = checked_at

    async def _find_start(
        self,
        stored: Mapping[TopicPartition, StoredPosition],
        bounds: Bounds,
        cluster: str,
    ) -> None:
        """Starts at the stored positions, or at the beginning of a log that they do not fit.

        An outcome that is recorded twice does no harm.
        """
        self._offsets, unfit = {}, {}
        for partition, (begin, end) in bounds.items():
            position = stored.get(partition)
            if position is not None and belongs_to_log(position, begin, end, cluster):
                self._offsets[partition] = position.next_offset
            else:
                self._offsets[partition] = unfit[partition] = begin
        if unfit:
            next_step = "rows whose outcomes are gone are decided anew"
            log.warning("outcomes_read_from_the_beginning", positions=len(unfit), next=next_step)
            await self._store.positions.reset(unfit, cluster)

    async def run_periodic_work(self) -> None:
        """Moves the position to the topic's end of a minute ago. Raises what `catch_up` raises."""
        read_at = time.monotonic()
        ends = _read_log_ends(await self._reader.bounds())
        async with self._lock:
            if any(end < self._offsets.get(partition, 0) for partition, end in ends.items()):
                raise PositionBehind(f"the topic {self._topic} ends before its position: read it")
            self._end_readings.append((read_at, ends))
            await self._confirm(read_at)

    async def confirm(self, made_at: float) -> None:
        """Checks that a connection made at `made_at` leads to a Postgres with all needed outcomes.

        Raises Unavailable, including PositionBehind, if that is not certain.
        """
        if made_at <= self.confirmed_at:
            return
        async with self._lock:
            if made_at > self.confirmed_at:
                await self._confirm(time.monotonic())

    async def _confirm(self, read_at: float) -> None:
        """Moves the position as far as it may. Raises PositionBehind if Postgres was replaced."""
        if not self._checked_at:
            raise PositionBehind(f"the topic {self._topic} has not been read yet: wait until it is")
        ends = dict(self._offsets)
        while self._end_readings and self._end_readings[0][0] <= read_at - POSITION_LAG_SECONDS:
            ends |= self._end_readings.popleft()[1]
        reachable = {
            partition: end for partition, end in ends.items() if partition in self._offsets
        }
        await self._move_to(reachable)
        self.confirmed_at = read_at

    async def close(self) -> None:
        """Closes the connection to Kafka."""
        await self._reader.close()

    async def _record(self, records: Sequence[Record]) -> int:
        """Records a portion and moves the position behind it, in one transaction. Counts rows."""
        # Positions after the records: outcomes that were sent normally lie before these positions
        stored = await self._store.positions.load()
        stored_offsets = {
            partition.partition: position.next_offset
            for partition, position in stored.items()
            if partition.topic == self._imports
        }
        new_records = (record for record in records if is_ahead(record, stored_offsets))
        rows = parse_outcomes(new_records)
        ends = find_end_offsets(records)
        await self._store.record_outcomes(rows, self._advance(ends))
        self._offsets |= ends
        if rows:
            log.info("outcomes_recorded", rows=len(rows))
        return len(rows)

    async def _move_to(self, ends: Offsets) -> None:
        await self._store.positions.move(self._advance(ends))
        for partition, end in ends.items():
            self._offsets[partition] = max(end, self._offsets[partition])

    def _advance(self, ends: Offsets) -> Advance:
        spans = {
            partition: Span(self._offsets.get(partition, 0), end) for partition, end in ends.items()
        }
        return Advance(spans, self._checked_at)


def _read_log_ends(bounds: Bounds) -> Offsets:
    return {partition: end for partition, (_, end) in bounds.items()}
