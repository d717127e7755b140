"""A fair queue of HTTP imports, by workspace.

In a plain queue, an import would wait behind a hundred imports of a workspace that floods Pinflow
(measured: 3.7 s to its 202). Imports wait before they are parsed, because parsed rows take several
times as much memory as a body.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from services.ingest.admission.headroom import add_headroom
from services.ingest.config import IngestSettings
from shared.contract.errors import BrokerUnavailable, ErrorCode, Overloaded
from shared.runtime.limits.reservations import (
    ConcurrencyLimit,
    FairQueue,
    LimitReached,
    Reservation,
    WaitTimeout,
)

WAIT_SHARE = 0.9
"""Share of broker_deadline_seconds that an import may wait. The rest is for the append."""


@dataclass(slots=True)
class ImportSlot:
    """Permission to parse and write one import."""

    _slot: Reservation
    _limit: ConcurrencyLimit
    """Limits the imports that have released their slot and still wait for Kafka."""
    _waiting_for_kafka: Reservation | None = None

    def release_early(self) -> None:
        """Allows the next import to begin while this one still waits for Kafka.

        Does nothing if too many imports already wait for Kafka without a slot.
        """
        if self._waiting_for_kafka is not None:
            return
        try:
            self._waiting_for_kafka = self._limit.acquire()
        except LimitReached:
            return
        self._slot.release()

    def release(self) -> None:
        """Releases the slot, and the place among the imports that wait for Kafka without a slot."""
        self._slot.release()
        if self._waiting_for_kafka is not None:
            self._waiting_for_kafka.release()


class ImportQueue:
    """Queues imports by workspace, within limits on how many wait and how long."""

    def __init__(self, *, at_once: int, max_waiting: int, timeout_seconds: float) -> None:
        self._queue: FairQueue[UUID] = FairQueue(at_once, timeout_seconds=timeout_seconds)
        self._max_waiting = max_waiting
        self._timeout_seconds = timeout_seconds
        self._waiting_for_kafka = ConcurrencyLimit(max_waiting)
        self._ended_imports = 0
        """Imports that Kafka took, or that were refused for another reason than Kafka."""

    @classmethod
    def from_settings(cls, settings: IngestSettings) -> "ImportQueue":
        """Builds the queue from the settings."""
        return cls(
            at_once=settings.imports_at_once,
            max_waiting=settings.max_waiting_imports,
            timeout_seconds=settings.broker_deadline_seconds * WAIT_SHARE,
        )

    def require_queue_capacity(self, workspace_id: UUID) -> None:
        """Raises Overloaded if the queue is full for this workspace."""
        limit, waiting = self._max_waiting, self._queue.total_waiting
        if not self._queue.waiting(workspace_id):
            limit = add_headroom(limit)
        if waiting >= limit and not self._queue.has_free_slot:
            raise _overloaded(
                f"{waiting} imports are waiting to be written; the limit is {limit}.",
                limit,
                waiting,
            )

    @asynccontextmanager
    async def slot(self, workspace_id: UUID) -> AsyncIterator[ImportSlot]:
        """Waits for a slot and holds it while the `with` block runs.

        Raises Overloaded at once if the queue is full. If the wait takes too long, raises
        BrokerUnavailable if Kafka stopped all other imports meanwhile, otherwise Overloaded.
        """
        slot = ImportSlot(await self._acquire(workspace_id), self._waiting_for_kafka)
        try:
            yield slot
        except BrokerUnavailable:
            raise
        except Exception:  # an import that fails validation, for instance, says nothing about Kafka
            self._ended_imports += 1
            raise
        else:
            self._ended_imports += 1
        finally:
            slot.release()

    async def _acquire(self, workspace_id: UUID) -> Reservation:
        self.require_queue_capacity(workspace_id)
        ended_before = self._ended_imports
        try:
            return await self._queue.acquire(workspace_id)
        except WaitTimeout:
            seconds = f"{self._timeout_seconds:g}"
            if self._ended_imports == ended_before:
                raise BrokerUnavailable(f"No import could be written for {seconds} s") from None
            raise _overloaded(
                f"This import waited {seconds} s and could not begin.",
                self._max_waiting,
                self._queue.total_waiting,
            ) from None


def _overloaded(message: str, limit: int, waiting: int) -> Overloaded:
    details = {"limit": limit, "current": waiting, "reason": "waiting"}
    return Overloaded(
        ErrorCode.OVERLOADED,
        f"{message} Nothing was accepted. Retry after 1 s.",
        retry_after=1,
        **details,
    )
