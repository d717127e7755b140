"""Reads what Pinflow has stored of the planned pins."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg.rows import dict_row

from deploy.administration import NewWorkspace

PINS = """
    select workspace_id, idempotency_key, state, error_code, error_message, pinterest_pin_id
    from publisher.pins where workspace_id = any(%s) and delivery is not null
"""
ATTEMPTS = """
    select coalesce(outcome, 'unsettled') as outcome, count(*) as count
    from publisher.delivery_attempts group by 1
"""
COUNTS = """
    select count(*) filter (where state in ('published', 'failed')) as ended, count(*) as stored
    from publisher.pins where workspace_id = any(%s)
"""

COUNT_SECONDS = 5.0
"""Maximum seconds of one count. A frozen server does not refuse the connection."""
SHORTEN = (
    """
        update publisher.delivery_accounts set paused_until = now() + interval '5 seconds'
        where paused_until > now() + interval '60 seconds'
    """,
    """
        update publisher.pins set deliver_after = now() + interval '5 seconds'
        where state = 'queued' and deliver_after > now() + interval '60 seconds'
    """,
)
"""Ends waits that last for hours, such as after a spam block."""


class StoreReader:
    def __init__(self, database_url: str, workspaces: Sequence[NewWorkspace]) -> None:
        self._url = database_url
        self._ids = [workspace.id for workspace in workspaces]

    async def count(self) -> tuple[int, int] | None:
        """Returns how many pins have ended and how many are stored. None while Postgres is away."""
        try:
            async with asyncio.timeout(COUNT_SECONDS):
                (row,) = await self._fetch(COUNTS, (self._ids,))
        except (psycopg.OperationalError, TimeoutError):
            return None
        return row["ended"], row["stored"]

    async def shorten_waits(self) -> None:
        """Ends long waits, so that a run does not last for hours. Fails while Postgres is away."""
        async with await psycopg.AsyncConnection.connect(
            self._url, connect_timeout=3, autocommit=True
        ) as connection:
            for statement in SHORTEN:
                await connection.execute(statement.encode())

    async def read_pins(self) -> Mapping[tuple[int, str], Mapping[str, Any]]:
        """Reads the pins by the workspace's number and the key."""
        numbers = {workspace_id: number for number, workspace_id in enumerate(self._ids)}
        return {
            (numbers[row["workspace_id"]], row["idempotency_key"]): row
            for row in await self._fetch(PINS, (self._ids,))
        }

    async def read_attempts(self) -> dict[str, int]:
        """Counts the attempts by outcome."""
        return {row["outcome"]: row["count"] for row in await self._fetch(ATTEMPTS, ())}

    async def _fetch(self, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        async with await psycopg.AsyncConnection.connect(
            self._url, connect_timeout=3, row_factory=dict_row
        ) as connection:
            return await (await connection.execute(query.encode(), values)).fetchall()
