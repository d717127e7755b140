"""What becomes of a record that can never be processed: kept, as it was, with the reason beside it (invariant 8)."""

from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import ConsumerRecord

from shared.errors import Poison
from shared.messaging.records import Record
from shared.topics import MEBIBYTE

MAX_MESSAGE = 1000
MAX_VALUE = 6 * MEBIBYTE + 512 * 1024
"""Bytes that are kept of a value. Only what a producer had compressed could be larger."""
REPLAYS = "pinflow-replay-count"
FIRST_SEEN = "pinflow-first-seen"
TRUNCATED = "pinflow-truncated"
"""Only on a value that was cut: how many bytes it had."""
PREFIX = "pinflow-"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    record: "ConsumerRecord[bytes, bytes]"
    reason: Poison


def to_record(letter: DeadLetter, *, service: str) -> Record:
    """The original key, bytes and headers, and Pinflow's headers, all text: where it lay, who gave up, why, since when."""
    record, reason = letter.record, letter.reason
    original = [(name, value) for name, value in record.headers if value is not None]
    known = {name: value for name, value in original if name in {REPLAYS, FIRST_SEEN}}
    about = {
        "pinflow-topic": record.topic,
        "pinflow-partition": str(record.partition),
        "pinflow-offset": str(record.offset),
        "pinflow-service": service,
        "pinflow-error-class": type(reason).__name__,
        "pinflow-error-code": reason.code.value,
        "pinflow-error-message": reason.message[:MAX_MESSAGE],
    }
    headers = [(name, value) for name, value in original if not name.startswith(PREFIX)]
    headers += [(name, text.encode(errors="replace")) for name, text in about.items()]
    headers.append((FIRST_SEEN, known.get(FIRST_SEEN, datetime.now(UTC).isoformat().encode())))
    headers.append((REPLAYS, known.get(REPLAYS, b"0")))
    value = record.value or b""
    if len(value) > MAX_VALUE:
        headers.append((TRUNCATED, str(len(value)).encode()))
    return Record(record.key, value[:MAX_VALUE], headers)
