"""Bounds the requests that write: each holds, or waits for, one of few database connections."""

from shared.contract.errors import ErrorCode, Overloaded
from shared.runtime.limits.reservations import ConcurrencyLimit, LimitReached, Reservation


class WriteLimit:
    """Lets a number of writing requests in at once, and refuses more (429)."""

    def __init__(self, limit: int, *, activity: str) -> None:
        """`activity`: what the error text says is being written, as "pins are being published"."""
        self._writes = ConcurrencyLimit(limit)
        self._activity = activity

    def acquire(self) -> Reservation:
        """Lets a request in for as long as the reservation is held.

        Raises Overloaded at once if there is no room.
        """
        try:
            return self._writes.acquire()
        except LimitReached as reached:
            message = (
                f"{reached.current} {self._activity}, as many as may be at once. Nothing was done."
            )
            raise Overloaded(
                ErrorCode.OVERLOADED,
                message,
                retry_after=1,
                limit=reached.limit,
                current=reached.current,
            ) from None
