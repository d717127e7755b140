"""Column parameters: Postgres reads every value unchanged, with the types that are declared."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from pydantic import SecretStr

from shared.contract.errors import ValueRejected
from shared.postgres.arrays import Column, to_columns
from shared.postgres.database import Database, driver_connection
from shared.runtime.settings import DatabaseSettings
from tests.support.columns import STATEMENT, TABLE

ROWS: list[tuple[Any, ...]] = [
    (UUID(int=0), "", 0, 0, 0, False, datetime(2000, 1, 1, tzinfo=UTC), b""),
    (
        UUID(int=2**128 - 1),
        "Grüße, 名前 🎈 'NULL' {a,b}",
        -(2**15),
        2**31 - 1,
        -(2**63),
        True,
        datetime(1969, 7, 20, 20, 17, 40, 1, tzinfo=UTC),
        b"\0\xff{}",
    ),
    (None, None, None, None, None, None, None, None),
    (
        UUID(int=7),
        "x" * 3000,
        2**15 - 1,
        -(2**31),
        2**63 - 1,
        True,
        datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=5.5))),
        bytes(3000),
    ),
]


@pytest_asyncio.fixture(loop_scope="module")
async def database(database_url: str) -> AsyncIterator[Database]:
    made = Database.from_settings(
        DatabaseSettings(database_url=SecretStr(database_url)), application="test-columns"
    )
    yield made
    await made.dispose()


async def read_back(database: Database, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    async with database.pipeline() as driver:
        cursor = await driver.execute(STATEMENT, to_columns(TABLE, rows), binary=True)
        return await cursor.fetchall()


async def test_values_of_every_type_are_read_back_unchanged(database: Database) -> None:
    assert await read_back(database, ROWS) == ROWS


async def test_a_column_of_nulls_is_null_in_every_row(database: Database) -> None:
    rows = [(UUID(int=number), *(None,) * 7) for number in range(3)]
    assert await read_back(database, rows) == rows


async def test_no_rows_are_read_back_as_no_rows(database: Database) -> None:
    assert await read_back(database, []) == []


async def test_one_prepared_statement_serves_all_values(database: Database) -> None:
    async with database.transaction() as connection:
        driver = await driver_connection(connection)
        for values in ([1], [2**40], [None], []):
            await driver.execute(
                "select %b::int8[] as one_of_a_kind", (Column("int8", values),), prepare=True
            )
        cursor = await driver.execute(
            "select count(*) from pg_prepared_statements where statement like '%%one_of_a_kind'"
        )
        assert await cursor.fetchone() == (1,)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("int4", 2**31), ("int2", -(2**15) - 1), ("text", "\ud800"), ("text", "a\0b")],
)
async def test_a_value_that_its_type_cannot_hold_is_rejected(
    database: Database, kind: str, value: object
) -> None:
    async def send() -> None:
        async with database.pipeline() as driver:
            cursor = await driver.execute(
                f"select unnest(%b::{kind}[])".encode(), (Column(kind, [value, None]),)
            )
            await cursor.fetchall()

    with pytest.raises(ValueRejected):
        await send()
