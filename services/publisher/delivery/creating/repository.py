"""The SQL that chooses the next pin, and that begins the attempt to create it."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

from psycopg import AsyncCursor
from psycopg.rows import dict_row

from services.publisher.delivery.accounts.statements import (
    HeldAccount,
    claim_probe,
    read_app_pause,
    read_held_account,
    send_app_read,
    send_lease_extension,
)
from services.publisher.delivery.attempts.compared import build_texts, digest
from services.publisher.delivery.attempts.statements import insert_attempt
from services.publisher.delivery.budgets.repository import Budgets, LockedBudget
from services.publisher.delivery.budgets.rules import Exhausted
from services.publisher.delivery.model import (
    AccountLease,
    BegunAttempt,
    DeliveryAttempt,
    Postponed,
)
from services.publisher.delivery.ports import DeliveryLog
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
    select p.*, a.*, clock_timestamp() as read_at,
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
        for update skip locked
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
_LOCK_PIN = """
    select from publisher.pins
    where pin_id = %s and state = 'queued' and deleted_at is null and updated_at = %s
    for update skip locked
"""
_BEGIN = """
    update publisher.pins set state = 'publishing', updated_at = clock_timestamp()
    where pin_id = %s
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


class ChosenPin(NamedTuple):
    """The account's pin that is to be sent next."""

    pin: Row
    begun: BegunAttempt | None
    """None: the pin needs something before its attempt."""


class _Locked(NamedTuple):
    """Holds the results of the locks of an attempt: the account, the pins, the budgets."""

    account: AsyncCursor[Any]
    pins: AsyncCursor[Any]
    budgets: list[LockedBudget]
    app: AsyncCursor[Any]
    """The app's pause, which is not locked."""
    send_until: float
    """The monotonic time after which the request could outlast the lease."""


class CreationRepository:
    """Chooses pins, and begins attempts. Raises DatabaseUnavailable if Postgres is down."""

    def __init__(
        self,
        database: Database,
        delivery_log: DeliveryLog,
        budgets: Budgets,
        mode: str,
        *,
        lease_seconds: float,
        timeout_seconds: float,
        marks_links: bool,
    ) -> None:
        self._database = database
        self._delivery_log = delivery_log
        self._budgets = budgets
        self._mode = mode
        self._lease_seconds = lease_seconds
        self._timeout_seconds = timeout_seconds
        self._marks_links = marks_links

    async def begin_next(
        self, lease: AccountLease, is_ready: Callable[[Row], bool]
    ) -> ChosenPin | None:
        """Commits the intent to create the account's next pin, in two round trips.

        Schedules come first, then pins in the order of their rows. Skips pins with the board and
        texts of an unsettled attempt: no look could tell the two pins apart. Returns None if no pin
        is due. Returns the pin unchanged and without an attempt if `is_ready` is false, or if an
        earlier attempt is unsettled or has an id. Raises Postponed or QuotaUsedUp if the pin must
        wait, and then changes nothing.
        """
        async with self._database.pipeline() as driver:
            values = {
                "account_id": lease.account_id,
                "mode": self._mode,
                "limit": BLOCKED_PINS,
            }
            locked = await self._lock(driver, lease, _SELECT_NEXT, values)
            held = read_held_account(await locked.account.fetchone())
            rows = await locked.pins.fetchall()
            if held is None or not rows:
                return None
            pin = _choose(rows)
            is_new = pin["unsettled_attempt_id"] is None and pin["made_pin_id"] is None
            if not (is_new and is_ready(pin)):
                return ChosenPin(pin, None)
            return ChosenPin(pin, await self._begin(driver, lease, pin, held, locked))

    async def begin(self, lease: AccountLease, pin: Row) -> BegunAttempt | None:
        """Commits the intent to create a pin of `begin_next`. Returns None if it has changed since.

        Raises Postponed or QuotaUsedUp if it must wait, and then changes nothing.
        """
        async with self._database.pipeline() as driver:
            values = (pin["pin_id"], pin["updated_at"])
            locked = await self._lock(driver, lease, _LOCK_PIN, values)
            held = read_held_account(await locked.account.fetchone())
            if held is None or await locked.pins.fetchone() is None:
                return None
            return await self._begin(driver, lease, pin, held, locked)

    async def may_send(self, attempt: DeliveryAttempt) -> bool:
        """Returns whether the request may leave: right before it does."""
        async with self._database.autocommit() as driver:
            values = (attempt.attempt_id, self._timeout_seconds)
            cursor = await driver.execute(_MAY_SEND, values, binary=True)
            return await cursor.fetchone() is not None

    async def begin_confirming(self, attempt_id: UUID) -> None:
        """Confirms a queued pin that has an unsettled attempt, instead of sending it.

        A restore of Postgres makes such pins.
        """
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            await driver.execute(_BEGIN_CONFIRMING, {"attempt_id": attempt_id})

    async def _lock(
        self, driver: DriverConnection, lease: AccountLease, select_pins: str, values: Any
    ) -> _Locked:
        """Sends all statements that an attempt needs before it is decided."""
        await self._delivery_log.require_open(self._database.connected_at(driver))
        send_until = time.monotonic() + self._lease_seconds - self._timeout_seconds
        account = await send_lease_extension(driver, lease, self._lease_seconds)
        pins = driver.cursor(binary=True, row_factory=dict_row)
        await pins.execute(select_pins, values)
        budgets = await self._budgets.lock_for_pin(driver, self._mode, lease.account_id)
        app = await send_app_read(driver, self._mode)
        return _Locked(account, pins, budgets, app, send_until)

    async def _begin(
        self,
        driver: DriverConnection,
        lease: AccountLease,
        pin: Row,
        held: HeldAccount,
        locked: _Locked,
    ) -> BegunAttempt:
        """Writes the intent and commits it. Raises Postponed or QuotaUsedUp."""
        if held.is_paused and held.pause.until is not None:
            raise Postponed((held.pause.until - held.now).total_seconds())
        wait = await self._budgets.take_locked(driver, locked.budgets)
        if isinstance(wait, Exhausted):
            raise QuotaUsedUp(wait)
        if wait > 0:
            raise Postponed(wait)
        # The app's row is locked last, as when a refusal pauses the app
        is_probe = await self._require_app(driver, locked.app)
        attempt = self._build_attempt(lease, pin, held.now, held.lease_until)
        await driver.execute(_BEGIN, (attempt.pin_id,), binary=True)
        await insert_attempt(driver, attempt)
        await driver.commit()  # sent with the statements
        had_pause = is_probe or held.pause.code is not None
        return BegunAttempt(attempt, is_probe, had_pause, locked.send_until)

    async def _require_app(self, driver: DriverConnection, app: AsyncCursor[Any]) -> bool:
        """Returns whether the pin shows if the app's pause can end. Raises Postponed."""
        now, pause = read_app_pause(await app.fetchone())
        if now is None or pause.code is None or pause.until is None:
            return False
        if pause.until > now:
            raise Postponed((pause.until - now).total_seconds())
        if not await claim_probe(driver, self._mode, self._lease_seconds):
            raise Postponed(PROBE_WAIT_SECONDS)
        return True

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
    """Builds the next attempt of a pin that `begin_next` returned."""
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


def _choose(pins: Sequence[Row]) -> Row:
    """Returns the first pin that equals no unsettled attempt. Raises Postponed if all do."""
    for pin in pins:
        digests = pin["unsettled_digests"]
        if pin["unsettled_attempt_id"] or not digests or _digest(pin) not in digests:
            return pin
    raise Postponed(BLOCKED_SECONDS)


def _digest(pin: Row) -> Any:
    return digest(pin["board_id"], build_texts(pin))
