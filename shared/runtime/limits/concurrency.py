"""Bounds how many things happen at once, without a queue."""

from shared.runtime.limits.reservations import LimitReached, Reservation


class ConcurrencyLimit:
    """Lets at most `limit` reservations exist at once, and refuses more at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._current = 0

    def acquire(self) -> Reservation:
        """Raises LimitReached."""
        if self._current >= self._limit:
            raise LimitReached(self._limit, self._current)
        self._current += 1
        return Reservation(self._release)

    def _release(self) -> None:
        self._current -= 1
