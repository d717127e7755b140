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

from services.ingest.admission.backlog import Position, Reading, Unsettled
from services.ingest.config import IngestSettings
from shared.access.cache import Clock
from shared.contract.errors import AcceptanceUnknown, BrokerUnavailable, ErrorCode, Overloaded
from shared.runtime import metrics

RESERVE = 0.1
"""Of the system's limit: for workspaces that have nothing unsettled, so that many that flood can't
shut a new one out.
"""
LONGEST_PAUSE_SECONDS = 60
IN_DOUBT_SECONDS = 20.0
"""Seconds for which the rows of an import of unknown outcome are counted. If the import stands,
Kafka's figure counts them, too."""
UNKNOWN_PAUSE_SECONDS = 5
"""Asked of a client while it is not known how quickly rows are settled."""


@dataclass(slots=True)
class Place:
    """An import's place in the backlog. Whoever appends the import sets its position."""

    position: Position | None = None


class Meter(NamedTuple):
    """How much room there is, in rows, and how quickly more is made."""

    capacity: int
    available: int
    rate: float
    """Rows settled a second as last seen; 0 while it is not known."""


class Admission:
    """Decides by the figures of one process. The clock is that of the readings."""

    def __init__(self, settings: IngestSettings, clock: Clock = time.monotonic) -> None:
        self._per_workspace = settings.max_unsettled_rows_per_workspace
        self._of_all = settings.max_unsettled_rows
        self._unsettled = Unsettled(clock)
        self._news = asyncio.Event()
        self.asked = asyncio.Event()
        """Set by every import: figures are wanted now."""
        metrics.UNSETTLED_ROWS.set_function(
            lambda: math.nan if self._unsettled.is_blind else float(self._unsettled.total)
        )

    def observe(self, reading: Reading) -> None:
        self._unsettled.observe(reading)
        self._news.set()  # who waits for room is woken before any request that comes now
        self._news = asyncio.Event()

    def require_room(self, workspace_id: UUID) -> None:
        """Raises Overloaded when the workspace, or the whole system, has its fill of unsettled
        rows.
        """
        self.asked.set()
        if self._unsettled.is_blind:
            return
        own, everything = self._unsettled.of(workspace_id), self._unsettled.total
        if own >= self._per_workspace:
            # Its own rows are settled at their share of the rate
            pause = self._pause((own - self._per_workspace + 1) * max(everything, own) / own)
            message = (
                f"This workspace has {own} rows that are not settled yet; the limit is "
                f"{self._per_workspace}. Nothing was accepted."
            )
            details = {"limit": self._per_workspace, "current": own, "reason": "workspace"}
            raise Overloaded(
                ErrorCode.TOO_MANY_UNSETTLED_ROWS, message, retry_after=pause, **details
            )
        limit = self._of_all if own else int(self._of_all * (1 + RESERVE))
        if everything >= limit:
            message = (
                f"Pinflow has {everything} rows that are not settled yet; the limit is {limit}. "
                "Nothing was accepted."
            )
            details = {"limit": limit, "current": everything, "reason": "system"}
            raise Overloaded(
                ErrorCode.OVERLOADED,
                message,
                retry_after=self._pause(everything - limit + 1),
                **details,
            )

    def meters(self, workspace_id: UUID) -> tuple[Meter, Meter]:
        """The workspace's room, and the system's.

        Blind, both are empty of rows, as nobody is refused then.
        """
        self.asked.set()
        own, everything = (
            (0, 0)
            if self._unsettled.is_blind
            else (self._unsettled.of(workspace_id), self._unsettled.total)
        )
        rate = self._unsettled.rate or 0.0
        share = own / max(everything, own) if own else 1.0
        return _meter(self._per_workspace, own, rate * share), _meter(
            self._of_all, everything, rate
        )

    async def wait_for_room(self, workspace_id: UUID, deadline: float) -> None:
        """`deadline` is in the event loop's time.

        Raises Overloaded when there was none until then.
        """
        while True:
            try:
                return self.require_room(workspace_id)
            except Overloaded as overloaded:
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._news.wait()
                except TimeoutError:
                    raise overloaded from None

    @contextmanager
    def room(self, workspace_id: UUID, rows: int) -> Iterator[Place]:
        """Reserves room for the import that the body appends. Raises Overloaded.

        Its rows are counted until they are settled, or until it is certain that none stands.
        """
        self.require_room(workspace_id)
        self._unsettled.take(workspace_id, rows)
        place = Place()
        try:
            yield place
        except BrokerUnavailable as error:
            if isinstance(error, AcceptanceUnknown):
                self._doubt(workspace_id, rows)
            else:
                self._unsettled.give_back(workspace_id, rows)
            raise
        except BaseException:  # a client that went away: its import goes on
            self._doubt(workspace_id, rows)
            raise
        if (
            place.position is None or self._unsettled.is_blind
        ):  # blind, what is remembered would never be forgotten
            self._unsettled.give_back(workspace_id, rows)
        else:
            self._unsettled.place(workspace_id, rows, place.position)

    def _doubt(self, workspace_id: UUID, rows: int) -> None:
        asyncio.get_running_loop().call_later(
            IN_DOUBT_SECONDS, self._unsettled.give_back, workspace_id, rows
        )

    def _pause(self, rows: float) -> int:
        """Seconds until so many rows have been settled."""
        rate = self._unsettled.rate
        if rate is None:
            return UNKNOWN_PAUSE_SECONDS
        return max(1, min(LONGEST_PAUSE_SECONDS, math.ceil(rows / max(rate, 1e-9))))


def _meter(capacity: int, unsettled: int, rate: float) -> Meter:
    return Meter(capacity, max(0, capacity - unsettled), rate)
