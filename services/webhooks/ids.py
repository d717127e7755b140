"""Computes the ids of deliveries. A delivery has the same id whenever its event is read again."""

from datetime import datetime
from hashlib import blake2b
from uuid import UUID

_LATEST_MS = 2**48 - 1
"""The latest time that a UUIDv7 can carry."""
_COUNTED_BITS = 12
_RANDOM_BITS = 62
"""A UUIDv7 has these random bits and _COUNTED_BITS beside time, version and variant."""


def delivery_id(webhook_id: UUID, event_id: str, announced_ms: int) -> UUID:
    """Computes a UUIDv7 (RFC 9562, 5.7) from the time of the event's Kafka record.

    A hash of webhook and event replaces the random bits. So the record gives the same id when it
    is read again after a restore of Postgres, and the receiver knows the id. The id tells the
    delivery's age; a list needs no index of its own. Within a millisecond the hash orders ids.
    """
    digest = blake2b(webhook_id.bytes + event_id.encode(), digest_size=16).digest()
    return _id(announced_ms, int.from_bytes(digest))


def lowest_id_of(moment: datetime) -> UUID:
    """Computes the id below which all deliveries of earlier events lie."""
    return _id(int(moment.timestamp() * 1000), 0)


def _id(milliseconds: int, bits: int) -> UUID:
    # A producer may choose any time for a record; Kafka uses -1 for none
    milliseconds = min(max(milliseconds, 0), _LATEST_MS)
    high = bits >> _RANDOM_BITS & (1 << _COUNTED_BITS) - 1
    low = bits & (1 << _RANDOM_BITS) - 1
    return UUID(int=milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low)
