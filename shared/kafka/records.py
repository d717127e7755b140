"""Defines a record to be produced. No client of Kafka is imported: rules build records too."""

import msgspec

MAX_BATCH_BYTES = 900 * 1024
"""Below the topics' limit of 1 MiB a batch. With much less an import takes twenty round trips."""

Header = tuple[str, bytes]


class Record(msgspec.Struct, frozen=True, gc=False):
    """Holds a record. Each row has at least one: a struct costs a fifth of a NamedTuple."""

    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]] = []  # aiokafka takes a list only; never changed
