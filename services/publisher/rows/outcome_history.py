"""Reads the topic `outcomes` into publisher.row_outcomes, so that a replay gives the same outcomes.

The topic has every outcome that its retention keeps. After a restore of an older Postgres, the
publisher reads some rows again whose outcomes are already in the topic. So it records those
outcomes before it reads any row. A row with a recorded outcome settles with exactly that outcome
(ADR 0031).

A recorded outcome may say that a row created a pin which the restored Postgres lacks. The pin is
then reserved for that row: no other row and no call may use its key until the row is processed
again.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence

import structlog
from aiokafka import TopicPartition

from services.publisher.rows.outcome_history_parsing import (
    Record,
    belongs_to_log,
    is_ahead,
    parse_outcomes,
)
from services.publisher.rows.repository import RowRepository
from shared.contract.errors import PositionBehind
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import read_cluster_id
from shared.kafka.batches import find_end_offsets
from shared.kafka.positions.advance import Advance, Span
from shared.kafka.positions.preparation import Preparation
from shared.kafka.positions.rules import StoredPosition
from shared.kafka.topic_reader import Bounds, Offsets, TopicReader
from shared.runtime.settings import ServiceSettings

log = structlog.get_logger()

MIN_ROWS_TO_ANALYZE = 1000
"""Minimum new rows before the table is analyzed. With the statistics of an almost empty table, the
planner scans row_outcomes for each batch (measured: 0.5 s instead of 1 ms at 500 000 rows)."""
POSITION_LAG_SECONDS = 60.0
"""Seconds that the position stays behind the topic's end.

After Postgres was replaced, a lost batch may still send outcomes. The lag covers
the SEND_TIMEOUT_SECONDS until they arrive, the time until the batch's publisher notices, and the
IN_FLIGHT_SECONDS that this publisher then waits.
"""


class OutcomeHistory(Preparation):
    """Keeps the publisher's position in `outcomes`. Postgres reflects all outcomes before it.

    The publisher stores the positions of rows before it sends their outcomes. So normally all
    outcomes belong to rows before the stored positions, and this position moves without reading.

    The position stays a minute behind the topic's end, because Postgres may be replaced by an older
    copy. A batch that was stored before may then still send outcomes until its publisher notices.
    Another member may have read the topic before those outcomes arrived.

    All consumers of a process share one instance. A lock serializes their calls.
    """

    def __init__(self, store: RowRepository, settings: ServiceSettings, names: TopicNames) -> None:
        self._store = store
        self._settings = settings
        self._topic = names[TopicName.OUTCOMES]
        self._imports = names[TopicName.IMPORTS]
        self._lock = asyncio.Lock()
        client_id = f"pinflow-publisher-history-{settings.replica}"
        self._reader = TopicReader(settings, self._topic, client_id=client_id)
        self._offsets: Offsets = {}
        self._checked_at = 0.0
        self._end_readings: deque[tuple[float, Offsets]] = deque()
        """The topic's ends, each with the monotonic time when they were read. Oldest first."""
        self.confirmed_at = 0.0
        """The last monotonic time at which Postgres certainly had all needed outcomes."""

    async def offsets_to_take_over(self) -> Offsets:
        """Returns the topic's ends, so that the first start after an upgrade records nothing."""
        return _select_ends(await self._reader.bounds())

    async def catch_up(self) -> None:
        """Records the topic's outcomes of rows after the stored positions.

        Raises DatabaseUnavailable, BrokerUnavailable, PositionBehind.
        """
        async with self._lock:
            checked_at = time.monotonic()
            cluster = await read_cluster_id(self._settings)
            # Before the bounds: otherwise another member could move a position past the read ends
            stored = await self._store.positions.load()
            bounds = await self._reader.bounds()
            await self._set_start(stored, bounds, cluster)
            self._checked_at = checked_at
            rows = 0
            async for records in self._reader.read(self._offsets, _select_ends(bounds)):
                rows += await self._record(records)
            if rows >= MIN_ROWS_TO_ANALYZE:
                await self._store.analyze_outcomes()
            self.confirmed_at = checked_at

    async def _set_start(
        self,
        stored: Mapping[TopicPartition, StoredPosition],
        bounds: Bounds,
        cluster: str,
    ) -> None:
        """Sets the offsets to start from: the stored positions.

        If a position is missing or does not belong to the log, its partition starts at the log's
        beginning. Recording an outcome twice does no harm.
        """
        self._offsets, restarted = {}, {}
        for partition, (begin, end) in bounds.items():
            position = stored.get(partition)
            if position is not None and belongs_to_log(position, begin, end, cluster):
                self._offsets[partition] = position.next_offset
            else:
                self._offsets[partition] = restarted[partition] = begin
        if restarted:
            next_step = (
                "No action needed: the publisher decides rows again if their outcomes are lost."
            )
            log.warning(
                "outcomes_read_from_the_beginning", positions=len(restarted), next=next_step
            )
            await self._store.positions.reset(restarted, cluster)

    async def run_periodic_work(self) -> None:
        """Moves the position to the topic's end of a minute ago. Raises the same as `catch_up`."""
        read_at = time.monotonic()
        ends = _select_ends(await self._reader.bounds())
        async with self._lock:
            if any(end < self._offsets.get(partition, 0) for partition, end in ends.items()):
                raise PositionBehind(
                    f"The topic {self._topic} ends before the publisher's position. "
                    "The publisher reads the topic again."
                )
            self._end_readings.append((read_at, ends))
            await self._move_position(read_at)

    async def require_current_database(self, connected_at: float) -> None:
        """Checks that a connection's Postgres has all needed outcomes.

        `connected_at` is the monotonic time when the connection was opened. Raises Unavailable,
        including PositionBehind, if that can't be confirmed.
        """
        if connected_at <= self.confirmed_at:
            return
        async with self._lock:
            if connected_at > self.confirmed_at:
                await self._move_position(time.monotonic())

    async def _move_position(self, read_at: float) -> None:
        """Moves the position as far as allowed.

        Raises PositionBehind if Postgres was replaced, or if `catch_up` has not read the topic yet.
        """
        if not self._checked_at:
            raise PositionBehind(
                f"The publisher has not read the topic {self._topic} yet. Try again later."
            )
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
        """Records outcomes and moves the position past them, in one transaction.

        Returns the number of recorded rows.
        """
        # Read after the records, so that these positions are past all outcomes sent normally
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


def _select_ends(bounds: Bounds) -> Offsets:
    return {partition: end for partition, (_, end) in bounds.items()}
