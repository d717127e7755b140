"""Folds batches of events into jobs, in transactions of at most MAX_FOLDED_ROWS rows."""

from collections.abc import Sequence
from typing import Protocol

from services.status.folding import Fold, Foldable, fold, weight
from shared.contract.errors import ValueRejected
from shared.kafka.positions.advance import Advance
from shared.runtime import metrics
from shared.runtime.chunks import chunked
from shared.runtime.periodic import PeriodicTask

MAX_FOLDED_ROWS = 20_000
"""Rows of one transaction: 0.25 s. Ten times as many (a batch can have them) did not end within 10
s, and were tried again unchanged.
"""


class FoldRepository(Protocol):
    """Stores one fold. Implemented by JobRepository, and by a fake in tests."""

    async def fold(self, batch: Fold, advance: Advance, *, moves: bool) -> int: ...


class FoldService:
    """Folds events, idempotently: every transaction can be repeated."""

    def __init__(self, store: FoldRepository, announcer: PeriodicTask) -> None:
        """`announcer` is woken when a job ends."""
        self._store = store
        self._announcer = announcer

    async def fold(self, events: Sequence[Foldable], advance: Advance) -> dict[int, str]:
        """Folds a batch's events.

        Returns Postgres' message for each event that it refuses, by index in `events`. If the
        batch fits in one transaction, that also moves the positions. Raises DatabaseUnavailable or
        PositionBehind: the batch is then read again.
        """
        weights = [weight(event) for event in events]
        spans = list(chunked(range(len(events)), MAX_FOLDED_ROWS, weights))
        refused: dict[int, str] = {}
        for span in spans:
            refused |= await self._fold(events, span, advance, moves=len(spans) == 1)
        return refused

    async def _fold(
        self, events: Sequence[Foldable], span: Sequence[int], advance: Advance, *, moves: bool
    ) -> dict[int, str]:
        """Folds the events at these indexes. Finds those that Postgres refuses by halving."""
        batch = fold([events[index] for index in span])
        try:
            ended = await self._store.fold(batch, advance, moves=moves)
        except ValueRejected as refusal:
            if len(span) == 1:
                return {span[0]: str(refusal)}
            middle = len(span) // 2
            refused = await self._fold(events, span[:middle], advance, moves=False)
            return refused | await self._fold(events, span[middle:], advance, moves=False)
        metrics.UPLOADS_KEPT_BYTES.inc(batch.upload_bytes)
        if ended:
            self._announcer.wake()
        return {}
