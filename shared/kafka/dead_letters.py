"""What becomes of a record that can never be processed: kept, as it was, with the reason beside it
(invariant 8).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import ConsumerRecord

from shared.contract.dead_letters import (
    ERROR_CLASS,
    ERROR_CODE,
    ERROR_MESSAGE,
    FIRST_SEEN,
    OFFSET,
    PARTITION,
    PREFIX,
    REPLAYS,
    SERVICE,
    TOPIC,
    TRUNCATED,
)
from shared.contract.errors import Poison
from shared.contract.import_limits import MEBIBYTE
from shared.kafka.records import Header, Record

MAX_MESSAGE = 1000
MAX_VALUE = 6 * MEBIBYTE + 512 * 1024
"""Bytes that are kept of a value. Only what a producer had compressed could be larger."""
MAX_AROUND = 256 * 1024
"""Bytes that are kept of key and headers beside the largest value; beside a smaller one there is
room for more.
"""
MAX_HISTORY = 64
"""Bytes of a header that tells of replays.

Whoever produces can send one, and ingest hands it on to each of 500 rows.
"""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    record: "ConsumerRecord[bytes, bytes]"
    reason: Poison


def history_of(headers: Iterable[tuple[str, bytes | None]]) -> list[Header]:
    """What a record that was replayed tells of its replays: to be handed on to whatever it becomes,
    so that none is replayed for ever.
    """
    told = {
        name: value
        for name, value in headers
        if name in {REPLAYS, FIRST_SEEN} and value is not None and len(value) <= MAX_HISTORY
    }
    return list(told.items())  # once each, however often they came


def to_record(letter: DeadLetter, *, service: str) -> Record:
    """The original key, bytes and headers, and Pinflow's headers, all text: where it lay, who gave
    up, why, since when.
    """
    record, reason = letter.record, letter.reason
    known = dict(history_of(record.headers))
    about = {
        TOPIC: record.topic,
        PARTITION: str(record.partition),
        OFFSET: str(record.offset),
        SERVICE: service,
        ERROR_CLASS: type(reason).__name__,
        ERROR_CODE: reason.code.value,
        ERROR_MESSAGE: reason.message[:MAX_MESSAGE],
    }
    original = [
        (name, value)
        for name, value in record.headers
        if value is not None and not name.startswith(PREFIX)
    ]
    value = record.value or b""
    room = max(MAX_AROUND, MAX_VALUE - len(value))
    key = record.key[:room] if record.key else record.key
    kept = _that_fit(original, room - len(key or b""))
    headers = kept + [(name, text.encode(errors="replace")) for name, text in about.items()]
    headers.append((FIRST_SEEN, known.get(FIRST_SEEN, datetime.now(UTC).isoformat().encode())))
    headers.append((REPLAYS, known.get(REPLAYS, b"0")))
    if len(value) > MAX_VALUE or key != record.key or len(kept) < len(original):
        headers.append((TRUNCATED, str(len(value)).encode()))
    return Record(key, value[:MAX_VALUE], headers)


def _that_fit(headers: list[Header], room: int) -> list[Header]:
    """All of them, unless they are megabytes that had been compressed: then those before the one
    that is too much.
    """
    for count, (name, value) in enumerate(headers):
        room -= len(name.encode(errors="replace")) + len(value)
        if room < 0:
            return headers[:count]
    return headers
