"""Ends pauses whose cause is gone before their time.

A pause for a used-up day ends if the limits that are set now let a pin through: an operator may
have raised them. A pause for dead tokens ends if the account was connected since.
"""

from services.publisher.delivery.model import APP
from shared.access.connection_health import RECONNECT_CODES
from shared.contract.errors import ErrorCode
from shared.pinterest.model import Category
from shared.postgres.database import Database, driver_connection

PAUSE_CHECK_SECONDS = 20.0
"""Seconds between two checks. Users read that a connected account continues within a minute."""

# Judges the limits of a day as budgets/rules.py does (take). Skips locked rows, which somebody is
# changing: the next check sees the result. Only a created pin resets the steps of pauses
_END = """
    update publisher.delivery_accounts set paused_until = clock_timestamp()
    where account_id in (
        select account_id from publisher.delivery_accounts a
        where paused_until > clock_timestamp() and {condition}
        for update skip locked
    )
"""
_IS_USED_UP = """
    exists (
        select from publisher.pinterest_budgets b
        where b.mode = %(mode)s and b.account_id = {account_id} and b.category = %(category)s
            and b.day_started_at > clock_timestamp() - interval '1 day' and b.used >= {per_day}
    )
"""
_HAS_QUOTA = "pause_code = %(quota)s and not " + _IS_USED_UP.format(
    account_id="a.account_id", per_day="%(daily_pins)s"
)
# An account with such a code has no turns, so `served_at` stays the end of the turn that paused it
_IS_CONNECTED_SINCE = """
    pause_code = any(%(reconnect)s) and exists (
        select from access.connections c
        where c.account_id = a.account_id and c.mode = %(mode)s and c.disconnected_at is null
            and c.connected_at > a.served_at
    )
"""
_END_OF_ACCOUNTS = _END.format(condition=f"({_HAS_QUOTA} or {_IS_CONNECTED_SINCE})")
_END_OF_APP = f"""
    update publisher.delivery_apps set paused_until = clock_timestamp()
    where mode = %(mode)s and paused_until > clock_timestamp() and pause_code = %(quota)s
        and (
            %(app_writes)s = 0
            or not {_IS_USED_UP.format(account_id="%(app)s", per_day="%(app_writes)s")}
        )
"""


class OutdatedPauses:
    """Ends outdated pauses of accounts and of the app. Every replica can run one."""

    def __init__(
        self, database: Database, mode: str, *, daily_pins: int, app_writes_per_day: int
    ) -> None:
        """Takes the limits that are set now. `app_writes_per_day`: 0 is no limit."""
        self._database = database
        self._values = {
            "mode": mode,
            "category": str(Category.WRITE),
            "quota": str(ErrorCode.QUOTA_EXCEEDED),
            "reconnect": [str(code) for code in RECONNECT_CODES],
            "daily_pins": daily_pins,
            "app": APP,
            "app_writes": app_writes_per_day,
        }

    async def end(self) -> int:
        """Ends the pauses that are outdated now. Returns 0: the next check waits for the interval.

        Raises DatabaseUnavailable if Postgres is down.
        """
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            await driver.execute(_END_OF_ACCOUNTS, self._values)
            await driver.execute(_END_OF_APP, self._values)
        return 0
