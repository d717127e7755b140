"""Reads the topic `outcomes` into publisher.row_outcomes, so that a replay gives the same outcomes.

The topic is the record of all decisions. If Postgres is older than Kafka, the publisher reads rows
again that have outcomes in the topic. So it records those outcomes before it reads any row. A row
with a recorded outcome settles with exactly that outcome (ADR 0031).
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias
from uuid import UUID

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError, UnknownTopicOrPartitionError
from pydantic import ValidationError

from services.publisher.rows.events import POSITIONS_HEADER, parse_positions
from services.publisher.rows.repository import RowRepository
from shared.contract.decoding import decoder
from shared.contract.errors import BrokerUnavailable, PositionBehind
from shared.contract.events import RowResult, RowsSettled, RowStatus
from shared.contract.schedule_ids import pin_id_of_schedule
from shared.contract.topics import TopicName, TopicNames
from shared.kafka.admin import cluster_id
from shared.kafka.connection import client_options
from shared.kafka.positions.advance import Advance, Span
from shared.kafka.positions.rules import StoredPosition
from shared.kafka.positions.tracker import Preparation
from shared.kafka.progress import ends_of
from shared.runtime.settings import ServiceSettings

log = structlog.get_logger()

RECORDS_AT_ONCE = 500
"""Records per transaction: at most 100 000 rows, usually far fewer."""
ANALYZED_ROWS = 1000
"""New rows from which the table is analyzed. With the statistics of an almost empty table the
planner scans row_outcomes for each batch (measured: 0.5 s instead of 1 ms at 500 000 rows)."""
BEHIND_SECONDS = 60.0
"""How far the position stays behind the topic's end. It covers SEND_TIMEOUT_SECONDS until a lost
batch's last outcomes arrive, the time until its publisher notices, and its IN_FLIGHT_SECONDS."""
SILENCE_SECONDS = 10.0
"""How long Kafka may return no records although there are more."""
REQUEST_SECONDS = 10.0

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"
Offsets: TypeAlias = dict[TopicPartition, int]
Bounds: TypeAlias = dict[TopicPartition, tuple[int, int]]
"""By partition: its first offset and the offset behind its last record."""
RowOutcome: TypeAlias = tuple[
    UUID,
    int,
    str,
    UUID | None,
    UUID | None,
    bool | None,
    str | None,
    str | None,
    UUID | None,
]
"""A row of publisher.row_outcomes, in the order of repository.OUTCOME_COLUMNS."""

_parse = decoder(RowsSettled)


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
        self._turns = asyncio.Lock()
        self._connecting = asyncio.Lock()
        self._reader: AIOKafkaConsumer | None = None
        self._known: Offsets = {}
        self._checked_at = 0.0
        self._ends: deque[tuple[float, Offsets]] = deque()
        """When the topic's ends were read, by the monotonic clock, and the ends. Oldest first."""
        self.confirmed_at = 0.0
        """When Postgres last had all needed outcomes for certain, by the monotonic clock."""

    async def offsets_to_take_over(self) -> Offsets:
        """Returns the topic's ends: the first start after an upgrade replays nothing."""
        return _log_ends(await self._bounds())

    async def catch_up(self) -> None:
        """Records the topic's outcomes of rows behind the stored positions.

        Raises DatabaseUnavailable, BrokerUnavailable, PositionBehind.
        """
        async with self._turns:
            checked_at = time.monotonic()
            cluster = await cluster_id(self._settings)
            # Positions before bounds: other members move positions up to ends that they have read
            stored = await self._store.positions.load()
            bounds = await self._bounds()
            await self._start_at(stored, bounds, cluster)
            self._checked_at = checked_at
            rows = 0
            async for records in self._read_to(_log_ends(bounds)):
                rows += await self._record(records)
            if rows >= ANALYZED_ROWS:
                await self._store.analyze_outcomes()
            self.confirmed_at = checked_at

    async def _start_at(
        self,
        stored: Mapping[TopicPartition, StoredPosition],
        bounds: Bounds,
        cluster: str,
    ) -> None:
        """Starts at the stored positions, or at the beginning of a log that they do not fit.

        An outcome that is recorded twice does no harm.
        """
        self._known, unfit = {}, {}
        for partition, (begin, end) in bounds.items():
            position = stored.get(partition)
            if position is not None and _fits(position, begin, end, cluster):
                self._known[partition] = position.next_offset
            else:
                self._known[partition] = unfit[partition] = begin
        if unfit:
            next_step = "rows whose outcomes are gone are decided anew"
            log.warning("outcomes_read_whole", positions=len(unfit), next=next_step)
            await self._store.positions.reset(unfit, cluster)

    async def move_along(self) -> None:
        """Moves the position to the topic's end of a minute ago. Raises what `catch_up` raises."""
        looked_at = time.monotonic()
        ends = _log_ends(await self._bounds())
        async with self._turns:
            if any(end < self._known.get(partition, 0) for partition, end in ends.items()):
                raise PositionBehind(f"the topic {self._topic} ends before its position: read it")
            self._ends.append((looked_at, ends))
            await self._confirm(looked_at)

    async def confirm(self, made_at: float) -> None:
        """Checks that a connection made at `made_at` leads to a Postgres with all needed outcomes.

        Raises Unavailable, including PositionBehind, if that is not certain.
        """
        if made_at <= self.confirmed_at:
            return
        async with self._turns:
            if made_at > self.confirmed_at:
                await self._confirm(time.monotonic())

    async def _confirm(self, looked_at: float) -> None:
        """Moves the position as far as it may. Raises PositionBehind if Postgres was replaced."""
        if not self._checked_at:
            raise PositionBehind(f"the topic {self._topic} has not been read yet: wait until it is")
        ends = dict(self._known)
        while self._ends and self._ends[0][0] <= looked_at - BEHIND_SECONDS:
            ends |= self._ends.popleft()[1]
        known = {partition: end for partition, end in ends.items() if partition in self._known}
        await self._move_to(known)
        self.confirmed_at = looked_at

    async def close(self) -> None:
        """Closes the connection to Kafka."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.stop()

    async def _record(self, records: Sequence[Record]) -> int:
        """Records a portion and moves the position behind it, in one transaction. Counts rows."""
        # Positions after the records: outcomes that were sent normally lie before these positions
        stored = await self._store.positions.load()
        reached = {
            partition.partition: position.next_offset
            for partition, position in stored.items()
            if partition.topic == self._imports
        }
        wanted = (record for record in records if _is_ahead(record, reached))
        rows = outcomes_in(wanted)
        ends = ends_of(records)
        await self._store.record_outcomes(rows, self._advance(ends))
        self._known |= ends
        if rows:
            log.info("outcomes_recorded", rows=len(rows))
        return len(rows)

    async def _move_to(self, ends: Offsets) -> None:
        await self._store.positions.move(self._advance(ends))
        for partition, end in ends.items():
            self._known[partition] = max(end, self._known[partition])

    def _advance(self, ends: Offsets) -> Advance:
        spans = {
            partition: Span(self._known.get(partition, 0), end) for partition, end in ends.items()
        }
        return Advance(spans, self._checked_at)

    async def _bounds(self) -> Bounds:
        """Reads the bounds of each partition."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                reader = await self._connected()
                partitions = await self._partitions(reader)
                begins = await reader.beginning_offsets(partitions)
                ends = await reader.end_offsets(partitions)
                return {partition: (begins[partition], ends[partition]) for partition in partitions}
        except (KafkaError, ConsumerStoppedError, OSError) as error:
            await self.close()
            raise BrokerUnavailable(repr(error)) from error

    async def _connected(self) -> AIOKafkaConsumer:
        async with self._connecting:
            if self._reader is None:
                client_id = f"pinflow-publisher-history-{self._settings.replica}"
                reader = AIOKafkaConsumer(
                    **client_options(self._settings, client_id=client_id),
                    group_id=None,
                    enable_auto_commit=False,
                    auto_offset_reset="none",
                )
                try:
                    await reader.start()
                except BaseException:
                    await reader.stop()
                    raise
                self._reader = reader
            return self._reader

    async def _partitions(self, reader: AIOKafkaConsumer) -> list[TopicPartition]:
        # aiokafka 0.14 has no public way to load a topic's metadata without a subscription
        await reader._client._wait_on_metadata(self._topic)  # noqa: SLF001
        numbers = reader.partitions_for_topic(self._topic)
        if not numbers:
            raise UnknownTopicOrPartitionError(self._topic)
        return [TopicPartition(self._topic, number) for number in sorted(numbers)]

    async def _read_to(self, ends: Offsets) -> AsyncIterator[list[Record]]:
        """Reads from the known positions to the ends, portion by portion."""
        left = {partition: end for partition, end in ends.items() if self._known[partition] < end}
        if not left:
            return
        reader = await self._connected()
        reader.assign(list(left))
        try:
            for partition in left:
                reader.seek(partition, self._known[partition])
            while left:
                timeout_ms = int(SILENCE_SECONDS * 1000)
                found = await reader.getmany(
                    *left,
                    timeout_ms=timeout_ms,
                    max_records=RECORDS_AT_ONCE,
                )
                if not found:
                    await self.close()  # the reader's fetches may have ended for good
                    raise BrokerUnavailable(
                        f"Kafka returned no records of {self._topic} within {SILENCE_SECONDS:g} s "
                        "although there are more: they are read again",
                    )
                yield [record for records in found.values() for record in records]
                left = {
                    partition: end
                    for partition, end in left.items()
                    if await reader.position(partition) < end
                }
        except (KafkaError, ConsumerStoppedError) as error:  # another call may have closed it
            await self.close()
            raise BrokerUnavailable(repr(error)) from error
        finally:
            reader.unsubscribe()


def _log_ends(bounds: Bounds) -> Offsets:
    return {partition: end for partition, (_, end) in bounds.items()}


def _fits(position: StoredPosition, begin: int, end: int, cluster: str) -> bool:
    return position.cluster_id == cluster and begin <= position.next_offset <= end


def _is_ahead(record: Record, stored: Mapping[int, int]) -> bool:
    """Tells whether a record's batch went beyond the stored positions. True without the header."""
    header = dict(record.headers).get(POSITIONS_HEADER)
    if header is None:
        return True
    try:
        reached = parse_positions(header)
    except ValueError:
        return True
    return any(offset > stored.get(partition, 0) for partition, offset in reached.items())


def _storable(text: str | None) -> str:
    return (text or "").replace("\0", "")


def outcomes_in(records: Iterable[Record]) -> list[RowOutcome]:
    """Parses records of `outcomes`. A row's first result counts, as in the status service."""
    first: dict[tuple[UUID, int], RowOutcome] = {}
    for record in records:
        for row in _rows_of(record):
            first.setdefault(row[:2], row)
    return list(first.values())


def _rows_of(record: Record) -> Iterator[RowOutcome]:
    try:
        event = _parse(record.value or b"")
    except ValidationError:
        return  # the status service writes its dead letter
    for result in event.results:
        if (row := _row(event.job_id, result)) is not None:
            yield row
        else:
            number = result.row_number
            log.warning("outcome_passed_over", job_id=str(event.job_id), row_number=number)


def _row(job_id: UUID, result: RowResult) -> RowOutcome | None:
    """Builds the row to record. None if a result has no pin, no schedule and no failure."""
    pin_id, schedule_id = result.pin_id, result.schedule_id
    if result.status == RowStatus.FAILED:
        failure = (_storable(result.error_code), _storable(result.error_message))
        return (job_id, result.row_number, result.status, None, None, None, *failure, None)
    if pin_id is None and schedule_id is None:
        return None
    promised = None
    if result.status == RowStatus.CREATED:
        promised = pin_id or (pin_id_of_schedule(schedule_id) if schedule_id else None)
    return (
        job_id,
        result.row_number,
        result.status,
        pin_id,
        schedule_id,
        result.payload_matches,
        None,
        None,
        promised,
    )
