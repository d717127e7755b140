"""Defines a record to be produced. No client of Kafka is imported: rules build records too."""

import msgspec

MAX_BATCH_BYTES = 900 * 1024
"""Below the topics' limit of 1 MiB a batch.

Much less, and an import goes out in twenty round trips.
"""

Header = tuple[str, bytes]


class Record(msgspec.Struct, frozen=True, gc=False):
    """A struct, as there is one or more for each row: a fifth of a NamedTuple's price."""

    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]] = []  # aiokafka takes a list only; never changed
