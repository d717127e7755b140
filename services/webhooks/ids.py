"""Computes the ids of events and deliveries. The same event record always gives the same ids."""

from datetime import datetime
from hashlib import blake2b
from uuid import UUID

from shared.contract.time_ordered_ids import CHOSEN_BITS, LATEST_MS, build_time_ordered_id


def compute_event_id(workspace_id: UUID, ce_id: bytes) -> str:
    """Computes an event's id: the same for all its announcements and all webhooks.

    The CloudEvents id itself is unsuitable. A failed pin's id has a dot, the separator of Standard
    Webhooks, and a producer could put a line break into an id.
    """
    return f"evt_{blake2b(workspace_id.bytes + ce_id, digest_size=16).hexdigest()}"


def compute_delivery_id(webhook_id: UUID, event_id: str, record_time_ms: int) -> UUID:
    """Computes a UUIDv7 from the time of the event's Kafka record.

    A hash of webhook and event replaces the random bits. So a record that is read again after a
    restore of Postgres gives the same id, and receivers recognize it. Because ids sort by age, the
    list of deliveries needs no further index. Within a millisecond the hash decides the order.
    """
    digest = blake2b(webhook_id.bytes + event_id.encode(), digest_size=16).digest()
    return _build_id(record_time_ms, int.from_bytes(digest))


def compute_lowest_id(moment: datetime) -> UUID:
    """Returns the lowest possible id of a delivery whose event is from `moment` or later."""
    return _build_id(int(moment.timestamp() * 1000), 0)


def _build_id(milliseconds: int, digest: int) -> UUID:
    # A producer may set any record time. Kafka uses -1 for a missing one
    milliseconds = min(max(milliseconds, 0), LATEST_MS)
    return build_time_ordered_id(milliseconds, digest & (1 << CHOSEN_BITS) - 1)
