"""Reading an import while Postgres is away: what needs no lookup is read, nothing fails for it."""

import asyncio
from collections.abc import Collection
from typing import Any
from uuid import UUID

import pytest

from services.ingest.parsing.policy import ImportParameters, PastRunAt
from services.ingest.parsing.reading import RawTable
from services.ingest.parsing.rows import ParsedRows
from services.ingest.reader import AllowList, ImportReader, ReadingScope
from shared.access.model import Account, Board
from shared.contract.errors import DatabaseUnavailable
from tests.support.factories import ACCOUNT, NOON, submitted_row

PAST = "2020-01-01T00:00:00Z"


class UnavailableDirectories:
    """Stands for Postgres that is away."""

    async def find_by_names(
        self, _workspace_id: UUID, _accounts: Collection[str], _boards: Collection[str], /
    ) -> tuple[list[Account], list[Board]]:
        raise DatabaseUnavailable("away")

    async def find_connected(
        self, _workspace_id: UUID, _account_ids: Collection[UUID], /
    ) -> set[UUID]:
        raise DatabaseUnavailable("away")


async def read(
    row: dict[str, Any],
    *,
    past_run_at: PastRunAt = PastRunAt.PUBLISH,
    account_ids: AllowList = None,
) -> ParsedRows:
    """Reads an import of one row while Postgres is away."""
    scope = ReadingScope(ACCOUNT, NOON, ImportParameters(past_run_at=past_run_at), account_ids)
    reader = ImportReader(UnavailableDirectories())
    return await reader.read(lambda: RawTable([row]), scope, lambda rows: rows, in_thread=False)


@pytest.mark.parametrize(
    "row",
    [
        submitted_row(account_id="Lamp shop"),
        submitted_row(board_id="Autumn"),
        submitted_row(account_id="Lamp shop", board_id="Autumn"),
    ],
)
@pytest.mark.parametrize("account_ids", [None, frozenset([ACCOUNT])])
async def test_invariant_9_a_row_with_a_name_does_not_fail_because_postgres_is_away(
    row: dict[str, Any], account_ids: AllowList
) -> None:
    with pytest.raises(DatabaseUnavailable):
        await read(row, account_ids=account_ids)


class HangingDirectories:
    """Stands for Postgres that takes a query and never answers."""

    async def find_by_names(
        self, _workspace_id: UUID, _accounts: Collection[str], _boards: Collection[str], /
    ) -> tuple[list[Account], list[Board]]:
        await asyncio.Event().wait()
        raise AssertionError("never reached")

    async def find_connected(
        self, _workspace_id: UUID, _account_ids: Collection[UUID], /
    ) -> set[UUID]:
        await asyncio.Event().wait()
        raise AssertionError("never reached")


async def test_a_lookup_in_a_postgres_that_hangs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ingest.reader.LOOKUP_SECONDS", 0.01)
    scope = ReadingScope(ACCOUNT, NOON)
    table = RawTable([submitted_row(board_id="Autumn")])
    with pytest.raises(DatabaseUnavailable, match="in time"):
        await ImportReader(HangingDirectories()).read(
            lambda: table, scope, lambda rows: rows, in_thread=False
        )


async def test_a_row_that_fails_in_any_case_needs_no_postgres() -> None:
    forbidden = await read(submitted_row(), account_ids=frozenset())
    assert [result.error_code for result in forbidden.failed] == ["account_not_permitted"]
    past = await read(
        submitted_row(run_at=PAST, account_id="Lamp shop"), past_run_at=PastRunAt.FAIL
    )
    assert [result.error_code for result in past.failed] == ["run_at_in_past"]


async def test_a_name_that_was_not_looked_up_is_no_fault_of_a_row_with_others() -> None:
    parsed = await read(submitted_row(account_id="Lamp shop", title=""))
    assert [fault.field for fault in parsed.failed[0].errors or []] == ["title"]
    assert [notice.code for notice in parsed.warnings] == ["not_checked"]
