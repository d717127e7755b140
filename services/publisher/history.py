"""Reads the topic `outcomes` into publisher.row_outcomes, so that a replay gives the same outcomes.

The topic is the record of what was decided. If Postgres is older than Kafka, rows are read again
whose outcomes stand there already. Before any row is read, those outcomes are recorded; rows that
are recorded are settled exactly so (ADR 0031).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias
from uuid import UUID

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from pydantic import ValidationError

from services.publisher.announcements import POSITIONS_HEADER, parse_positions
from services.publisher.identity import pin_id_of_schedule
from services.publisher.repository import PinStore
from shared.decoding import decoder
from shared.errors import BrokerUnavailable
from shared.events import RowResult, RowsSettled, RowStatus
from shared.messaging.admin import cluster_id
from shared.messaging.connection import client_options
from shared.messaging.positions import Advance, Span, StoredPosition
from shared.messaging.tracking import Preparation
from shared.settings import ServiceSettings
from shared.topics import TopicName, TopicNames

log = structlog.get_logger()

RECORDS_AT_ONCE = 500
"""Records of one transaction: at most 100 000 rows, usually far fewer."""
SILENCE_SECONDS = 10.0
"""How long Kafka may give nothing although records are there."""
REQUEST_SECONDS = 10.0

Record: TypeAlias = "ConsumerRecord[bytes, bytes]"
Offsets: TypeAlias = dict[TopicPartition, int]
RowOutcome: TypeAlias = tuple[UUID, int, str, UUID | None, UUID | None, bool | None, str | None, str | None, UUID | None]
"""As the columns of repository.OUTCOME_COLUMNS."""

_parse = decoder(RowsSettled)


class OutcomeHistory(Preparation):
    """The publisher's own position in `outcomes`: all before it is in Postgres, as far as needed.

    Outcomes are sent after their rows' positions are stored. So while all is well, whatever stands
    in the topic is of rows before the stored positions, and the position moves along unread. One
    for all members of a process: calls take turns.
    """

    def __init__(self, store: PinStore, settings: ServiceSettings, names: TopicNames) -> None:
        self._store = store
        self._settings = settings
        self._topic = names[TopicName.OUTCOMES]
        self._imports = names[TopicName.IMPORTS]
        self._turns = asyncio.Lock()
        self._reader: AIOKafkaConsumer | None = None
        self._known: Offsets = {}
        self._checked_at = 0.0

    async def taken_over(self) -> Offsets:
        """Returns the ends: at the first start of an installation from before, nothing is replayed."""
        async with self._turns:
            _, ends = await self._bounds()
            return ends

    async def catch_up(self) -> None:
        """Records what stands in the topic of rows behind the stored positions.

        Raises DatabaseUnavailable, BrokerUnavailable, PositionBehind.
        """
        async with self._turns:
            self._checked_at = time.monotonic()
            cluster = await cluster_id(self._settings)
            begins, ends = await self._bounds()
            stored = await self._store.positions.load()
            self._known = {one: _start(stored.get(one), begins[one], ends[one], cluster) for one in ends}
            await self._store.positions.put(self._known, cluster)
            async for records in self._read_to(ends):
                await self._record(records)
            await self._move_to(ends)

    async def move_along(self) -> None:
        """Moves the position to the topic's end. Raises what `catch_up` raises."""
        if self._turns.locked():
            return  # another member is about to
        async with self._turns:
            _, ends = await self._bounds()
            await self._move_to(ends)

    async def close(self) -> None:
        """Closes the connection to Kafka."""
        reader, self._reader = self._reader, None
        if reader is not None:
            await reader.stop()

    async def _record(self, records: Sequence[Record]) -> None:
        """Records a portion, and its end as the position, in one transaction."""
        # Read after the records: what was sent while all was well lies before these positions
        stored = await self._store.positions.load()
        reached = {one.partition: at.next_offset for one, at in stored.items() if one.topic == self._imports}
        wanted = (record for record in records if _is_ahead(record, reached))
        rows = outcomes_in(wanted)
        ends = {TopicPartition(one.topic, one.partition): one.offset + 1 for one in records}
        await self._store.record_outcomes(rows, self._advance(ends))
        self._known |= ends
        if rows:
            log.info("outcomes_recorded", rows=len(rows))

    async def _move_to(self, ends: Offsets) -> None:
        moved = {one: end for one, end in ends.items() if end > self._known.get(one, 0)}
        if moved:
            await self._store.positions.move(self._advance(moved))
            self._known |= moved

    def _advance(self, ends: Offsets) -> Advance:
        spans = {one: Span(self._known.get(one, 0), end) for one, end in ends.items()}
        return Advance(spans, self._checked_at)

    async def _bounds(self) -> tuple[Offsets, Offsets]:
        """Reads where each partition begins and ends."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                reader = await self._connected()
                partitions = await self._partitions(reader)
                return await reader.beginning_offsets(partitions), await reader.end_offsets(partitions)
        except (KafkaError, OSError) as error:
            await self.close()
            raise BrokerUnavailable(repr(error)) from error

    async def _connected(self) -> AIOKafkaConsumer:
        if self._reader is None:
            client_id = f"pinflow-publisher-history-{self._settings.replica}"
            reader = AIOKafkaConsumer(
                **client_options(self._settings, client_id=client_id),
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
            )
            await reader.start()
            self._reader = reader
        return self._reader

    async def _partitions(self, reader: AIOKafkaConsumer) -> list[TopicPartition]:
        await reader._client._wait_on_metadata(self._topic)  # noqa: SLF001 - without a subscription it knows no topic
        numbers = reader.partitions_for_topic(self._topic)
        if not numbers:
            raise UnknownTopicOrPartitionError(self._topic)
        return [TopicPartition(self._topic, number) for number in sorted(numbers)]

    async def _read_to(self, ends: Offsets) -> AsyncIterator[list[Record]]:
        """Reads from the known positions to the ends, portion by portion."""
        left = {one: end for one, end in ends.items() if self._known[one] < end}
        if not left:
            return
        reader = await self._connected()
        reader.assign(list(left))
        try:
            for partition in left:
                reader.seek(partition, self._known[partition])
            while left:
                found = await reader.getmany(*left, timeout_ms=int(SILENCE_SECONDS * 1000), max_records=RECORDS_AT_ONCE)
                if not found:
                    raise BrokerUnavailable(f"no outcomes within {SILENCE_SECONDS:g} s although there are more")
                yield [record for records in found.values() for record in records]
                left = {one: end for one, end in left.items() if await reader.position(one) < end}
        except KafkaError as error:
            raise BrokerUnavailable(repr(error)) from error
        finally:
            reader.unsubscribe()


def _start(stored: StoredPosition | None, begin: int, end: int, cluster: str) -> int:
    """Returns where to read from. A position that does not fit the log counts as its beginning: to
    record an outcome that was known is harmless."""
    if stored is None or stored.cluster_id != cluster or not begin <= stored.next_offset <= end:
        if stored is not None and stored.cluster_id == cluster and stored.next_offset < begin:
            log.warning("outcomes_gone", stored=stored.next_offset, begin=begin, next="rows are decided anew")
        return begin
    return stored.next_offset


def _is_ahead(record: Record, stored: Mapping[int, int]) -> bool:
    """Tells whether a record's batch went beyond the stored positions. Without the header: yes."""
    header = dict(record.headers).get(POSITIONS_HEADER)
    if header is None:
        return True
    try:
        reached = parse_positions(header)
    except ValueError:
        return True
    return any(offset > stored.get(partition, 0) for partition, offset in reached.items())


def outcomes_in(records: Iterable[Record]) -> list[RowOutcome]:
    """Parses records of `outcomes`. Of several results of a row the first counts, as for status."""
    first: dict[tuple[UUID, int], RowOutcome] = {}
    for record in records:
        for row in _rows_of(record):
            first.setdefault(row[:2], row)
    return list(first.values())


def _rows_of(record: Record) -> Iterator[RowOutcome]:
    try:
        event = _parse(record.value or b"")
    except ValidationError:
        return  # the status service gives it up
    for result in event.results:
        yield _row(event.job_id, result)


def _row(job_id: UUID, result: RowResult) -> RowOutcome:
    pin_id, schedule_id = result.pin_id, result.schedule_id
    if result.status == RowStatus.FAILED:
        failure = (result.error_code or "", result.error_message or "")
        return (job_id, result.row_number, result.status, None, None, None, *failure, None)
    promised = None
    if result.status == RowStatus.CREATED:
        promised = pin_id or (pin_id_of_schedule(schedule_id) if schedule_id else None)
    matches = result.payload_matches
    return (job_id, result.row_number, result.status, pin_id, schedule_id, matches, None, None, promised)
