"""Packs the decision on a request for the ledger, so that no request is judged twice.

A request may be delivered again after a crash, perhaps to a newer version with other rules. What
was sent the first time may stand in Kafka, so the same records must be sent again (invariant 4).
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
        """Returns the same with only the counts."""
        return replace(self, batch=replace(self.batch, records=()))


_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(tuple[bytes, list[Record], int, bool, int]).decode


def pack(decision: RequestDecision) -> bytes:
    """Writes the decision as bytes for the ledger."""
    batch = decision.batch
    fields = (batch.key, list(batch.records), batch.rows, decision.accepted, decision.failed_rows)
    return bytes(cramjam.zstd.compress(_write(fields), ZSTD_LEVEL))


def unpack(packed: bytes) -> RequestDecision:
    """Reads what `pack` wrote."""
    key, records, rows, accepted, failed_rows = _read(bytes(cramjam.zstd.decompress(packed)))
    return RequestDecision(ImportBatch(key, records, rows), accepted, failed_rows)
