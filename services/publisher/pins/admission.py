"""How many writing requests are let in at once: each holds one of few connections to Postgres, or
waits for one.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.contract.errors import ErrorCode, Overloaded


class Admission:
    def __init__(self, most_at_once: int) -> None:
        self._most = most_at_once
        self._current = 0

    @contextmanager
    def one(self) -> Iterator[None]:
        """Raises Overloaded at once when there is no room."""
        if self._current >= self._most:
            message = (
                f"{self._current} pins are being published or changed, as many as may be at once. "
                "Nothing was done."
            )
            raise Overloaded(
                ErrorCode.OVERLOADED,
                message,
                retry_after=1,
                limit=self._most,
                current=self._current,
            )
        self._current += 1
        try:
            yield
        finally:
            self._current -= 1
