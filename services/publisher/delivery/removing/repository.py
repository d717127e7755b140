"""The SQL of removals. Used by remover.py."""

from collections.abc import Awaitable, Callable
from typing import assert_never
from uuid import UUID

from psycopg.rows import dict_row

from services.publisher.delivery.accounts.leases import Source
from services.publisher.delivery.accounts.pauses import NEW_PIN_CODES
from services.publisher.delivery.removing.rules import (
    Removal,
    RemovalDecision,
    RemovalRefused,
    RemoveAgain,
    Removed,
)
from services.publisher.generations import read_keys, release_keys
from services.publisher.ids import compute_pin_id
from services.publisher.model import Failure
from services.publisher.removal_outcomes import RemovalOutcome
from shared.postgres.database import Database, DriverConnection, driver_connection

# The pins of another mode are not on this Pinterest
_IS_DUE = """
    outcome is null and next_at <= clock_timestamp()
    and not exists (
        select from publisher.delivery_attempts a
        where a.pin_id = r.pin_id and a.pinterest_pin_id = r.pinterest_pin_id
            and a.mode <> %(mode)s
    )
"""
REMOVALS = Source(
    "removals",
    f"select account_id, workspace_id from publisher.removals r where {_IS_DUE}",
    NEW_PIN_CODES,
)
_FIND_DUE = f"""
    select pin_id, workspace_id, account_id, pinterest_pin_id, requested_at, tries,
        clock_timestamp() as started_at
    from publisher.removals r
    where account_id = %(account_id)s and {_IS_DUE}
    order by next_at, pin_id limit 1
"""
_SELECT_KEY = "select workspace_id, idempotency_key from publisher.pins where pin_id = %s"
_LOCK_PIN = "select from publisher.pins where pin_id = %s for update"
_SETTLE = """
    update publisher.removals
    set outcome = %s, settled_at = clock_timestamp(), tries = tries + 1, error_code = %s,
        error_message = %s
    where pin_id = %s and outcome is null
    returning release_key
"""
_POSTPONE = """
    update publisher.removals
    set tries = tries + 1, next_at = clock_timestamp() + %s * interval '1 second'
    where pin_id = %s and outcome is null
"""
_MARK_REMOVED = """
    update publisher.pins
    set removed_at = clock_timestamp(), updated_at = clock_timestamp(),
        deleted_at = case when %(is_undone)s then coalesce(deleted_at, clock_timestamp())
            else deleted_at end
    where pin_id = %(pin_id)s
"""


class RemovingRepository:
    """Stores removals in Postgres. Raises DatabaseUnavailable if it is down."""

    def __init__(
        self, database: Database, mode: str, require_open: Callable[[float], Awaitable[None]]
    ) -> None:
        """Takes the gate of the topic `deliveries` (ports.DeliveryLog.require_open).

        An older Postgres may have a removal that was carried out, and whose key was taken again.
        """
        self._database = database
        self._mode = mode
        self._require_open = require_open

    async def find_due(self, account_id: UUID) -> Removal | None:
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            await self._require_open(self._database.connected_at(driver))
            cursor = driver.cursor(row_factory=dict_row)
            await cursor.execute(_FIND_DUE, {"account_id": account_id, "mode": self._mode})
            row = await cursor.fetchone()
        return None if row is None else Removal(**row)

    async def record(self, removal: Removal, decision: RemovalDecision) -> None:
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            match decision:
                case Removed():
                    await _finish(driver, removal)
                case RemoveAgain(after_seconds):
                    await driver.execute(_POSTPONE, (after_seconds, removal.pin_id))
                case RemovalRefused(failure):
                    await _settle(driver, removal, RemovalOutcome.REFUSED, failure)
                case _:
                    assert_never(decision)


async def _finish(driver: DriverConnection, removal: Removal) -> None:
    """Records that the pin is gone. An undone pin is deleted, and its key is released."""
    holder = await _lock(driver, removal.pin_id)
    row = await _settle(driver, removal, RemovalOutcome.REMOVED)
    if row is None:
        return  # an earlier holder of the lease settled it
    (is_undone,) = row
    if is_undone and holder is not None:
        await release_keys(driver, [holder])
    await driver.execute(_MARK_REMOVED, {"pin_id": removal.pin_id, "is_undone": is_undone})


async def _lock(driver: DriverConnection, pin_id: UUID) -> tuple[UUID, UUID] | None:
    """Locks the key of the pin and then the pin, in the order of services/publisher/generations.

    Returns the key's first pin id and the pin's id, if the pin still has the key. None: the key was
    released before, and may belong to a later pin, which must keep it.
    """
    row = await (await driver.execute(_SELECT_KEY, (pin_id,))).fetchone()
    if row is None:
        return None
    first_pin_id = compute_pin_id(*row)
    key = (await read_keys(driver, [first_pin_id], lock=True)).get(first_pin_id)
    await driver.execute(_LOCK_PIN, (pin_id,))
    has_key = key is not None and not key.is_free and key.last_pin_id == pin_id
    return (first_pin_id, pin_id) if has_key else None


async def _settle(
    driver: DriverConnection,
    removal: Removal,
    outcome: RemovalOutcome,
    failure: Failure | None = None,
) -> tuple[bool] | None:
    """Settles the removal, unless that was done before: then returns None.

    Otherwise returns whether the pin's key is to be released.
    """
    values = (outcome, *(failure or (None, None)), removal.pin_id)
    return await (await driver.execute(_SETTLE, values)).fetchone()
