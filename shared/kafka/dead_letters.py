"""Makes dead letters of records that can never be processed (invariant 8).

A dead letter is the record as it was, with the reason in its headers.
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

MAX_MESSAGE_CHARACTERS = 1000
MAX_VALUE_BYTES = 6 * MEBIBYTE + 512 * 1024
"""The most bytes kept of a value. Only a value that its producer had compressed can be larger."""
MAX_KEY_AND_HEADERS_BYTES = 256 * 1024
"""The most bytes kept of key and headers beside the largest value. Beside a smaller value there is
limit for more.
"""
MAX_REPLAY_HEADER_BYTES = 64
"""The most bytes of a header about replays. Any producer can send one, and ingest copies it to each
of 500 rows.
"""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Names a record that can't be processed, and why."""

    record: "ConsumerRecord[bytes, bytes]"
    reason: Poison


def select_replay_headers(headers: Iterable[tuple[str, bytes | None]]) -> list[Header]:
    """Returns the headers about a record's replays, for the records that it becomes.

    They limit how often a dead letter is replayed.
    """
    history = {
        name: value
        for name, value in headers
        if name in {REPLAYS, FIRST_SEEN}
        and value is not None
        and len(value) <= MAX_REPLAY_HEADER_BYTES
    }
    return list(history.items())  # once each, however often they came


def to_record(dead_letter: DeadLetter, *, service: str) -> Record:
    """Returns the original key, value and headers, and Pinflow's own headers, which are text.

    Those say where the record was, which service gave it up, why, and when it was seen first.
    """
    record, reason = dead_letter.record, dead_letter.reason
    known = dict(select_replay_headers(record.headers))
    about = {
        TOPIC: record.topic,
        PARTITION: str(record.partition),
        OFFSET: str(record.offset),
        SERVICE: service,
        ERROR_CLASS: type(reason).__name__,
        ERROR_CODE: reason.code.value,
        ERROR_MESSAGE: reason.message[:MAX_MESSAGE_CHARACTERS],
    }
    original = [
        (name, value)
        for name, value in record.headers
        if value is not None and not name.startswith(PREFIX)
    ]
    value = record.value or b""
    limit = max(MAX_KEY_AND_HEADERS_BYTES, MAX_VALUE_BYTES - len(value))
    key = record.key[:limit] if record.key else record.key
    kept = _take_fitting(original, limit - len(key or b""))
    headers = kept + [(name, text.encode(errors="replace")) for name, text in about.items()]
    headers.append((FIRST_SEEN, known.get(FIRST_SEEN, datetime.now(UTC).isoformat().encode())))
    headers.append((REPLAYS, known.get(REPLAYS, b"0")))
    if len(value) > MAX_VALUE_BYTES or key != record.key or len(kept) < len(original):
        headers.append((TRUNCATED, str(len(value)).encode()))
    return Record(key, value[:MAX_VALUE_BYTES], headers)


def _take_fitting(headers: list[Header], limit: int) -> list[Header]:
    """Returns the headers that fit into `room` bytes: all, unless they had been compressed."""
    for count, (name, value) in enumerate(headers):
        limit -= len(name.encode(errors="replace")) + len(value)
        if limit < 0:
            return headers[:count]
    return headers
