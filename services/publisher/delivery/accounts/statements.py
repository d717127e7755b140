"""The SQL of leases and pauses of accounts, and of the app's pause.

Lock an account's row before all others, and the app's row last.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from math import ceil
from typing import Any, NamedTuple
from uuid import UUID

from psycopg import AsyncCursor

from services.publisher.delivery.accounts.pauses import NOT_PAUSED, TRY_SECONDS, PauseState
from services.publisher.delivery.model import AccountLease, FinishedTurn, Pause
from shared.contract.errors import ErrorCode
from shared.postgres.arrays import column_names, to_columns, unnest
from shared.postgres.database import DriverConnection

# An expired lease with the same fence is still the holder's: nobody else serves the account
_EXTEND = """
    update publisher.delivery_accounts
    set lease_until = clock_timestamp() + %s * interval '1 second'
    where account_id = %s and lease_fence = %s
    returning clock_timestamp(), lease_until, paused_until, pause_code, pause_step
"""
_LOCK = """
    select clock_timestamp(), paused_until, pause_code, pause_step
    from publisher.delivery_accounts where account_id = %s for update
"""
# next_at - served_at: the account's last rest. With a large spacing, it is tried long after its
# pause has ended
IS_PAUSED_OR_TRIED = f"""
    paused_until > clock_timestamp() - interval '{TRY_SECONDS:g} seconds'
        - coalesce(next_at - served_at, interval '0')
"""
# A day's used-up quota is no failure, so the pause that follows it is a new one
_PAUSE = f"""
    update publisher.delivery_accounts
    set paused_until = %s, pause_code = %s, pause_message = %s, pause_step = %s,
        paused_since = coalesce(
            case
                when pause_code <> '{ErrorCode.QUOTA_EXCEEDED}' and {IS_PAUSED_OR_TRIED}
                then paused_since
            end,
            clock_timestamp()
        )
    where account_id = %s
"""
_RESUME = """
    update publisher.delivery_accounts
    set paused_until = null, pause_code = null, pause_message = null, pause_step = 0,
        paused_since = null
    where account_id = %s and pause_code is not null
"""
_RESUME_FROM = f"{_RESUME} and pause_code = any(%s)"
_LOCK_APP = """
    select clock_timestamp(), paused_until, pause_code, pause_step
    from publisher.delivery_apps where mode = %s for update
"""
_READ_APP = _LOCK_APP.removesuffix("for update\n")
_INSERT_APP = "insert into publisher.delivery_apps (mode) values (%s) on conflict do nothing"
_PAUSE_APP = """
    update publisher.delivery_apps
    set paused_until = %s, pause_code = %s, pause_message = %s, pause_step = %s
    where mode = %s
"""
# Requests that were sent before the pause began may still succeed. They don't end it
_RESUME_APP = """
    update publisher.delivery_apps
    set paused_until = null, pause_code = null, pause_message = null, pause_step = 0
    where mode = %s and pause_code = any(%s)
"""
_PROBE_APP = """
    update publisher.delivery_apps
    set paused_until = clock_timestamp() + %s * interval '1 second'
    where mode = %s and pause_code is not null and paused_until <= clock_timestamp()
    returning mode
"""
_FINISHED_COLUMNS = (("account_id", "uuid"), ("fence", "int8"), ("rest_milliseconds", "int8"))
_RELEASE = f"""
    update publisher.delivery_accounts a
    set lease_until = null, served_at = clock_timestamp(),
        next_at = clock_timestamp() + f.rest_milliseconds * interval '1 millisecond'
    from {unnest(_FINISHED_COLUMNS)} as f({column_names(_FINISHED_COLUMNS)})
    where a.account_id = f.account_id and a.lease_fence = f.fence
"""


class HeldAccount(NamedTuple):
    """An account whose lease was extended. Its row is locked."""

    now: datetime
    lease_until: datetime
    pause: PauseState

    @property
    def is_paused(self) -> bool:
        return self.pause.until is not None and self.pause.until > self.now


async def send_lease_extension(
    driver: DriverConnection, lease: AccountLease, seconds: float
) -> AsyncCursor[Any]:
    """Locks the account and extends its lease, for `read_held_account`."""
    return await driver.execute(_EXTEND, (seconds, lease.account_id, lease.fence), binary=True)


def read_held_account(row: Sequence[Any] | None) -> HeldAccount | None:
    """Returns the account whose lease was extended, or None if another process has it."""
    return None if row is None else HeldAccount(row[0], row[1], PauseState(*row[2:]))


async def lock_pause(driver: DriverConnection, account_id: UUID) -> tuple[datetime, PauseState]:
    """Locks the account. Returns the database's time, and the account's pause."""
    row = await (await driver.execute(_LOCK, (account_id,))).fetchone()
    if row is None:
        raise AssertionError("The account has no lease.")
    return row[0], PauseState(*row[1:])


async def pause_account(driver: DriverConnection, account_id: UUID, pause: Pause) -> None:
    await driver.execute(_PAUSE, (pause.until, pause.code, pause.message, pause.step, account_id))


async def resume_account(driver: DriverConnection, account_id: UUID) -> None:
    """Ends the account's pause, and the growth of its pauses."""
    await driver.execute(_RESUME, (account_id,))


async def resume_account_from(
    driver: DriverConnection, account_id: UUID, codes: Iterable[str]
) -> None:
    """Ends the account's pause and its growth, if it has one of these codes."""
    await driver.execute(_RESUME_FROM, (account_id, list(codes)))


async def send_app_read(driver: DriverConnection, mode: str) -> AsyncCursor[Any]:
    """Reads the app's pause, for `read_app_pause`."""
    return await driver.execute(_READ_APP, (mode,), binary=True)


def read_app_pause(row: Sequence[Any] | None) -> tuple[datetime | None, PauseState]:
    """Returns the database's time and the app's pause. The time is None if it never paused."""
    return (None, NOT_PAUSED) if row is None else (row[0], PauseState(*row[1:]))


async def read_app(driver: DriverConnection, mode: str) -> tuple[datetime | None, PauseState]:
    """Reads the app's pause. Returns as `read_app_pause`."""
    return read_app_pause(await (await send_app_read(driver, mode)).fetchone())


async def lock_app(driver: DriverConnection, mode: str) -> tuple[datetime, PauseState]:
    """Locks the app. Returns the database's time, and the app's pause."""
    await driver.execute(_INSERT_APP, (mode,))
    row = await (await driver.execute(_LOCK_APP, (mode,))).fetchone()
    if row is None:
        raise AssertionError("The app's row was deleted.")
    return row[0], PauseState(*row[1:])


async def pause_app(driver: DriverConnection, mode: str, pause: Pause) -> None:
    await driver.execute(_PAUSE_APP, (pause.until, pause.code, pause.message, pause.step, mode))


async def resume_app(driver: DriverConnection, mode: str, codes: Iterable[str]) -> None:
    """Ends the app's pause if it has one of these codes."""
    await driver.execute(_RESUME_APP, (mode, list(codes)))


async def claim_probe(driver: DriverConnection, mode: str, seconds: float) -> bool:
    """Lets one pin through after the app's pause. Others wait for its result, at most `seconds`.

    Returns whether the caller has the probe.
    """
    return await (await driver.execute(_PROBE_APP, (seconds, mode))).fetchone() is not None


async def release_leases(driver: DriverConnection, turns: Iterable[FinishedTurn]) -> None:
    """Releases the leases of turns, except those that another process has taken over."""
    rows = [
        (turn.lease.account_id, turn.lease.fence, ceil(turn.remaining_seconds() * 1000))
        for turn in sorted(turns, key=lambda turn: turn.lease.account_id)
    ]
    if rows:
        await driver.execute(_RELEASE, to_columns(_FINISHED_COLUMNS, rows))
