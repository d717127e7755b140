"""Bounds the requests that write: each holds one of few connections to Postgres, or waits for one."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.contract.errors import ErrorCode, Overloaded


class ConcurrentWrites:
    """Lets a number of writing requests in at once, and refuses more (429)."""

    def __init__(self, limit: int, *, written: str) -> None:
        """`written`: what the error text says is being written, as "pins are being published"."""
        self._limit = limit
        self._written = written
        self._current = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Raises Overloaded at once if there is no room."""
        if self._current >= self._limit:
            message = (
                f"{self._current} {self._written}, as many as may be at once. Nothing was done."
            )
            raise Overloaded(
                ErrorCode.OVERLOADED,
                message,
                retry_after=1,
                limit=self._limit,
                current=self._current,
            )
        self._current += 1
        try:
            yield
        finally:
            self._current -= 1
