"""Limits concurrent requests that write. Each needs one of the few database connections."""

from shared.contract.errors import ErrorCode, Overloaded
from shared.runtime.limits.reservations import ConcurrencyLimit, LimitReached, Reservation


class WriteLimit:
    """Limits concurrent writing requests. Further ones get 429."""

    def __init__(self, limit: int, *, activity: str) -> None:
        """Puts `activity` into the error message, such as "keys are being changed"."""
        self._writes = ConcurrencyLimit(limit)
        self._activity = activity

    def acquire(self) -> Reservation:
        """Counts a request until its reservation is released.

        Raises Overloaded at once if the limit is reached.
        """
        try:
            return self._writes.acquire()
        except LimitReached as reached:
            message = (
                f"{reached.current} {self._activity}. No more are allowed at the same time. "
                "Nothing was done. Try again."
            )
            raise Overloaded(
                ErrorCode.OVERLOADED,
                message,
                retry_after=1,
                limit=reached.limit,
                current=reached.current,
            ) from None
