"""Ids of deliveries: in the order in which a process made them, so that a list needs no index of its own and an id tells its age."""

import secrets
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from uuid import UUID

_RANDOM_BITS = 62


def delivery_ids(clock: Callable[[], float] = time.time) -> Iterator[UUID]:
    """UUIDv7 (RFC 9562, 5.7), whose twelve bits behind the milliseconds count: of one process' ids each is higher than the last."""
    latest = 0
    while True:
        latest = max(latest + 1, int(clock() * 1000) << 12)  # more than 4096 in a millisecond borrow from the next one
        yield _id(latest, secrets.randbits(_RANDOM_BITS))


def lowest_id_of(moment: datetime) -> UUID:
    """All that were made before have lower ones."""
    return _id(int(moment.timestamp() * 1000) << 12, 0)


def _id(time_and_count: int, random: int) -> UUID:
    milliseconds, count = time_and_count >> 12, time_and_count & 0xFFF
    return UUID(int=milliseconds << 80 | 7 << 76 | count << 64 | 2 << 62 | random)
