"""Computes the ids of deliveries. A delivery has the same id whenever its event is read again."""

from datetime import datetime
from hashlib import blake2b
from uuid import UUID

_LATEST_MS = 2**48 - 1
"""The latest time that a UUIDv7 can carry."""
_COUNTED_BITS = 12
_RANDOM_BITS = 62
"""The bits of a UUIDv7 that are neither time nor version nor variant are these and those above."""


def delivery_id(webhook_id: UUID, event_id: str, announced_ms: int) -> UUID:
    """Computes a UUIDv7 (RFC 9562, 5.7) from the time of the event's Kafka record.

    A hash of webhook and event takes the place of the random bits. So a service that reads the
    record again after a restore of Postgres delivers under the id that the receiver knows. The id
    tells the delivery's age; a list needs no index of its own. Within a millisecond the order is
    the hash's.
    """
    digest = blake2b(webhook_id.bytes + event_id.encode(), digest_size=16).digest()
    return _id(announced_ms, int.from_bytes(digest))


def lowest_id_of(moment: datetime) -> UUID:
    """Computes the id below which all deliveries of earlier events lie."""
    return _id(int(moment.timestamp() * 1000), 0)


def _id(milliseconds: int, bits: int) -> UUID:
    # A record's time is its producer's to choose; Kafka has -1 for none
    milliseconds = min(max(milliseconds, 0), _LATEST_MS)
    high = bits >> _RANDOM_BITS & (1 << _COUNTED_BITS) - 1
    low = bits & (1 << _RANDOM_BITS) - 1
    return UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low)
