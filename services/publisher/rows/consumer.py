"""Rows come in, outcomes and pin events go out."""

import asyncio
from collections import Counter
from typing import TypeAlias

from aiokafka import ConsumerRecord
from pydantic import ValidationError

from services.publisher.rows.events import outcome_records, pin_event_records
from services.publisher.rows.outcomes import Created, Existing, Failed, Outcome, Replayed
from services.publisher.rows.service import RowService
from shared.contract.errors import ErrorCode, Poison
from shared.contract.events import RowAccepted, RowStatus
from shared.contract.import_records import is_row
from shared.contract.row_identity import row_identity
from shared.contract.topics import TopicName, TopicNames
from shared.contract.validation import describe
from shared.contract.wire import UNDECODABLE, decoder
from shared.kafka.batches import Batch
from shared.kafka.dead_letters import DeadLetter
from shared.kafka.positions.advance import Advance
from shared.kafka.producer import RecordSender
from shared.runtime import metrics

_parse = decoder(RowAccepted)


Delivered: TypeAlias = "tuple[ConsumerRecord[bytes, bytes], RowAccepted]"


class RowsHandler:
    """Settles the rows of a batch. An unreadable row settles as failed if its identity can be read
    (invariant 8).
    """

    def __init__(self, rows: RowService, producer: RecordSender, names: TopicNames) -> None:
        self._rows = rows
        self._producer = producer
        self._outcomes = names[TopicName.OUTCOMES]
        self._pin_events = names[TopicName.PIN_EVENTS]

    def decode(self, records: Batch) -> tuple[list[Delivered], list[DeadLetter]]:
        try:
            return [(record, _parse.strict(record.value or b"")) for record in records], []
        except UNDECODABLE:
            return self._decode_one_by_one(records)

    def _decode_one_by_one(self, records: Batch) -> tuple[list[Delivered], list[DeadLetter]]:
        delivered: list[Delivered] = []
        poison = []
        for record in records:
            try:
                delivered.append((record, _parse(record.value or b"")))
            except ValidationError as error:
                poison.append(DeadLetter(record, Poison(ErrorCode.INVALID_RECORD, describe(error))))
        return delivered, poison

    async def process(
        self, decoded: list[Delivered], poison: list[DeadLetter], advance: Advance
    ) -> list[DeadLetter]:
        # A record of a kind that is not known yet may say something else about a row
        unreadable = [
            identity
            for letter in poison
            if is_row(letter.record.value) and (identity := row_identity(letter.record.value))
        ]
        settlement = await self._rows.settle(
            [row for _, row in decoded], unreadable, advance=advance
        )
        offsets = advance.offsets()
        reached = {partition.partition: offset for partition, offset in offsets.items()}
        await asyncio.gather(
            self._producer.send(self._outcomes, outcome_records(settlement.outcomes, reached)),
            self._producer.send(self._pin_events, pin_event_records(settlement.outcomes)),
        )
        _count(settlement.outcomes)
        if not settlement.refused:
            return []
        refused = {id(row): message for row, message in settlement.refused}
        return [
            DeadLetter(record, Poison(ErrorCode.RECORD_REFUSED, refused[id(row)]))
            for record, row in decoded
            if id(row) in refused
        ]


def _count(outcomes: list[Outcome]) -> None:
    counts = Counter(map(_status_of, outcomes))
    for status, count in counts.items():
        metrics.ROWS_SETTLED.labels("publisher", status).inc(count)


def _status_of(outcome: Outcome) -> RowStatus:
    match outcome:
        case Created():
            return RowStatus.CREATED
        case Existing():
            return RowStatus.EXISTING
        case Failed():
            return RowStatus.FAILED
        case Replayed():
            return outcome.recorded.status
