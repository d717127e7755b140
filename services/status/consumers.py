"""Consumes imports and outcomes: decodes them and passes them to the FoldService."""

from typing import NamedTuple

from aiokafka import ConsumerRecord
from pydantic import ValidationError

from services.status.fold_service import FoldService
from services.status.folding import CompressedUpload, Foldable
from shared.contract.errors import ErrorCode, Poison
from shared.contract.events import FileUploaded, RowsSettled, decode_import
from shared.contract.import_records import is_import, is_upload
from shared.contract.topics import TopicName, TopicNames
from shared.contract.validation import describe_validation_error
from shared.contract.wire import decoder
from shared.kafka.batches import Batch
from shared.kafka.dead_letters import DeadLetter
from shared.kafka.positions.advance import Advance

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of a zstd frame. The rest is not checked."""

_parse_settled = decoder(RowsSettled)
_parse_upload_header = decoder(FileUploaded)


class DecodedRecord(NamedTuple):
    record: "ConsumerRecord[bytes, bytes]"
    event: Foldable


class FoldHandler:
    """Decodes events and folds them. Without `keep_uploads`, uploads are dropped."""

    def __init__(self, folds: FoldService, names: TopicNames, *, keep_uploads: bool = True) -> None:
        self._folds = folds
        self._imports = names[TopicName.IMPORTS]
        self._keep_uploads = keep_uploads

    def decode(self, records: Batch) -> tuple[list[DecodedRecord], list[DeadLetter]]:
        decoded, poison = [], []
        for record in records:
            try:
                event = self._parse(record)
            except ValidationError as error:
                poison.append(
                    DeadLetter(
                        record, Poison(ErrorCode.INVALID_RECORD, describe_validation_error(error))
                    )
                )
            except Poison as error:
                poison.append(DeadLetter(record, error))
            else:
                if self._keep_uploads or not isinstance(event, CompressedUpload):
                    decoded.append(DecodedRecord(record, event))
        return decoded, poison

    def _parse(self, record: "ConsumerRecord[bytes, bytes]") -> Foldable:
        value = record.value or b""
        if record.topic == self._imports:
            if is_import(value):
                return decode_import(value)
            if is_upload(value):
                return _parse_upload(value)
        return _parse_settled(value)

    async def process(
        self, decoded: list[DecodedRecord], _poison: list[DeadLetter], advance: Advance
    ) -> list[DeadLetter]:
        rejected = await self._folds.fold([item.event for item in decoded], advance)
        return [
            DeadLetter(decoded[index].record, Poison(ErrorCode.RECORD_REFUSED, message))
            for index, message in rejected.items()
        ]


def _parse_upload(value: bytes) -> CompressedUpload:
    """Parses a FileUploaded: a line of JSON, then zstd. Raises ValidationError or Poison."""
    line, _, content = value.partition(b"\n")
    header = _parse_upload_header(line)
    if not content.startswith(ZSTD_MAGIC):
        raise Poison(
            ErrorCode.INVALID_RECORD,
            "The upload is invalid: its first line must be followed by a zstd frame.",
        )
    return CompressedUpload(header, content)
