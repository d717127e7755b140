"""Folds batches of events into jobs, in transactions of limited weight."""

from collections.abc import Sequence
from typing import Protocol

from services.status.folding import EventsByJob, Foldable, compute_weight, group_by_job
from shared.contract.errors import ValueRejected
from shared.kafka.positions.advance import Advance
from shared.runtime import metrics
from shared.runtime.chunks import chunked
from shared.runtime.periodic import PeriodicTask

MAX_FOLD_WEIGHT = 20_000
"""Maximum weight of one transaction (`compute_weight`), which takes 0.25 s.

A batch can weigh several times as much. One transaction with all of them timed out after 10 s, and
so did each retry.
"""


class FoldRepository(Protocol):
    """Stores one fold. Implemented by JobRepository, and by a fake in tests."""

    async def fold(self, events: EventsByJob, advance: Advance, *, moves: bool) -> int: ...


class FoldService:
    """Folds events into jobs. Each transaction is idempotent."""

    def __init__(self, store: FoldRepository, announcer: PeriodicTask) -> None:
        """Wakes `announcer` whenever a job ends."""
        self._store = store
        self._announcer = announcer

    async def fold(self, events: Sequence[Foldable], advance: Advance) -> dict[int, str]:
        """Folds the events of a batch.

        Returns the reason for each event that Postgres rejects, by index in `events`. If one
        transaction stores the whole batch, it also moves the positions. Raises
        DatabaseUnavailable or PositionBehind: the consumer then reads the batch again.
        """
        weights = [compute_weight(event) for event in events]
        portions = list(chunked(range(len(events)), MAX_FOLD_WEIGHT, weights))
        rejected: dict[int, str] = {}
        for portion in portions:
            rejected |= await self._fold(events, portion, advance, moves=len(portions) == 1)
        return rejected

    async def _fold(
        self, events: Sequence[Foldable], portion: Sequence[int], advance: Advance, *, moves: bool
    ) -> dict[int, str]:
        """Folds the events at these indexes. Finds those that Postgres rejects by bisection."""
        grouped = group_by_job([events[index] for index in portion])
        try:
            ended = await self._store.fold(grouped, advance, moves=moves)
        except ValueRejected as error:
            if len(portion) == 1:
                return {portion[0]: str(error)}
            middle = len(portion) // 2
            rejected = await self._fold(events, portion[:middle], advance, moves=False)
            return rejected | await self._fold(events, portion[middle:], advance, moves=False)
        metrics.UPLOADS_KEPT_BYTES.inc(grouped.upload_bytes)
        if ended:
            self._announcer.wake()
        return {}
