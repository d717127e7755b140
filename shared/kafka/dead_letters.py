"""Turns records that can never be processed into dead letters.

A dead letter is the record with the reason in added headers. It is truncated if it is too large.
See invariant 8 in docs/explanation/architecture.md.
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
"""A longer value is truncated. Only a value that its producer had compressed can be longer."""
MAX_KEY_AND_HEADERS_BYTES = 256 * 1024
"""Longer keys and headers are truncated if the value has its maximum size. With a shorter value,
they may be longer.
"""
MAX_REPLAY_HEADER_BYTES = 64
"""Longer headers about replays are dropped. Any producer can send one, and ingest copies it to each
of up to 500 rows.
"""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that can't be processed, and the reason."""

    record: "ConsumerRecord[bytes, bytes]"
    reason: Poison


def select_replay_headers(headers: Iterable[tuple[str, bytes | None]]) -> list[Header]:
    """Returns the headers that count a record's replays, for the records made from it.

    They limit how often a dead letter is replayed.
    """
    replay_headers = {
        name: value
        for name, value in headers
        if name in {REPLAYS, FIRST_SEEN}
        and value is not None
        and len(value) <= MAX_REPLAY_HEADER_BYTES
    }
    return list(replay_headers.items())  # each once, even if the record repeats it


def to_record(dead_letter: DeadLetter, *, service: str) -> Record:
    """Builds a dead letter's record: the original key, value and headers, and Pinflow's headers.

    Pinflow's headers are text. They contain the record's topic, partition and offset, the service
    that could not process it, the error, and when it first failed.
    """
    record, reason = dead_letter.record, dead_letter.reason
    replays = dict(select_replay_headers(record.headers))
    origin_and_reason = {
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
    fitting = _take_fitting(original, limit - len(key or b""))
    headers = fitting + [
        (name, text.encode(errors="replace")) for name, text in origin_and_reason.items()
    ]
    headers.append((FIRST_SEEN, replays.get(FIRST_SEEN, datetime.now(UTC).isoformat().encode())))
    headers.append((REPLAYS, replays.get(REPLAYS, b"0")))
    if len(value) > MAX_VALUE_BYTES or key != record.key or len(fitting) < len(original):
        headers.append((TRUNCATED, str(len(value)).encode()))
    return Record(key, value[:MAX_VALUE_BYTES], headers)


def _take_fitting(headers: list[Header], limit: int) -> list[Header]:
    """Returns the headers that fit into `limit` bytes. All fit unless they had been compressed."""
    for count, (name, value) in enumerate(headers):
        limit -= len(name.encode(errors="replace")) + len(value)
        if limit < 0:
            return headers[:count]
    return headers
