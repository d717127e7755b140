"""Imports and outcomes come in; they are folded into jobs."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import structlog
from aiokafka import ConsumerRecord
from pydantic import ValidationError

from services.status.folding import Fold, Foldable, fold
from shared.database import Refused
from shared.errors import ErrorCode, Poison
from shared.events import IMPORT_EVENT, RowsSettled
from shared.messaging.consumer import Batch
from shared.messaging.dead_letters import DeadLetter
from shared.sweeper import Sweeper
from shared.topics import TopicName, TopicNames

log = structlog.get_logger()

_parse_outcomes = RowsSettled.__pydantic_validator__.validate_json


class Delivered(NamedTuple):
    record: "ConsumerRecord[bytes, bytes]"
    event: Foldable


class Folds(Protocol):
    async def fold(self, batch: Fold) -> int: ...


class FoldHandler:
    """Folds a batch in one transaction; a record that Postgres refuses is found by halving, and given up alone."""

    def __init__(self, store: Folds, names: TopicNames, announcer: Sweeper) -> None:
        self._store = store
        self._imports = names[TopicName.IMPORTS]
        self._announcer = announcer

    def decode(self, records: Batch) -> tuple[list[Delivered], list[DeadLetter]]:
        delivered, poison = [], []
        for record in records:
            try:
                delivered.append(Delivered(record, self._parse(record)))
            except ValidationError as error:
                poison.append(DeadLetter(record, Poison(ErrorCode.INVALID_RECORD, str(error))))
        return delivered, poison

    def _parse(self, record: "ConsumerRecord[bytes, bytes]") -> Foldable:
        value = record.value or b""
        return IMPORT_EVENT.validate_json(value) if record.topic == self._imports else _parse_outcomes(value)

    async def process(self, decoded: list[Delivered], _poison: list[DeadLetter]) -> list[DeadLetter]:
        return await self._fold(decoded) if decoded else []

    async def _fold(self, delivered: Sequence[Delivered]) -> list[DeadLetter]:
        try:
            ended = await self._store.fold(fold(one.event for one in delivered))
        except Refused as refusal:
            if len(delivered) == 1:
                return [DeadLetter(delivered[0].record, Poison(ErrorCode.RECORD_REFUSED, str(refusal)))]
            middle = len(delivered) // 2
            return [*await self._fold(delivered[:middle]), *await self._fold(delivered[middle:])]
        if ended:
            self._announcer.wake()
        return []
