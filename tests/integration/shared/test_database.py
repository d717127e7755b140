"""Transactions on the real Postgres: what its refusals mean, and sessions that are in UTC whatever the server's zone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import quote
from uuid import uuid4

import pytest
from psycopg.errors import CheckViolation, NotNullViolation
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shared.database import Database, Refused
from shared.errors import DatabaseUnavailable
from shared.settings import DatabaseSettings

LAST_MOMENT = datetime(9999, 12, 31, 23, 30, tzinfo=UTC)


@asynccontextmanager
async def connected(url: str, *options: str) -> AsyncIterator[Database]:
    """With options as an operator writes them into the URL."""
    given = f"?options={quote(' '.join(f'-c {option}' for option in options))}" if options else ""
    database = Database.of(DatabaseSettings(database_url=SecretStr(url + given)), application="tests")
    try:
        yield database
    finally:
        await database.dispose()


async def pipelined(database: Database, statement: str, *values: object) -> None:
    async with database.pipeline() as driver:
        await driver.execute(statement.encode(), values or None)
        await driver.commit()


async def test_a_server_east_of_utc_hands_back_the_last_moment_there_is(database_url: str) -> None:
    """In its own zone it would lie in the year 10000, which Python has not: reading it would fail after it was committed."""
    async with connected(database_url, "timezone=Asia/Tokyo") as database:
        row = await database.first(text("select cast(:at as timestamptz) as at").bindparams(at=LAST_MOMENT))
        assert row == {"at": LAST_MOMENT}


async def test_options_of_the_url_hold_beside_ours(database_url: str) -> None:
    async with connected(database_url, "lock_timeout=77s", "work_mem=5MB") as database:
        shown = [
            await database.first(text(f"select current_setting('{name}') as value")) for name in ("lock_timeout", "work_mem", "timezone")
        ]
    assert shown == [{"value": "77s"}, {"value": "5MB"}, {"value": "UTC"}]


async def test_invariant_9_a_cancelled_statement_passes(database_url: str) -> None:
    async with connected(database_url, "statement_timeout=50ms") as database:
        with pytest.raises(DatabaseUnavailable, match="statement timeout"):
            await database.first(text("select pg_sleep(5)"))


@pytest.mark.parametrize(
    ("values", "violation"),
    [("null, 1, 2", NotNullViolation), ("'queued', 1, 1", CheckViolation)],
    ids=["not-null", "check"],
)
async def test_invariant_9_a_violated_constraint_is_not_refused(database: Database, values: str, violation: type[Exception]) -> None:
    """A newer schema beside an older version must not fail rows for ever: it waits, as a bug does."""
    statement = f"insert into status.jobs (job_id, workspace_id, status, total_rows, created_rows) values (%s, %s, {values})"
    with pytest.raises(violation):
        await pipelined(database, statement, uuid4(), uuid4())


@pytest.mark.parametrize("value", ["'9999999-01-01'::timestamptz", "repeat('x', 3000)::uuid", "1::int2 * 40000::int2"])
async def test_a_value_that_cannot_be_is_refused(database: Database, value: str) -> None:
    with pytest.raises(Refused):
        await pipelined(database, f"select {value}")


async def test_an_error_does_not_repeat_what_was_sent(database: Database) -> None:
    with pytest.raises(DBAPIError) as raised:
        await database.first(text("select cast(:payload as text) from nowhere").bindparams(payload="a secret"))
    assert "a secret" not in str(raised.value)
