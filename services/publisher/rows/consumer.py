"""Consumes rows from `imports`, and sends their outcomes and pin events.

docs/explanation/architecture.md numbers the invariants.
"""

import asyncio
from collections import Counter
from typing import TypeAlias

from aiokafka import ConsumerRecord
from pydantic import ValidationError

from services.publisher.rows.cancellation import RecordPosition
from services.publisher.rows.outcomes import (
    CreatedRow,
    ExistingRow,
    FailedRow,
    Outcome,
    RecordedRow,
)
from services.publisher.rows.records import build_outcome_records, build_pin_event_records
from services.publisher.rows.service import RowService
from shared.contract.errors import ErrorCode, Poison
from shared.contract.events import RowAccepted, RowStatus
from shared.contract.import_records import is_row
from shared.contract.row_identity import identify_row
from shared.contract.topics import TopicName, TopicNames
from shared.contract.validation import describe_validation_error
from shared.contract.wire import UNDECODABLE, decoder
from shared.kafka.batches import Batch
from shared.kafka.dead_letters import DeadLetter
from shared.kafka.positions.advance import Advance
from shared.kafka.producer import RecordSender
from shared.runtime import metrics

_parse = decoder(RowAccepted)


DecodedRow: TypeAlias = "tuple[ConsumerRecord[bytes, bytes], RowAccepted]"
"""A record and the row in it."""


class RowsHandler:
    """Settles the rows of a batch.

    An unreadable record goes to the dead letters. Its row also settles as failed if its job and row
    number can be read (invariant 8).
    """

    def __init__(self, rows: RowService, producer: RecordSender, names: TopicNames) -> None:
        self._rows = rows
        self._producer = producer
        self._outcomes = names[TopicName.OUTCOMES]
        self._pin_events = names[TopicName.PIN_EVENTS]

    def decode(self, records: Batch) -> tuple[list[DecodedRow], list[DeadLetter]]:
        try:
            return [(record, _parse.strict(record.value or b"")) for record in records], []
        except UNDECODABLE:
            return self._decode_each(records)

    def _decode_each(self, records: Batch) -> tuple[list[DecodedRow], list[DeadLetter]]:
        rows: list[DecodedRow] = []
        poison = []
        for record in records:
            try:
                rows.append((record, _parse(record.value or b"")))
            except ValidationError as error:
                poison.append(
                    DeadLetter(
                        record, Poison(ErrorCode.INVALID_RECORD, describe_validation_error(error))
                    )
                )
        return rows, poison

    async def process(
        self, decoded: list[DecodedRow], poison: list[DeadLetter], advance: Advance
    ) -> list[DeadLetter]:
        # Only records of rows: an unknown kind may name a row but mean something else
        unreadable = [
            identity
            for dead_letter in poison
            if is_row(dead_letter.record.value)
            and (identity := identify_row(dead_letter.record.value))
        ]
        settlement = await self._rows.settle(
            [row for _, row in decoded],
            unreadable,
            advance=advance,
            locate=lambda: _locate(decoded),
        )
        offsets = advance.offsets()
        end_offsets = {partition.partition: offset for partition, offset in offsets.items()}
        await asyncio.gather(
            self._producer.send(
                self._outcomes, build_outcome_records(settlement.outcomes, end_offsets)
            ),
            self._producer.send(self._pin_events, build_pin_event_records(settlement.outcomes)),
        )
        _count_outcomes(settlement.outcomes)
        if not settlement.rejected:
            return []
        messages = {id(row): message for row, message in settlement.rejected}
        return [
            DeadLetter(record, Poison(ErrorCode.RECORD_REFUSED, messages[id(row)]))
            for record, row in decoded
            if id(row) in messages
        ]


def _locate(decoded: list[DecodedRow]) -> dict[int, RecordPosition]:
    """Returns where the rows' records stand, by the id of the row's object."""
    return {id(row): RecordPosition(record.partition, record.offset) for record, row in decoded}


def _count_outcomes(outcomes: list[Outcome]) -> None:
    counts = Counter(map(_get_status, outcomes))
    for status, count in counts.items():
        metrics.ROWS_SETTLED.labels("publisher", status).inc(count)


def _get_status(outcome: Outcome) -> RowStatus:
    match outcome:
        case CreatedRow():
            return RowStatus.CREATED
        case ExistingRow():
            return RowStatus.EXISTING
        case FailedRow():
            return RowStatus.FAILED
        case RecordedRow():
            return outcome.recorded.status
