"""Folds imports and outcomes into jobs, and keeps uploads."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import structlog
from aiokafka import ConsumerRecord
from pydantic import ValidationError

from services.status.folding import Fold, Foldable, Upload, fold, weight
from shared.contract.errors import ErrorCode, Poison, Refused
from shared.contract.events import FileUploaded, RowsSettled, decode_import
from shared.contract.import_records import is_import, is_upload
from shared.contract.topics import TopicName, TopicNames
from shared.contract.validation import describe
from shared.contract.wire import decoder
from shared.kafka.batches import Batch
from shared.kafka.dead_letters import DeadLetter
from shared.kafka.positions.advance import Advance
from shared.runtime import metrics
from shared.runtime.chunks import chunked
from shared.runtime.periodic import Sweeper

log = structlog.get_logger()

FOLDED_AT_ONCE = 20_000
"""Rows of one transaction: 0.25 s. Ten times as many (a batch can have them) did not end within 10
s, and were tried again unchanged.
"""
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of a zstd frame. The rest is not checked."""

_parse_outcomes = decoder(RowsSettled)
_parse_about = decoder(FileUploaded)


class Delivered(NamedTuple):
    record: "ConsumerRecord[bytes, bytes]"
    event: Foldable


class Folds(Protocol):
    async def fold(self, batch: Fold, advance: Advance, *, moves: bool) -> int: ...


class FoldHandler:
    """Folds a batch in few transactions, each of which can be repeated.

    A record that Postgres refuses is found by halving, and given up alone. Without `keep_uploads`,
    uploads are dropped.
    """

    def __init__(
        self, store: Folds, names: TopicNames, announcer: Sweeper, *, keep_uploads: bool = True
    ) -> None:
        self._store = store
        self._imports = names[TopicName.IMPORTS]
        self._announcer = announcer
        self._keep_uploads = keep_uploads

    def decode(self, records: Batch) -> tuple[list[Delivered], list[DeadLetter]]:
        delivered, poison = [], []
        for record in records:
            try:
                event = self._parse(record)
            except ValidationError as error:
                poison.append(DeadLetter(record, Poison(ErrorCode.INVALID_RECORD, describe(error))))
            except Poison as reason:
                poison.append(DeadLetter(record, reason))
            else:
                if self._keep_uploads or not isinstance(event, Upload):
                    delivered.append(Delivered(record, event))
        return delivered, poison

    def _parse(self, record: "ConsumerRecord[bytes, bytes]") -> Foldable:
        value = record.value or b""
        if record.topic == self._imports:
            if is_import(value):
                return decode_import(value)
            if is_upload(value):
                return _parse_upload(value)
        return _parse_outcomes(value)

    async def process(
        self, decoded: list[Delivered], _poison: list[DeadLetter], advance: Advance
    ) -> list[DeadLetter]:
        letters: list[DeadLetter] = []
        weights = [weight(delivered.event) for delivered in decoded]
        folds = list(chunked(decoded, FOLDED_AT_ONCE, weights))
        for portion in folds:
            letters += await self._fold(portion, advance, moves=len(folds) == 1)
        return letters

    async def _fold(
        self, delivered: Sequence[Delivered], advance: Advance, *, moves: bool
    ) -> list[DeadLetter]:
        batch = fold([one.event for one in delivered])
        try:
            ended = await self._store.fold(batch, advance, moves=moves)
        except Refused as refusal:
            if len(delivered) == 1:
                return [
                    DeadLetter(delivered[0].record, Poison(ErrorCode.RECORD_REFUSED, str(refusal)))
                ]
            middle = len(delivered) // 2
            halves = (delivered[:middle], delivered[middle:])
            return [
                letter for half in halves for letter in await self._fold(half, advance, moves=False)
            ]
        metrics.UPLOADS_KEPT_BYTES.inc(batch.upload_bytes)
        if ended:
            self._announcer.wake()
        return []


def _parse_upload(value: bytes) -> Upload:
    """Parses a FileUploaded: a line of JSON, then zstd. Raises ValidationError, Poison."""
    line, _, content = value.partition(b"\n")
    about = _parse_about(line)
    if not content.startswith(ZSTD_MAGIC):
        raise Poison(ErrorCode.INVALID_RECORD, "No zstd frame follows the upload's first line.")
    return Upload(about, content)
