"""Builds record batches in the format of Kafka's log, without a broker."""

import struct
from collections.abc import Sequence

from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

NO_CODEC, SNAPPY = 0, 2
CONTROL = 0x20
_CRC, _ATTRIBUTES, _LAST_DELTA, _COUNT = 17, 21, 23, 57
"""Byte positions of fields in a batch of version 2.

The CRC covers everything from the attributes to the end.
"""


def build_record_batch(
    values: Sequence[bytes | None],
    *,
    base_offset: int = 0,
    codec: int = NO_CODEC,
    removed: Sequence[int] = (),
    is_control: bool = False,
) -> bytes:
    """Packs values as one batch that begins at offset `base_offset`.

    `removed`: positions of values that compaction removed. The others keep their offsets.
    """
    builder = DefaultRecordBatchBuilder(2, codec, 0, 7, 0, 0, 1 << 30)
    for position, value in enumerate(values):
        if position not in removed:
            builder.append(position, 1_700_000_000_000, b"job", value, [("trace", b"\xff")])
    batch = bytearray(builder.build())
    struct.pack_into(">q", batch, 0, base_offset)
    struct.pack_into(">i", batch, _LAST_DELTA, len(values) - 1)
    struct.pack_into(">i", batch, _COUNT, len(values) - len(removed))
    if is_control:
        (attributes,) = struct.unpack_from(">h", batch, _ATTRIBUTES)
        struct.pack_into(">h", batch, _ATTRIBUTES, attributes | CONTROL)
    struct.pack_into(">I", batch, _CRC, calc_crc32c(bytes(batch[_ATTRIBUTES:])))
    return bytes(batch)
