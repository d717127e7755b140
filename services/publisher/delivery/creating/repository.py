"""The SQL that chooses the next pin, and that begins the attempt to create it."""

import time
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg.rows import dict_row

from services.publisher.delivery.accounts.statements import claim_probe, extend_lease, read_app
from services.publisher.delivery.attempts.compared import build_texts, digest
from services.publisher.delivery.attempts.statements import insert_attempt
from services.publisher.delivery.budgets.repository import Budgets
from services.publisher.delivery.budgets.rules import Exhausted
from services.publisher.delivery.model import (
    AccountLease,
    BegunAttempt,
    Category,
    DeliveryAttempt,
)
from services.publisher.delivery.ports import DeliveryLog, Postponed
from shared.contract.errors import PinflowError
from shared.postgres.database import Database, DriverConnection, driver_connection
from shared.postgres.row import Row

BLOCKED_PINS = 200
"""Maximum queued pins that are compared with unsettled attempts. If each equals one of them, the
account waits until that attempt is confirmed."""
BLOCKED_SECONDS = 2.0
PROBE_WAIT_SECONDS = 1.0
"""The rest of an account while another one's pin shows whether the app's pause can end."""

# Usually no attempt is unsettled, and one pin is enough. After a restore, what Kafka knows of a pin
# is applied first: a direct call may have created it again meanwhile
_SELECT_NEXT = """
    select p.*, a.*,
        array(
            select compared from publisher.delivery_attempts
            where account_id = %(account_id)s and mode = %(mode)s and outcome is null
        ) as unsettled_digests
    from (
        select * from publisher.pins
        where account_id = %(account_id)s and state = 'queued' and deleted_at is null
            and (deliver_after is null or deliver_after <= clock_timestamp())
            and not exists (
                select from publisher.delivery_attempts t
                where t.pin_id = pins.pin_id and not t.is_applied
            )
        order by run_at, created_at, pin_id
        limit case when exists (
            select from publisher.delivery_attempts
            where account_id = %(account_id)s and mode = %(mode)s and outcome is null
        ) then %(limit)s else 1 end
    ) p
    cross join lateral (
        select coalesce(max(number), 0) as attempts,
            (array_agg(attempt_id) filter (where outcome is null))[1] as unsettled_attempt_id,
            (array_agg(d.pinterest_pin_id order by number desc)
                filter (where d.pinterest_pin_id is not null and not exists (
                    select from publisher.pins q where q.pinterest_pin_id = d.pinterest_pin_id
                )))[1] as made_pin_id,
            count(*) filter (
                where d.error_code = 'media_unreachable'
                    and d.started_at > coalesce(p.touched_at, '-infinity')
            ) as fetch_tries,
            (array_agg(d.error_code order by number desc))[1] as last_code
        from publisher.delivery_attempts d where d.pin_id = p.pin_id
    ) a
    order by p.run_at, p.created_at, p.pin_id
"""
# The pin is sent as it was read. An edit or a cancel since then wins
_BEGIN = """
    update publisher.pins set state = 'publishing', updated_at = clock_timestamp()
    where pin_id = (
        select pin_id from publisher.pins
        where pin_id = %s and state = 'queued' and deleted_at is null and updated_at = %s
        for update skip locked
    )
"""
# A restored Postgres lacks the attempt. After `seconds` nothing may be sent any more: the request
# would outlast the deadline
_MAY_SEND = """
    select from publisher.delivery_attempts d
    join publisher.delivery_accounts a using (account_id)
    where d.attempt_id = %s and d.outcome is null and a.lease_fence = d.fence
        and clock_timestamp() + %s * interval '1 second' <= d.deadline_at
"""
_BEGIN_CONFIRMING = """
    with unsettled as (
        update publisher.delivery_attempts
        set next_look_at = coalesce(next_look_at, deadline_at)
        where attempt_id = %(attempt_id)s and outcome is null
        returning pin_id
    )
    update publisher.pins p set state = 'confirming', updated_at = clock_timestamp()
    from unsettled u where p.pin_id = u.pin_id and p.state = 'queued'
"""


class QuotaUsedUp(PinflowError):
    """The day's quota of the account or of the app is used up."""

    def __init__(self, exhausted: Exhausted) -> None:
        super().__init__("the day's quota is used up")
        self.exhausted = exhausted


class CreationRepository:
    """Chooses pins, and begins attempts. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(
        self,
        database: Database,
        log: DeliveryLog,
        budgets: Budgets,
        mode: str,
        *,
        lease_seconds: float,
        timeout_seconds: float,
        marks_links: bool,
    ) -> None:
        self._database = database
        self._log = log
        self._budgets = budgets
        self._mode = mode
        self._lease_seconds = lease_seconds
        self._timeout_seconds = timeout_seconds
        self._marks_links = marks_links

    async def find_next(self, account_id: UUID) -> Row | None:
        """Returns the account's pin that is to be sent next, or None.

        Schedules come first, then pins in the order of their rows. Skips pins that could be
        mistaken for that of an unsettled attempt (rule 16). Raises Postponed if all are such.
        """
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            await self._require_open(driver)
            cursor = driver.cursor(row_factory=dict_row)
            values = {"account_id": account_id, "mode": self._mode, "limit": BLOCKED_PINS}
            await cursor.execute(_SELECT_NEXT, values)
            rows = await cursor.fetchall()
        for row in rows:
            digests = row["unsettled_digests"]
            if row["unsettled_attempt_id"] or not digests or _digest(row) not in digests:
                return row
        if rows:
            raise Postponed(BLOCKED_SECONDS)
        return None

    async def begin(self, lease: AccountLease, pin: Row) -> BegunAttempt | None:
        """Commits the intent to create a pin. Returns None if the pin has changed since `pin`.

        Raises Postponed or QuotaUsedUp if it must wait, and then changes nothing.
        """
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            await self._require_open(driver)
            send_until = time.monotonic() + self._lease_seconds - self._timeout_seconds
            held = await extend_lease(driver, lease, self._lease_seconds)
            if held is None:
                return None
            if held.is_paused and held.pause.until is not None:
                raise Postponed((held.pause.until - held.now).total_seconds())
            cursor = await driver.execute(_BEGIN, (pin["pin_id"], pin["updated_at"]))
            if cursor.rowcount == 0:
                return None
            attempt = self._build_attempt(lease, pin, held.now, held.lease_until)
            await insert_attempt(driver, attempt)
            await self._take_budgets(driver, lease.account_id)
            # The app's row is locked last, as when a refusal pauses the app
            is_probe = await self._require_app(driver)
            had_pause = is_probe or held.pause.code is not None
        return BegunAttempt(attempt, is_probe, had_pause, send_until)

    async def may_send(self, attempt: DeliveryAttempt) -> bool:
        """Returns whether the request may leave: right before it does."""
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            cursor = await driver.execute(_MAY_SEND, (attempt.attempt_id, self._timeout_seconds))
            return await cursor.fetchone() is not None

    async def begin_confirming(self, attempt_id: UUID) -> None:
        """Confirms a queued pin that has an unsettled attempt, instead of sending it.

        A restore of Postgres makes such pins.
        """
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            await driver.execute(_BEGIN_CONFIRMING, {"attempt_id": attempt_id})

    async def _require_open(self, driver: DriverConnection) -> None:
        await self._log.require_open(self._database.connected_at(driver))

    async def _require_app(self, driver: DriverConnection) -> bool:
        now, pause = await read_app(driver, self._mode)
        if now is None or pause.code is None or pause.until is None:
            return False
        if pause.until > now:
            raise Postponed((pause.until - now).total_seconds())
        if not await claim_probe(driver, self._mode, self._lease_seconds):
            raise Postponed(PROBE_WAIT_SECONDS)
        return True

    async def _take_budgets(self, driver: DriverConnection, account_id: UUID) -> None:
        wait = await self._budgets.take(driver, self._mode, account_id, Category.WRITE, pins=1)
        if isinstance(wait, Exhausted):
            raise QuotaUsedUp(wait)
        if wait > 0:
            raise Postponed(wait)

    def _build_attempt(
        self, lease: AccountLease, pin: Row, started_at: datetime, deadline_at: datetime
    ) -> DeliveryAttempt:
        attempt_id = uuid4()
        return build_attempt(
            lease,
            pin,
            self._mode,
            attempt_id=attempt_id,
            marked_by=attempt_id if self._marks_links else None,
            started_at=started_at,
            deadline_at=deadline_at,
        )


def build_attempt(
    lease: AccountLease,
    pin: Row,
    mode: str,
    *,
    started_at: datetime,
    deadline_at: datetime,
    attempt_id: UUID | None = None,
    marked_by: UUID | None = None,
) -> DeliveryAttempt:
    """Builds the next attempt of a pin that `find_next` returned."""
    return DeliveryAttempt(
        attempt_id=attempt_id or uuid4(),
        pin_id=pin["pin_id"],
        number=pin["attempts"] + 1,
        workspace_id=pin["workspace_id"],
        account_id=lease.account_id,
        mode=mode,
        fence=lease.fence,
        board_id=pin["board_id"],
        texts=build_texts(pin, marked_by),
        started_at=started_at,
        deadline_at=deadline_at,
    )


def _digest(pin: Row) -> Any:
    return digest(pin["board_id"], build_texts(pin))
