"""Ends pauses of deliveries in SQL, as the owner of the database."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import text

from shared.access.connection_health import GIVEN_UP
from shared.contract.errors import ErrorCode
from shared.postgres.database import Database
from shared.postgres.row import Row

# In the order of locks: the account, its pins, its budgets. Codes and steps stay: if Pinterest
# refuses again, the next pause is longer
_END_PAUSE = text("""
    with before as (
        select account_id, paused_until, pause_code, pause_message
        from publisher.delivery_accounts where account_id = :account_id
        for update
    )
    update publisher.delivery_accounts a
    set paused_until = case when a.paused_until is null then null else clock_timestamp() end,
        next_at = null
    from before b
    where a.account_id = b.account_id
    returning b.paused_until, b.pause_code, b.pause_message,
        coalesce(b.paused_until > clock_timestamp(), false) as was_paused
""")
# A pin without a code waits for its video, whose upload has its own time
_RELEASE_PINS = text("""
    update publisher.pins set deliver_after = null, deferral_code = null
    where account_id = :account_id and state = 'queued' and deleted_at is null
        and deliver_after > clock_timestamp() and deferral_code is not null
""")
# As in the list of deliveries: the limit of changes, in the mode in which the account is connected
_LOCK_BLOCK = text("""
    select b.blocked_until from publisher.pinterest_budgets b
    join access.connections c on c.account_id = b.account_id and c.mode = b.mode
    where b.account_id = :account_id and b.category = 'org_write'
        and b.blocked_until > clock_timestamp()
    for update of b
""")
_UNBLOCK = text("""
    update publisher.pinterest_budgets set blocked_until = null
    where account_id = :account_id and blocked_until is not null
""")
_RELEASE_REMOVALS = text("""
    update publisher.removals set next_at = clock_timestamp()
    where account_id = :account_id and outcome is null and next_at > clock_timestamp()
""")
_END_APP_PAUSES = text("""
    with before as (
        select mode, paused_until, pause_code, pause_message from publisher.delivery_apps
        where paused_until > clock_timestamp()
        order by mode for update
    )
    update publisher.delivery_apps a set paused_until = clock_timestamp()
    from before b where a.mode = b.mode
    returning b.mode, b.paused_until, b.pause_code, b.pause_message
""")
# Only in the mode in which the account is connected: a pause of another mode does not stop it
_SELECT_APP_PAUSES = text("""
    select a.mode, a.paused_until, a.pause_code, a.pause_message from publisher.delivery_apps a
    join access.connections c on c.account_id = :account_id and c.mode = a.mode
    where a.paused_until > clock_timestamp()
""")
_SELECT_ACCOUNT = text("""
    select case
        when c.disconnected_at is not null then cast(:disconnected as text)
        when c.health_code = any(:given_up) then c.health_code
    end as given_up_code
    from access.accounts a left join access.connections c on c.account_id = a.id
    where a.id = :account_id
""")


class ResumedAccount(NamedTuple):
    """Says what was ended for an account."""

    pause: Row | None
    """`pause_code`, `pause_message` and `paused_until` of the pause. None if it was not paused."""
    blocked_until: datetime | None
    """When Pinterest's limit of changes ends. None if the account did not wait for it."""
    pins: int
    """Pins that waited by themselves."""
    removals: int
    """Removals that waited for their next try."""
    app_pauses: Sequence[Row]
    """The pause of the app in the account's mode, as `resume_app` returns it. It is not ended."""
    given_up_code: str | None
    """The reason if the account has no access to Pinterest until its user connects it again."""


class PauseRepository:
    """Ends pauses. All methods raise DatabaseUnavailable if Postgres is down."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def resume_account(self, account_id: UUID) -> ResumedAccount | None:
        """Ends the account's pause, and the waits of its pins. Returns None if it is unknown.

        Pinflow also forgets until when Pinterest's limits last, so that it sends again. The limits
        themselves stay.
        """
        values = {"account_id": account_id}
        codes = {
            "disconnected": str(ErrorCode.ACCOUNT_NOT_CONNECTED),
            "given_up": [str(code) for code in GIVEN_UP],
        }
        account = await self._database.fetch_first(_SELECT_ACCOUNT.bindparams(**values, **codes))
        if account is None:
            return None
        async with self._database.transaction() as connection:
            row = (await connection.execute(_END_PAUSE, values)).mappings().first()
            pins = await connection.execute(_RELEASE_PINS, values)
            removals = await connection.execute(_RELEASE_REMOVALS, values)
            blocked_until = (await connection.execute(_LOCK_BLOCK, values)).scalar_one_or_none()
            await connection.execute(_UNBLOCK, values)
            apps = (await connection.execute(_SELECT_APP_PAUSES, values)).mappings().all()
        pause = dict(row) if row is not None and row["was_paused"] else None
        return ResumedAccount(
            pause,
            blocked_until,
            pins.rowcount,
            removals.rowcount,
            [dict(app) for app in apps],
            given_up_code=account["given_up_code"],
        )

    async def resume_app(self) -> Sequence[Row]:
        """Ends the app's pause in all modes. Returns the pauses, which also have the `mode`."""
        async with self._database.transaction() as connection:
            return [dict(row) for row in (await connection.execute(_END_APP_PAUSES)).mappings()]
