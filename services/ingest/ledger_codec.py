"""Serializes the decision on a request for the ledger. Every request is decided only once.

A request may be delivered again after a crash, perhaps to a newer version with different rules.
Kafka may have the records of the first delivery, so the same records must be sent again (invariant
4 in docs/explanation/architecture.md).
"""

from dataclasses import dataclass, replace

import cramjam
import msgspec

from services.ingest.records import ZSTD_LEVEL, ImportBatch
from shared.kafka.records import Record


@dataclass(frozen=True, slots=True)
class RequestDecision:
    """The decision on a request: an import with its failed rows, or a rejection."""

    batch: ImportBatch
    accepted: bool
    failed_rows: int = 0

    def without_records(self) -> "RequestDecision":
        """Returns the decision with its counts and without its records."""
        return replace(self, batch=replace(self.batch, records=()))


_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(tuple[bytes, list[Record], int, bool, int]).decode


def pack(decision: RequestDecision) -> bytes:
    """Serializes a decision."""
    batch = decision.batch
    fields = (
        batch.key,
        list(batch.records),
        batch.row_count,
        decision.accepted,
        decision.failed_rows,
    )
    return bytes(cramjam.zstd.compress(_write(fields), ZSTD_LEVEL))


def unpack(packed: bytes) -> RequestDecision:
    """Deserializes a decision that `pack` serialized."""
    key, records, rows, accepted, failed_rows = _read(bytes(cramjam.zstd.decompress(packed)))
    return RequestDecision(ImportBatch(key, records, rows), accepted, failed_rows)
