"""Encodes records as a compressed record batch of Kafka."""

from collections.abc import Sequence

from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from shared.kafka.records import SNAPPY_CODEC, Record


def encode_batch(
    records: Sequence[Record],
    *,
    max_bytes: int,
    producer_id: int = -1,
    epoch: int = -1,
    sequence: int = -1,
) -> bytes:
    """Encodes the records as one compressed batch.

    Raises MessageSizeTooLargeError if they take more than `max_bytes` before compression.
    """
    builder = DefaultRecordBatchBuilder(
        2,
        # Compresses an import to a sixth of its size for 0.15 µs a row (ADR 0011)
        SNAPPY_CODEC,
        is_transactional=0,
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
        batch_size=max_bytes,
    )
    for offset, record in enumerate(records):
        if builder.append(offset, None, record.key, record.value, record.headers) is None:
            raise MessageSizeTooLargeError(
                f"{len(records)} records are larger than {max_bytes} bytes"
            )
    return bytes(builder.build())
