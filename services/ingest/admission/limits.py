"""Admission control: accepts an import while the backlog is below its limits, otherwise 429 with
Retry-After.

A refusal costs no row's work: the limits are checked before a body is read, and again, for good,
before the append. An import is accepted while fewer rows than the limit are unsettled. So the limit
may be overshot by one import, and a limit below 500 refuses nobody for ever.
"""

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from services.ingest.admission.backlog import BacklogTracker, EndPosition, LagSample
from services.ingest.config import IngestSettings
from shared.access.cache import Clock
from shared.contract.errors import AcceptanceUnknown, BrokerUnavailable, ErrorCode, Overloaded
from shared.runtime import metrics

RESERVE_SHARE = 0.1
"""Of the system's limit: for workspaces that have nothing unsettled, so that many that flood can't
shut a new one out.
"""
MAX_RETRY_AFTER_SECONDS = 60
IN_DOUBT_SECONDS = 20.0
"""Seconds for which the rows of an import of unknown outcome are counted. If the import stands,
Kafka's figure counts them, too."""
DEFAULT_RETRY_AFTER_SECONDS = 5
"""Asked of a client while it is not known how quickly rows are settled."""


@dataclass(slots=True)
class RowReservation:
    """An import's place in the backlog. Whoever appends the import sets its position."""

    position: EndPosition | None = None


class RowQuota(NamedTuple):
    """How much room there is, in rows, and how quickly more is made."""

    capacity: int
    available: int
    rate: float
    """Rows settled a second as last seen; 0 while it is not known."""


class Admission:
    """Decides by the figures of one process. The clock is that of the readings."""

    def __init__(self, settings: IngestSettings, clock: Clock = time.monotonic) -> None:
        self._workspace_limit = settings.max_unsettled_rows_per_workspace
        self._system_limit = settings.max_unsettled_rows
        self._backlog = BacklogTracker(clock)
        self._new_sample = asyncio.Event()
        self.sample_requested = asyncio.Event()
        """Set by every import: figures are wanted now."""
        metrics.UNSETTLED_ROWS.set_function(
            lambda: math.nan if self._backlog.is_stale else float(self._backlog.total_rows)
        )

    def observe(self, reading: LagSample) -> None:
        self._backlog.observe(reading)
        self._new_sample.set()  # who waits for room is woken before any request that comes now
        self._new_sample = asyncio.Event()

    def require_capacity(self, workspace_id: UUID) -> None:
        """Raises Overloaded when the workspace, or the whole system, has its fill of unsettled
        rows.
        """
        self.sample_requested.set()
        if self._backlog.is_stale:
            return
        own, total = self._backlog.count_rows(workspace_id), self._backlog.total_rows
        if own >= self._workspace_limit:
            # Its own rows are settled at their share of the rate
            pause = self._retry_after((own - self._workspace_limit + 1) * max(total, own) / own)
            message = (
                f"This workspace has {own} rows that are not settled yet; the limit is "
                f"{self._workspace_limit}. Nothing was accepted."
            )
            details = {"limit": self._workspace_limit, "current": own, "reason": "workspace"}
            raise Overloaded(
                ErrorCode.TOO_MANY_UNSETTLED_ROWS, message, retry_after=pause, **details
            )
        limit = self._system_limit if own else int(self._system_limit * (1 + RESERVE_SHARE))
        if total >= limit:
            message = (
                f"Pinflow has {total} rows that are not settled yet; the limit is {limit}. "
                "Nothing was accepted."
            )
            details = {"limit": limit, "current": total, "reason": "system"}
            raise Overloaded(
                ErrorCode.OVERLOADED,
                message,
                retry_after=self._retry_after(total - limit + 1),
                **details,
            )

    def read_quotas(self, workspace_id: UUID) -> tuple[RowQuota, RowQuota]:
        """The workspace's room, and the system's.

        Blind, both are empty of rows, as nobody is refused then.
        """
        self.sample_requested.set()
        own, total = (
            (0, 0)
            if self._backlog.is_stale
            else (self._backlog.count_rows(workspace_id), self._backlog.total_rows)
        )
        rate = self._backlog.rate or 0.0
        share = own / max(total, own) if own else 1.0
        return _meter(self._workspace_limit, own, rate * share), _meter(
            self._system_limit, total, rate
        )

    async def wait_for_capacity(self, workspace_id: UUID, deadline: float) -> None:
        """`deadline` is in the event loop's time.

        Raises Overloaded when there was none until then.
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
        """Reserves room for the import that the body appends. Raises Overloaded.

        Its rows are counted until they are settled, or until it is certain that none stands.
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
        except BaseException:  # a client that went away: its import goes on
            self._release_later(workspace_id, rows)
            raise
        if (
            reservation.position is None or self._backlog.is_stale
        ):  # blind, what is remembered would never be forgotten
            self._backlog.release(workspace_id, rows)
        else:
            self._backlog.confirm(workspace_id, rows, reservation.position)

    def _release_later(self, workspace_id: UUID, rows: int) -> None:
        asyncio.get_running_loop().call_later(
            IN_DOUBT_SECONDS, self._backlog.release, workspace_id, rows
        )

    def _retry_after(self, rows: float) -> int:
        """Seconds until so many rows have been settled."""
        rate = self._backlog.rate
        if rate is None:
            return DEFAULT_RETRY_AFTER_SECONDS
        return max(1, min(MAX_RETRY_AFTER_SECONDS, math.ceil(rows / max(rate, 1e-9))))


def _meter(capacity: int, unsettled: int, rate: float) -> RowQuota:
    return RowQuota(capacity, max(0, capacity - unsettled), rate)
