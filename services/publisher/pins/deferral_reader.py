"""Reads the pauses of accounts and of the app, which defer queued pins."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text

from services.publisher.model import PinState
from services.publisher.pins.deferrals import NO_PAUSES, Pauses, PinDeferral, find_deferral
from shared.postgres.database import Database
from shared.postgres.row import Row

_SELECT = """
    select account_id, pause_code as code, pause_message as message, paused_until as until
    from publisher.delivery_accounts where paused_until > now() and {accounts}
    union all
    select null, pause_code, pause_message, paused_until
    from publisher.delivery_apps where paused_until > now() and mode = :mode
"""
_OF_ACCOUNTS = text(_SELECT.format(accounts="account_id = any(cast(:ids as uuid[]))"))
_OF_WORKSPACE = text(_SELECT.format(accounts="workspace_id = :workspace_id"))


class DeferralReader:
    """Reads pauses. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database, mode: str) -> None:
        """Takes the mode of the installation: another mode's app pauses nothing."""
        self._database = database
        self._mode = mode

    async def describe(self, rows: Iterable[Mapping[str, Any]]) -> list[Row]:
        """Adds `deferral` to pins. Reads the pauses only if one of them is queued."""
        found = [dict(row) for row in rows]
        accounts = {row["account_id"] for row in found if row["state"] == PinState.QUEUED}
        pauses = await self._read_pauses(accounts) if accounts else NO_PAUSES
        now = datetime.now(UTC)
        return [{**row, "deferral": find_deferral(row, pauses, now)} for row in found]

    async def describe_pin(self, row: Mapping[str, Any]) -> Row:
        (described,) = await self.describe([row])
        return described

    async def read_pauses_of_workspace(self, workspace_id: UUID) -> Pauses:
        return await self._read(_OF_WORKSPACE.bindparams(workspace_id=workspace_id))

    async def _read_pauses(self, account_ids: Collection[UUID]) -> Pauses:
        return await self._read(_OF_ACCOUNTS.bindparams(ids=list(account_ids)))

    async def _read(self, statement: TextClause) -> Pauses:
        rows = await self._database.fetch_all(statement.bindparams(mode=self._mode))
        pauses = {
            row["account_id"]: PinDeferral(row["code"], row["message"], row["until"])
            for row in rows
        }
        return Pauses(pauses.pop(None, None), pauses)
