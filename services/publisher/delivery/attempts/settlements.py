"""Writes an attempt's outcome to the attempt, its pin and the outbox, in the caller's transaction.

Functions that return a bool return False, and change nothing, if the attempt already has an
outcome. Used by the parts that create and confirm pins, and by the recovery after a restore.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import dict_row

from services.publisher.delivery.attempts.statements import (
    SETTLE,
    AttemptSettlement,
    leave_unsettled,
    settle_attempt,
)
from services.publisher.delivery.model import UNKNOWN_IDS, AttemptOutcome, DeliveryAttempt
from services.publisher.model import Failure
from services.publisher.outbox_events import (
    OutboxEvent,
    build_pin_deferred,
    build_pin_failed,
    build_pin_published,
)
from services.publisher.outbox_repository import add_events
from shared.postgres.database import DriverConnection
from shared.postgres.row import Row

# A late answer may find the pin already confirming
_CHANGE = """
    update publisher.pins set {changes}, updated_at = clock_timestamp()
    where pin_id = %(pin_id)s and state in ('publishing', 'confirming', 'queued')
    returning *
"""
_PUBLISHED = """
    state = 'published', published_at = clock_timestamp(), pinterest_pin_id = %(pinterest_pin_id)s,
    deliver_after = null, deferral_code = null
"""
_PUBLISH = _CHANGE.format(changes=_PUBLISHED)
# The usual outcome, in one round trip. No row: the attempt was settled before. A row of nulls: the
# pin is in another state
_SETTLE_AND_PUBLISH = f"""
    with settled as ({SETTLE}), changed as (
        update publisher.pins p set {_PUBLISHED}, updated_at = clock_timestamp()
        from settled
        where p.pin_id = settled.pin_id and p.state in ('publishing', 'confirming', 'queued')
        returning p.*
    )
    select changed.* from settled left join changed using (pin_id)
"""
# A pin that waits in the queue would be made twice if it did not take the id of a late answer
_PUBLISH_QUEUED = f"""
    update publisher.pins set {_PUBLISHED}, updated_at = clock_timestamp()
    where pin_id = %(pin_id)s and state = 'queued' and deleted_at is null
    returning *
"""
_LOCK_SETTLED = """
    select outcome, pinterest_pin_id from publisher.delivery_attempts where attempt_id = %s
    for update
"""
_CORRECT = """
    update publisher.delivery_attempts
    set outcome = 'created', pinterest_pin_id = %s, settled_at = clock_timestamp(),
        error_code = null, error_message = null
    where attempt_id = %s
"""
_FAIL = _CHANGE.format(
    changes="""
        state = 'failed', failed_at = clock_timestamp(), error_code = %(code)s,
        error_message = %(message)s, deliver_after = null, deferral_code = null
    """
)
_QUEUE = _CHANGE.format(
    changes="""
        state = 'queued', deferral_code = %(code)s,
        deliver_after = clock_timestamp() + %(seconds)s * interval '1 second'
    """
)
_CONFIRM = _CHANGE.format(changes="state = 'confirming'")


_LOCK_QUEUED = """
    select from publisher.pins
    where pin_id = %s and state = 'queued' and deleted_at is null and updated_at = %s
    for update
"""


class Deferral(NamedTuple):
    """A wait that concerns one pin, and not its account."""

    seconds: float
    code: str | None
    """None: nothing is announced, because the pin only waits for its video."""


async def publish_pin(
    driver: DriverConnection,
    attempt: DeliveryAttempt,
    outcome: AttemptOutcome,
    pinterest_pin_id: str,
) -> bool:
    """Publishes the attempt's pin. `outcome`: CREATED or FOUND.

    Raises UniqueViolation if another pin of Pinflow has the id.
    """
    settlement = AttemptSettlement(outcome, pinterest_pin_id)
    cursor = driver.cursor(binary=True, row_factory=dict_row)
    values = {"attempt_id": attempt.attempt_id, **settlement._asdict()}
    await cursor.execute(_SETTLE_AND_PUBLISH, values)
    row = await cursor.fetchone()
    if row is None:
        return False
    await _announce(driver, row if row["pin_id"] else None, build_pin_published)
    return True


async def adopt_pinterest_pin(
    driver: DriverConnection, attempt: DeliveryAttempt, pinterest_pin_id: str
) -> bool:
    """Publishes the pin of an attempt that is settled with an id."""
    pin = await _change(driver, _PUBLISH, attempt, pinterest_pin_id=pinterest_pin_id)
    return await _announce(driver, pin, build_pin_published)


async def adopt_late_pin(
    driver: DriverConnection, attempt: DeliveryAttempt, pinterest_pin_id: str
) -> bool | None:
    """Publishes the pin of a settled attempt whose id came late, if the pin waits in the queue.

    Returns True if the attempt has this id, and None if Postgres lacks the attempt: it is older
    than the request. The answer is better than the lists that settled the attempt, so its outcome
    is corrected. Raises UniqueViolation if another pin has the id.
    """
    settled = await (await driver.execute(_LOCK_SETTLED, (attempt.attempt_id,))).fetchone()
    if settled is None:
        return None
    outcome, known_id = settled
    if known_id is not None or outcome not in UNKNOWN_IDS:
        return bool(known_id == pinterest_pin_id)
    pin = await _change(driver, _PUBLISH_QUEUED, attempt, pinterest_pin_id=pinterest_pin_id)
    if pin is not None:
        await driver.execute(_CORRECT, (pinterest_pin_id, attempt.attempt_id))
    return await _announce(driver, pin, build_pin_published)


async def queue_pin(
    driver: DriverConnection,
    attempt: DeliveryAttempt,
    settlement: AttemptSettlement,
    deferral: Deferral | None = None,
) -> bool:
    """Queues the attempt's pin again, because it surely was not created."""
    if not await settle_attempt(driver, attempt.attempt_id, settlement):
        return False
    await defer_pin(driver, attempt, deferral)
    return True


async def defer_pin(
    driver: DriverConnection, attempt: DeliveryAttempt, deferral: Deferral | None
) -> None:
    """Queues a pin whose attempt is settled. With a `deferral`, it is not sent before that ends."""
    seconds, code = deferral or (None, None)
    pin = await _change(driver, _QUEUE, attempt, seconds=seconds, code=code)
    if code is not None:
        await _announce(driver, pin, build_pin_deferred)


async def fail_pin(
    driver: DriverConnection,
    attempt: DeliveryAttempt,
    outcome: AttemptOutcome,
    failure: Failure,
) -> bool:
    """Fails the attempt's pin. `outcome`: REFUSED, NOT_SENT or UNCONFIRMED."""
    settlement = AttemptSettlement(outcome, None, *failure)
    if not await settle_attempt(driver, attempt.attempt_id, settlement):
        return False
    await fail_settled_pin(driver, attempt, failure)
    return True


async def fail_settled_pin(
    driver: DriverConnection, attempt: DeliveryAttempt, failure: Failure
) -> None:
    """Fails a pin whose attempt is settled."""
    pin = await _change(
        driver, _FAIL, attempt, code=failure.error_code, message=failure.error_message
    )
    await _announce(driver, pin, build_pin_failed)


async def lock_queued_pin(driver: DriverConnection, pin_id: UUID, updated_at: datetime) -> bool:
    """Locks a pin if it is queued and nobody has changed it since `updated_at`."""
    cursor = await driver.execute(_LOCK_QUEUED, (pin_id, updated_at))
    return await cursor.fetchone() is not None


async def begin_confirming_pin(
    driver: DriverConnection, attempt: DeliveryAttempt, reason: str
) -> bool:
    """Leaves an attempt unsettled. Its pin becomes `confirming`, and is never simply sent again."""
    if not await leave_unsettled(driver, attempt.attempt_id, reason):
        return False
    await _change(driver, _CONFIRM, attempt)
    return True


async def _change(
    driver: DriverConnection, statement: str, attempt: DeliveryAttempt, **values: Any
) -> Row | None:
    """Changes the attempt's pin. Returns the row after it, or None if it is in another state."""
    cursor = driver.cursor(row_factory=dict_row)
    await cursor.execute(statement, {"pin_id": attempt.pin_id, **values})
    return await cursor.fetchone()


async def _announce(
    driver: DriverConnection, pin: Row | None, build: Callable[[Row], OutboxEvent]
) -> bool:
    """Adds the event of a changed pin to the outbox. Returns False if no pin was changed."""
    if pin is None:
        return False
    await add_events(driver, [build(pin)])
    return True
