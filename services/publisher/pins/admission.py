"""Limits how many requests write at once: each holds a connection to Postgres, or waits for one."""

from shared.contract.errors import ErrorCode, Overloaded
from shared.runtime.limits.concurrency import ConcurrencyLimit
from shared.runtime.limits.reservations import LimitReached, Reservation


class Admission:
    """Refuses a request that writes while as many others do as may at once."""

    def __init__(self, most_at_once: int) -> None:
        self._requests = ConcurrencyLimit(most_at_once)

    def one(self) -> Reservation:
        """Returns the request's place, as a context manager. Raises Overloaded at once."""
        try:
            return self._requests.acquire()
        except LimitReached as reached:
            message = (
                f"{reached.current} pins are being published or changed, as many as may be at "
                "once. Nothing was done."
            )
            raise Overloaded(
                ErrorCode.OVERLOADED,
                message,
                retry_after=1,
                limit=reached.limit,
                current=reached.current,
            ) from None
