"""The SQL of attempts, in the caller's transaction.

An attempt is settled at most once: every outcome requires that there is none yet. So the answer
that comes late, when another process has already settled the attempt, changes nothing.
Lock an attempt before its pin.
"""

from typing import Any, NamedTuple
from uuid import UUID

import orjson
from psycopg.rows import dict_row
from psycopg.types.json import Json

from services.publisher.delivery.attempts.compared import digest
from services.publisher.delivery.model import AttemptOutcome, ComparedTexts, DeliveryAttempt
from shared.postgres.database import DriverConnection
from shared.postgres.row import Row

ATTEMPT_COLUMNS = """
    attempt_id, pin_id, number, workspace_id, account_id, mode, fence, board_id, texts, started_at,
    deadline_at
"""
"""The columns that `read_attempt` needs."""
_INSERT = """
    insert into publisher.delivery_attempts (
        attempt_id, pin_id, number, workspace_id, account_id, mode, fence, board_id, compared,
        texts, started_at, deadline_at, outcome, settled_at, error_code, error_message
    ) values (
        %(attempt_id)s, %(pin_id)s, %(number)s, %(workspace_id)s, %(account_id)s, %(mode)s,
        %(fence)s, %(board_id)s, %(compared)s, %(texts)s, %(started_at)s, %(deadline_at)s,
        %(outcome)s, case when %(outcome)s::text is not null then clock_timestamp() end,
        %(error_code)s, %(error_message)s
    )
"""
SETTLE = """
    update publisher.delivery_attempts
    set outcome = %(outcome)s, settled_at = clock_timestamp(), next_look_at = null,
        pinterest_pin_id = %(pinterest_pin_id)s, error_code = %(error_code)s,
        error_message = %(error_message)s
    where attempt_id = %(attempt_id)s and outcome is null
    returning pin_id
"""
"""Settles an attempt. Its parameters are an AttemptSettlement's fields, and attempt_id."""
_LEAVE_UNSETTLED = """
    update publisher.delivery_attempts
    set next_look_at = coalesce(next_look_at, deadline_at), error_message = %s
    where attempt_id = %s and outcome is null
    returning pin_id
"""

_SELECT_NEWER = """
    select attempt_id, outcome, pinterest_pin_id from publisher.delivery_attempts
    where pin_id = %s and attempt_id <> %s and number >= %s
    order by number desc limit 1
"""


class AttemptSettlement(NamedTuple):
    """The outcome of an attempt."""

    outcome: AttemptOutcome
    pinterest_pin_id: str | None = None
    """Set if the outcome is CREATED or FOUND."""
    error_code: str | None = None
    error_message: str | None = None


async def insert_attempt(
    driver: DriverConnection, attempt: DeliveryAttempt, settlement: AttemptSettlement | None = None
) -> None:
    """Inserts an attempt: before its request, or settled if nothing could be sent."""
    await driver.execute(
        _INSERT,
        {
            "attempt_id": attempt.attempt_id,
            "pin_id": attempt.pin_id,
            "number": attempt.number,
            "workspace_id": attempt.workspace_id,
            "account_id": attempt.account_id,
            "mode": attempt.mode,
            "fence": attempt.fence,
            "board_id": attempt.board_id,
            "compared": digest(attempt.board_id, attempt.texts),
            "texts": Json(attempt.texts._asdict(), orjson.dumps),
            "started_at": attempt.started_at,
            "deadline_at": attempt.deadline_at,
            "outcome": settlement and settlement.outcome,
            "error_code": settlement and settlement.error_code,
            "error_message": settlement and settlement.error_message,
        },
        binary=True,
    )


async def settle_attempt(
    driver: DriverConnection, attempt_id: UUID, settlement: AttemptSettlement
) -> bool:
    """Records an outcome. Returns False if the attempt has one already, or no row."""
    values = {"attempt_id": attempt_id, **settlement._asdict()}
    return await (await driver.execute(SETTLE, values)).fetchone() is not None


async def leave_unsettled(driver: DriverConnection, attempt_id: UUID, reason: str) -> bool:
    """Lets the attempt be confirmed after its deadline. Returns False if it has an outcome."""
    cursor = await driver.execute(_LEAVE_UNSETTLED, (reason, attempt_id))
    return await cursor.fetchone() is not None


async def find_newer_attempt(driver: DriverConnection, attempt: DeliveryAttempt) -> Row | None:
    """Returns attempt_id, outcome and pinterest_pin_id of the pin's last attempt after this one."""
    cursor = driver.cursor(row_factory=dict_row)
    await cursor.execute(_SELECT_NEWER, (attempt.pin_id, attempt.attempt_id, attempt.number))
    return await cursor.fetchone()


def read_attempt(row: Row) -> DeliveryAttempt:
    """Builds an attempt from its row (ATTEMPT_COLUMNS)."""
    values: dict[str, Any] = {
        name: row[name] for name in DeliveryAttempt.__slots__ if name != "texts"
    }
    return DeliveryAttempt(texts=ComparedTexts(**row["texts"]), **values)
