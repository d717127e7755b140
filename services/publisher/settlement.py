"""One batch of rows, from the checks to the outcomes: asks the ports, lets service.py decide."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from services.publisher.repository import Judge
from services.publisher.service import (
    UNREADABLE,
    Ask,
    Doomed,
    Failed,
    Found,
    Origin,
    Outcome,
    decide_all,
    destination_of,
    in_order,
    new_failures,
)
from shared.access.repository import BoardCheck, Destination
from shared.database import Refused
from shared.events import RowAccepted

log = structlog.get_logger()


class Store(Protocol):
    async def settle(self, asks: Sequence[Ask], publishable: Sequence[Ask], doomed: Sequence[Doomed], judge: Judge) -> None: ...


class Boards(Protocol):
    async def failing(self, destinations: Collection[Destination]) -> Mapping[Destination, BoardCheck]: ...


@dataclass(slots=True)
class Settlement:
    outcomes: list[Outcome] = field(default_factory=list)
    refused: list[tuple[RowAccepted, str]] = field(default_factory=list)
    """Rows that Postgres itself would not take, and what it said."""


class Settler:
    """Settles batches, idempotently. Raises DatabaseUnavailable: then nothing is known, and the batch is to be settled again."""

    def __init__(self, store: Store, boards: Boards) -> None:
        self._store = store
        self._boards = boards

    async def settle(self, rows: Sequence[RowAccepted], doomed: Sequence[Doomed] = ()) -> Settlement:
        settlement = Settlement()
        failing = await self._boards.failing({destination_of(row) for row in rows})
        await self._settle(in_order(rows), failing, doomed, settlement)
        return settlement

    async def _settle(
        self, asks: Sequence[Ask], failing: Mapping[Destination, BoardCheck], doomed: Sequence[Doomed], settlement: Settlement
    ) -> None:
        outcomes: list[Outcome] = []

        def judge(found: Found) -> list[Failed]:
            outcomes.extend(decide_all(asks, failing, found))
            outcomes.extend(_failed(row, found) for row in doomed)
            return new_failures(outcomes, found)

        publishable = [ask for ask in asks if destination_of(ask.row) not in failing] if failing else asks
        try:
            await self._store.settle(asks, publishable, doomed, judge)
        except Refused as refusal:
            await self._bisect(asks, failing, doomed, settlement, refusal)
        else:
            settlement.outcomes += outcomes

    async def _bisect(
        self,
        asks: Sequence[Ask],
        failing: Mapping[Destination, BoardCheck],
        doomed: Sequence[Doomed],
        settlement: Settlement,
        refusal: Refused,
    ) -> None:
        """Postgres would not take something in the batch: find the row, and let the others settle."""
        if len(asks) > 1:
            middle = len(asks) // 2
            await self._settle(asks[:middle], failing, doomed, settlement)
            await self._settle(asks[middle:], failing, (), settlement)
            return
        (ask,) = asks
        log.error("row_refused", job_id=str(ask.row.job_id), row_number=ask.row.row_number, error=str(refusal))
        settlement.refused.append((ask.row, str(refusal)))
        await self._settle((), failing, (*doomed, Doomed(ask.row.job_id, ask.row.workspace_id, ask.row.row_number)), settlement)


def _failed(row: Doomed, found: Found) -> Failed:
    failure = found.failures.get(Origin(row.job_id, row.row_number), UNREADABLE)
    return Failed(row.job_id, row.workspace_id, row.row_number, None, failure)
