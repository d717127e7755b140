"""One batch of rows, from the checks to the outcomes: asks the ports, lets service.py decide."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from services.publisher.rows.outcomes import (
    Ask,
    Doomed,
    Failed,
    Found,
    Outcome,
    decide,
    decide_all,
    destination_of,
    destinations_of,
    give_up,
    in_order,
    new_failures,
)
from services.publisher.rows.repository import Judge
from shared.access.model import BoardCheck, Destination
from shared.contract.errors import Refused
from shared.contract.events import EARLIEST, LATEST, RowAccepted
from shared.kafka.positions.advance import Advance

log = structlog.get_logger()


class Store(Protocol):
    async def settle(
        self,
        asks: Sequence[Ask],
        passed: Sequence[Ask],
        doomed: Sequence[Doomed],
        advance: Advance,
        judge: Judge,
        *,
        moves: bool = False,
        publishes: bool = True,
    ) -> None: ...


class Boards(Protocol):
    async def failing(
        self, destinations: Collection[Destination]
    ) -> Mapping[Destination, BoardCheck]: ...


@dataclass(slots=True)
class Settlement:
    outcomes: list[Outcome] = field(default_factory=list)
    refused: list[tuple[RowAccepted, str]] = field(default_factory=list)
    """Rows that Postgres itself would not take, and what it said."""


class Settler:
    """Settles batches, idempotently.

    Raises DatabaseUnavailable or PositionBehind: then nothing is known, and the batch comes again.
    """

    def __init__(self, store: Store, boards: Boards) -> None:
        self._store = store
        self._boards = boards

    async def settle(
        self,
        rows: Sequence[RowAccepted],
        doomed: Sequence[Doomed] = (),
        *,
        advance: Advance,
    ) -> Settlement:
        """Settles a batch's rows. Every transaction holds the advance; a single one also moves it.

        So no two publishers settle one partition at the same time.
        """
        failing = await self._boards.failing(destinations_of(rows))
        settlement = _Settling(self._store, failing, advance)
        await settlement.settle(in_order(rows), moves=not doomed)
        await settlement.give_up(doomed)
        return settlement.result


class _Settling:
    """One batch on its way."""

    def __init__(
        self, store: Store, failing: Mapping[Destination, BoardCheck], advance: Advance
    ) -> None:
        self._store = store
        self._failing = failing
        self._advance = advance
        self.result = Settlement()

    async def settle(self, asks: Sequence[Ask], *, moves: bool = False) -> None:
        if not asks:
            return
        outcomes: list[Outcome] = []

        def judge(found: Found) -> list[Failed]:
            outcomes.extend(decide_all(asks, self._failing, found))
            return new_failures(outcomes, found)

        failing = self._failing
        if (
            asks[0].row.accepted_at < EARLIEST or asks[-1].row.accepted_at >= LATEST
        ):  # they are sorted by it
            await self._bisect(asks, Refused("accepted_at is out of range"))
            return
        passed = (
            [ask for ask in asks if destination_of(ask.row) not in failing] if failing else asks
        )
        try:
            await self._store.settle(asks, passed, (), self._advance, judge, moves=moves)
        except Refused as refusal:
            await self._bisect(asks, refusal)
        else:
            self.result.outcomes += outcomes

    async def give_up(self, doomed: Sequence[Doomed]) -> None:
        """Record the rows as failed, unless they are already."""
        if not doomed:
            return
        outcomes: list[Outcome] = []

        def judge(found: Found) -> list[Failed]:
            outcomes.extend(give_up(row, found) for row in doomed)
            return new_failures(outcomes, found)

        await self._store.settle((), (), doomed, self._advance, judge)
        self.result.outcomes += outcomes

    async def _bisect(self, asks: Sequence[Ask], refusal: Refused) -> None:
        """Postgres would not take something in the batch: find the row, and let the others settle."""
        if len(asks) > 1:
            middle = len(asks) // 2
            await self.settle(asks[:middle])
            await self.settle(asks[middle:])
            return
        row = asks[0].row
        log.error(
            "row_refused", job_id=str(row.job_id), row_number=row.row_number, error=str(refusal)
        )
        self.result.refused.append((row, str(refusal)))
        await self._settle_unpublished(asks[0])

    async def _settle_unpublished(self, ask: Ask) -> None:
        """A row that can't be stored fails, unless its key stands: as if the checks had refused it,
        for then Postgres never sees it.

        Or its outcome would change with its board (invariant 4).
        """
        outcomes: list[Outcome] = []

        def judge(found: Found) -> list[Failed]:
            outcomes.append(decide(ask, found, None, came_first=False))
            return new_failures(outcomes, found)

        await self._store.settle([ask], (), (), self._advance, judge, publishes=False)
        self.result.outcomes += outcomes
