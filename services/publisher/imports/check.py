"""Says what would become of an import's rows: a dry run. Writes nothing."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from services.publisher.model import PIN_TEXTS, Failure, build_failure
from services.publisher.rows.key_snapshot import KeySnapshot, RecordedState
from services.publisher.rows.keys import decide_one_by_one
from services.publisher.rows.outcomes import UNPROCESSABLE, Outcome
from services.publisher.rows.records import build_result
from services.publisher.rows.service import Boards
from services.publisher.rows.snapshot import (
    KeyedRow,
    RecordedOutcomes,
    collect_destinations,
    key_and_sort_rows,
    mark_connected,
)
from shared.contract.events import RowAccepted, RowResult


class ReadTransaction(Protocol):
    async def read_state(self, rows: Sequence[KeyedRow]) -> RecordedState: ...

    async def read_keys(
        self, rows: Sequence[KeyedRow], recorded: RecordedOutcomes
    ) -> KeySnapshot: ...


class SnapshotStore(Protocol):
    def read_only(self) -> AbstractAsyncContextManager[ReadTransaction]: ...


class RowChecker:
    """Decides rows as RowService does, from a snapshot of the store."""

    def __init__(self, store: SnapshotStore, boards: Boards) -> None:
        self._store = store
        self._boards = boards

    async def check(self, rows: Sequence[RowAccepted]) -> list[RowResult]:
        """Returns what each row would report if the import was settled now, in the rows' order."""
        results = {id(row): build_result(outcome) for row, outcome in await self._decide(rows)}
        return [results[id(row)] for row in rows]

    async def _decide(self, rows: Sequence[RowAccepted]) -> list[tuple[RowAccepted, Outcome]]:
        if not (unchecked := key_and_sort_rows(rows)):
            return []
        failing, connected = await self._boards.check(collect_destinations(unchecked))
        keyed = mark_connected(unchecked, connected)

        def find_failure(row: KeyedRow) -> Failure | None:
            check = failing.get(row.destination) if failing else None
            if check is not None:
                return build_failure(check, row.destination)
            return None if _is_storable(row.row) else UNPROCESSABLE

        async with self._store.read_only() as transaction:
            state = await transaction.read_state(keyed)
            snapshot = await transaction.read_keys(keyed, state.outcomes)
        outcomes = decide_one_by_one(keyed, snapshot, find_failure).outcomes
        return [(item.row, outcome) for item, outcome in zip(keyed, outcomes, strict=True)]


def _is_storable(row: RowAccepted) -> bool:
    """Returns whether Postgres accepts the row's texts: it refuses the character NUL."""
    texts = (getattr(row.row, name) for name in PIN_TEXTS)
    return not any("\0" in text for text in texts if text is not None)
