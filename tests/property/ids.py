"""Unique ids for each example, because all examples share one database.

The order of an example's ids is the same when the example is run again.
"""

import secrets
from uuid import UUID

_SCRAMBLE = 0x9E37_79B9_7F4A_7C15


class Ids:
    def __init__(self) -> None:
        self._example = secrets.randbits(64) << 64
        self._count = 0

    def new(self) -> UUID:
        self._count += 1
        return UUID(int=self._example | self._count * _SCRAMBLE % 2**64)
