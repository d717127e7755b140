"""The SQL of looks for pins whose answer was lost. Used by confirmer.py."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from psycopg.errors import UniqueViolation
from psycopg.rows import dict_row

from services.publisher.delivery.accounts.leases import Source
from services.publisher.delivery.accounts.pauses import CONFIRMING_CODES
from services.publisher.delivery.attempts.settlements import fail_pin, publish_pin, queue_pin
from services.publisher.delivery.attempts.statements import (
    ATTEMPT_COLUMNS,
    AttemptSettlement,
    read_attempt,
)
from services.publisher.delivery.confirming.confirmer import AdoptedElsewhere, StartedLook
from services.publisher.delivery.confirming.looks import MAX_UNSETTLED
from services.publisher.delivery.confirming.matching import SLACK
from services.publisher.delivery.model import AccountLease, AttemptOutcome, DeliveryAttempt
from services.publisher.model import Failure
from shared.postgres.database import Database, DriverConnection, driver_connection

ID_INDEX = "pins_of_pinterest"

# Also finds attempts whose sender ended without writing anything: these have no next_look_at.
# An attempt of another mode waits as long as a board that can't be read: the mode may change back
_IS_DUE = f"""
    outcome is null and deadline_at <= clock_timestamp()
    and (
        mode = %(mode)s
        or deadline_at < clock_timestamp() - interval '{MAX_UNSETTLED.days} days'
    )
    and coalesce(next_look_at, deadline_at) <= clock_timestamp()
"""
UNSETTLED_ATTEMPTS = Source(
    "unsettled attempts",
    f"select account_id, workspace_id from publisher.delivery_attempts where {_IS_DUE}",
    CONFIRMING_CODES,
)
_START_LOOK = f"""
    with due as (
        select {ATTEMPT_COLUMNS}, looks from publisher.delivery_attempts
        where account_id = %(account_id)s and {_IS_DUE}
        order by coalesce(next_look_at, deadline_at), attempt_id limit 1
    ), changed as (
        update publisher.pins p set state = 'confirming', updated_at = clock_timestamp()
        from due where p.pin_id = due.pin_id and p.state in ('publishing', 'queued')
    )
    select due.*, clock_timestamp() as looked_at from due
"""
_LOCK = """
    select absent_at from publisher.delivery_attempts
    where attempt_id = %s and outcome is null
    for update
"""
# A pin that was sent again has one id, and its attempts may have made several
_SELECT_KNOWN = """
    select pinterest_pin_id from publisher.pins where pinterest_pin_id = any(%(ids)s::text[])
    union
    select pinterest_pin_id from publisher.delivery_attempts
    where pinterest_pin_id = any(%(ids)s::text[])
"""
# Their windows overlap. Also attempts that were absent, because Pinterest may list a pin later than
# any look. And attempts that were found: if a person made an equal pin and Pinterest listed it
# first, the attempt's own pin appears after it
_SELECT_OTHERS = f"""
    select {ATTEMPT_COLUMNS} from publisher.delivery_attempts
    where board_id = %(board_id)s and mode = %(mode)s and attempt_id <> %(attempt_id)s
        and (outcome is null or outcome in ('absent', 'unconfirmed', 'found'))
        and started_at <= %(until)s and deadline_at >= %(since)s
"""
_LOOK_AGAIN = """
    update publisher.delivery_attempts
    set looks = looks + 1, absent_at = coalesce(absent_at, clock_timestamp()),
        next_look_at = clock_timestamp() + %s * interval '1 second'
    where attempt_id = %s
"""
_POSTPONE = """
    update publisher.delivery_attempts
    set looks = looks + 1, next_look_at = clock_timestamp() + %s * interval '1 second'
    where attempt_id = %s
"""
NOT_FOUND_MESSAGE = "Two looks at the board did not find the pin."


class LockedAttempt:
    """A locked attempt without an outcome."""

    def __init__(
        self, driver: DriverConnection, attempt: DeliveryAttempt, absent_at: datetime | None
    ) -> None:
        self._driver = driver
        self._attempt = attempt
        self.absent_at = absent_at

    async def read_known_ids(self, ids: Collection[str]) -> frozenset[str]:
        cursor = await self._driver.execute(_SELECT_KNOWN, {"ids": list(ids)})
        return frozenset(row[0] for row in await cursor.fetchall())

    async def read_others(self) -> Sequence[DeliveryAttempt]:
        values = {
            "board_id": self._attempt.board_id,
            "mode": self._attempt.mode,
            "attempt_id": self._attempt.attempt_id,
            "since": self._attempt.started_at - 2 * SLACK,
            "until": self._attempt.deadline_at + 2 * SLACK,
        }
        cursor = self._driver.cursor(row_factory=dict_row)
        await cursor.execute(_SELECT_OTHERS, values)
        return [read_attempt(row) for row in await cursor.fetchall()]

    async def adopt(self, pinterest_pin_id: str) -> None:
        await publish_pin(self._driver, self._attempt, AttemptOutcome.FOUND, pinterest_pin_id)

    async def look_again(self, seconds: float) -> None:
        await self._driver.execute(_LOOK_AGAIN, (seconds, self._attempt.attempt_id))

    async def postpone(self, seconds: float) -> None:
        await self._driver.execute(_POSTPONE, (seconds, self._attempt.attempt_id))

    async def send_again(self) -> None:
        settlement = AttemptSettlement(AttemptOutcome.ABSENT, None, None, NOT_FOUND_MESSAGE)
        await queue_pin(self._driver, self._attempt, settlement)

    async def give_up(self, failure: Failure) -> None:
        await fail_pin(self._driver, self._attempt, AttemptOutcome.UNCONFIRMED, failure)


class ConfirmingRepository:
    """Stores looks in Postgres. Raises DatabaseUnavailable if it is down."""

    def __init__(
        self, database: Database, mode: str, require_open: Callable[[float], Awaitable[None]]
    ) -> None:
        """Takes the gate of the topic `deliveries` (ports.DeliveryLog.require_open).

        While an older Postgres may lack ids, they could be adopted twice.
        """
        self._database = database
        self._mode = mode
        self._require_open = require_open

    async def start_look(self, lease: AccountLease) -> StartedLook | None:
        async with self._database.transaction() as connection:
            cursor = (await driver_connection(connection)).cursor(row_factory=dict_row)
            values = {
                "account_id": lease.account_id,
                "mode": self._mode,
            }
            await cursor.execute(_START_LOOK, values)
            row = await cursor.fetchone()
        if row is None:
            return None
        return StartedLook(
            read_attempt(row), row["looks"], row["looked_at"], row["mode"] != self._mode
        )

    @asynccontextmanager
    async def lock_attempt(self, attempt: DeliveryAttempt) -> AsyncIterator[LockedAttempt | None]:
        try:
            async with self._database.transaction() as connection:
                driver = await driver_connection(connection)
                await self._require_open(self._database.connected_at(driver))
                row = await (await driver.execute(_LOCK, (attempt.attempt_id,))).fetchone()
                yield None if row is None else LockedAttempt(driver, attempt, row[0])
        except UniqueViolation as error:
            if error.diag.constraint_name != ID_INDEX:
                raise
            raise AdoptedElsewhere from error
