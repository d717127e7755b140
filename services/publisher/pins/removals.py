"""Requests the removal of pins from Pinterest, and reads the results.

services/publisher/delivery carries the removals out (ADR 0049).
"""

import asyncio
import time
from collections.abc import Collection
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from psycopg.rows import dict_row
from sqlalchemy import text

from services.publisher.delivery.accounts.pauses import NEW_PIN_CODES
from services.publisher.removal_outcomes import RemovalOutcome, SettledRemoval
from shared.postgres.arrays import Column
from shared.postgres.database import Database, DriverConnection

WAIT_SECONDS = 5.0
"""Maximum time that a request waits until the pin is removed."""
POLL_SECONDS = 0.2

# A refused removal is tried again. A repeated request changes nothing else, but an undo's removal
# also releases the key. Ids are sorted, so that two transactions can't deadlock
_INSERT = """
    insert into publisher.removals (
        pin_id, workspace_id, account_id, pinterest_pin_id, release_key
    )
    select pin_id, workspace_id, account_id, pinterest_pin_id, %b from publisher.pins
    where pin_id = any(%b::uuid[]) and pinterest_pin_id is not null and removed_at is null
    order by pin_id
    on conflict (pin_id) do update set
        release_key = removals.release_key or excluded.release_key,
        outcome = nullif(removals.outcome, 'refused'),
        settled_at = case when removals.outcome = 'refused' then null else removals.settled_at end,
        error_code = null,
        error_message = null,
        next_at = case when removals.outcome = 'refused' then now() else removals.next_at end
"""
_SELECT = text("""
    select p.pin_id, p.pinterest_pin_id, p.removed_at,
        coalesce(r.outcome, case when p.removed_at is not null then 'removed' end) as outcome,
        r.error_message,
        c.disconnected_at is not null as is_disconnected,
        a.paused_until, a.pause_code, a.pause_message
    from publisher.pins p
    left join publisher.removals r on r.pin_id = p.pin_id
    left join access.connections c on c.account_id = p.account_id
    left join publisher.delivery_accounts a
        on a.account_id = p.account_id and a.paused_until > now()
        and a.pause_code <> all(cast(:new_pin_codes as text[]))
    where p.pin_id = :pin_id
""")
SELECT_OUTCOMES = """
    select pin_id, outcome, error_message from publisher.removals
    where pin_id = any(%b::uuid[]) and outcome is not null
"""


class PinRemoval(NamedTuple):
    """The removal of a pin from Pinterest, as it is now."""

    pin_id: UUID
    pinterest_pin_id: str
    removed_at: datetime | None
    outcome: RemovalOutcome | None
    """None while the delivery process has it to do."""
    error_message: str | None
    is_disconnected: bool
    paused_until: datetime | None
    """The end of a pause that holds removals, too."""
    pause_code: str | None
    pause_message: str | None

    @property
    def is_waiting_long(self) -> bool:
        """True if the account must be connected, or its pause must end, before the removal."""
        return self.is_disconnected or self.paused_until is not None


async def request_removals(
    driver: DriverConnection, pin_ids: Collection[UUID], *, release_keys: bool
) -> None:
    """Requests the removal of published pins. The transaction must have locked them.

    With `release_keys`, the delivery process then deletes the pins and releases their keys.
    """
    if pin_ids:
        values = [release_keys, Column("uuid", list(pin_ids))]
        await driver.execute(_INSERT, values, binary=True)


async def read_outcomes(
    driver: DriverConnection, pin_ids: Collection[UUID]
) -> dict[UUID, SettledRemoval]:
    """Reads the outcomes of removals that have one."""
    cursor = driver.cursor(binary=True, row_factory=dict_row)
    await cursor.execute(SELECT_OUTCOMES, [Column("uuid", list(pin_ids))])
    return {
        row["pin_id"]: SettledRemoval(RemovalOutcome(row["outcome"]), row["error_message"])
        for row in await cursor.fetchall()
    }


class RemovalReader:
    """Waits for removals. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(
        self, database: Database, *, is_on: bool, wait_seconds: float = WAIT_SECONDS
    ) -> None:
        """Takes whether the installation delivers: otherwise no removal can be carried out."""
        self._database = database
        self._wait_seconds = wait_seconds if is_on else 0.0

    async def wait(self, pin_id: UUID) -> PinRemoval:
        """Returns the removal when it has an outcome, or after some seconds without one.

        Holds no connection meanwhile. Does not wait for an account that is paused or disconnected.
        """
        deadline = time.monotonic() + self._wait_seconds
        while True:
            removal = await self._read(pin_id)
            is_over = removal.outcome is not None or removal.is_waiting_long
            if is_over or time.monotonic() >= deadline:
                return removal
            await asyncio.sleep(POLL_SECONDS)

    async def _read(self, pin_id: UUID) -> PinRemoval:
        row = await self._database.fetch_first(
            _SELECT.bindparams(pin_id=pin_id, new_pin_codes=[str(code) for code in NEW_PIN_CODES])
        )
        if row is None:
            raise AssertionError("The pin of a removal was deleted from the database.")
        outcome = row["outcome"] and RemovalOutcome(row["outcome"])
        return PinRemoval(**{**row, "outcome": outcome})
