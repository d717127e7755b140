"""Admission control: accepts an import while the backlog is below its limits, otherwise 429 with
Retry-After.

The limits are checked before a body is read, so that a refused import costs nothing. The check
before the append is the final one. An import is accepted while fewer rows than the limit are
unsettled. So one import may overshoot the limit, and a limit below 500 rows blocks nobody forever.
"""

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from services.ingest.admission.backlog import BacklogTracker, LagSample
from services.ingest.admission.headroom import add_headroom
from services.ingest.config import IngestSettings
from services.ingest.model import ImportEnd
from shared.contract.errors import AcceptanceUnknown, BrokerUnavailable, ErrorCode, Overloaded
from shared.runtime import metrics
from shared.runtime.clock import Clock

MAX_RETRY_AFTER_SECONDS = 60
IN_DOUBT_SECONDS = 20.0
"""Seconds for which an import in doubt is counted.

If Kafka has it, its rows are counted twice until then: here and in the lag.
"""
DEFAULT_RETRY_AFTER_SECONDS = 5
"""Retry-After while the settlement rate is unknown."""


@dataclass(slots=True)
class RowReservation:
    """Backlog capacity that is held for one import. The code that appends the import sets
    `import_end`.
    """

    import_end: ImportEnd | None = None


class Quota(NamedTuple):
    """The amount that may still be sent, out of `capacity`. The unit is a row or a pin."""

    capacity: float
    available: float
    refill_rate: float
    """Rows settled per second, as last measured; 0 while unknown. Or pins that may be sent per
    second."""


class AdmissionControl:
    """Accepts or refuses imports by the backlog that this process knows.

    `clock` must be the clock of `LagSample.sampled_at`.
    """

    def __init__(self, settings: IngestSettings, clock: Clock = time.monotonic) -> None:
        self._workspace_limit = settings.max_unsettled_rows_per_workspace
        self._system_limit = settings.max_unsettled_rows
        self._backlog = BacklogTracker(clock)
        self._new_sample = asyncio.Event()
        self.sample_requested = asyncio.Event()
        """Set by every import and every read of the rate meter: a fresh lag sample is needed."""
        metrics.UNSETTLED_ROWS.set_function(
            lambda: math.nan if self._backlog.is_stale else float(self._backlog.total_rows)
        )

    def observe(self, sample: LagSample) -> None:
        """Updates the backlog and wakes the callers of `wait_for_capacity`."""
        self._backlog.observe(sample)
        self._new_sample.set()  # earlier waiters get the capacity before new requests do
        self._new_sample = asyncio.Event()

    def require_capacity(self, workspace_id: UUID) -> None:
        """Raises Overloaded if the workspace or the whole system has reached its limit."""
        self.sample_requested.set()
        if self._backlog.is_stale:
            return
        own, total = self._backlog.count_rows(workspace_id), self._backlog.total_rows
        if own >= self._workspace_limit:
            # The workspace's rows get only their share of the settlement rate
            retry_after = self._compute_retry_after(
                (own - self._workspace_limit + 1) * max(total, own) / own
            )
            message = (
                f"This workspace has {own} rows that are not settled yet; the limit is "
                f"{self._workspace_limit}. Nothing was accepted. Retry after {retry_after} s."
            )
            details = {"limit": self._workspace_limit, "current": own, "reason": "workspace"}
            raise Overloaded(
                ErrorCode.TOO_MANY_UNSETTLED_ROWS, message, retry_after=retry_after, **details
            )
        limit = self._system_limit if own else add_headroom(self._system_limit)
        if total >= limit:
            retry_after = self._compute_retry_after(total - limit + 1)
            message = (
                f"Pinflow has {total} rows that are not settled yet; the limit is {limit}. "
                f"Nothing was accepted. Retry after {retry_after} s."
            )
            details = {"limit": limit, "current": total, "reason": "system"}
            raise Overloaded(ErrorCode.OVERLOADED, message, retry_after=retry_after, **details)

    def read_quotas(self, workspace_id: UUID) -> tuple[Quota, Quota]:
        """Returns the quota of the workspace and the quota of the whole system.

        All of their capacity is available while the lag sample is stale, because the backlog is no
        reason for a refusal then.
        """
        self.sample_requested.set()
        own, total = (
            (0, 0)
            if self._backlog.is_stale
            else (self._backlog.count_rows(workspace_id), self._backlog.total_rows)
        )
        rate = self._backlog.settlement_rate or 0.0
        share = own / max(total, own) if own else 1.0
        return (
            _build_quota(self._workspace_limit, own, rate * share),
            _build_quota(self._system_limit, total, rate),
        )

    async def wait_for_capacity(self, workspace_id: UUID, deadline: float) -> None:
        """Returns once the workspace may import.

        Raises Overloaded at `deadline`, which is in the event loop's time.
        """
        while True:
            try:
                return self.require_capacity(workspace_id)
            except Overloaded as overloaded:
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._new_sample.wait()
                except TimeoutError:
                    raise overloaded from None

    @contextmanager
    def reserve(self, workspace_id: UUID, rows: int) -> Iterator[RowReservation]:
        """Reserves capacity for the import that the `with` block appends. Raises Overloaded.

        The rows are counted until they are settled, or until Kafka certainly does not have them.
        There are two exceptions. If the import is in doubt or its client has disconnected, the rows
        are counted for IN_DOUBT_SECONDS. If its end is unknown or the lag sample is stale, they are
        not counted after the append.
        """
        self.require_capacity(workspace_id)
        self._backlog.reserve(workspace_id, rows)
        reservation = RowReservation()
        try:
            yield reservation
        except BrokerUnavailable as error:
            if isinstance(error, AcceptanceUnknown):
                self._release_later(workspace_id, rows)
            else:
                self._backlog.release(workspace_id, rows)
            raise
        except BaseException:  # the client disconnected, but its import continues
            self._release_later(workspace_id, rows)
            raise
        # While samples are missing, confirmed rows would never be removed
        if reservation.import_end is None or self._backlog.is_stale:
            self._backlog.release(workspace_id, rows)
        else:
            self._backlog.confirm(workspace_id, rows, reservation.import_end)

    def _release_later(self, workspace_id: UUID, rows: int) -> None:
        asyncio.get_running_loop().call_later(
            IN_DOUBT_SECONDS, self._backlog.release, workspace_id, rows
        )

    def _compute_retry_after(self, rows: float) -> int:
        """Returns the seconds until `rows` are settled: 1 to MAX_RETRY_AFTER_SECONDS."""
        rate = self._backlog.settlement_rate
        if rate is None:
            return DEFAULT_RETRY_AFTER_SECONDS
        return max(1, min(MAX_RETRY_AFTER_SECONDS, math.ceil(rows / max(rate, 1e-9))))


def _build_quota(capacity: int, unsettled: int, rate: float) -> Quota:
    return Quota(capacity, max(0, capacity - unsettled), rate)
