"""The SQL of attempts, in the caller's transaction.

An attempt is settled at most once: every outcome requires that there is none yet. So the answer
that comes late, when another process has already settled the attempt, changes nothing.
Lock an attempt before its pin.
"""

from typing import Any, NamedTuple
from uuid import UUID

from psycopg.rows import dict_row
from psycopg.types.json import Json

from services.publisher.delivery.compared import digest
from services.publisher.delivery.model import AttemptOutcome, ComparedTexts, DeliveryAttempt
from shared.postgres.database import Database, DriverConnection, driver_connection
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
_SETTLE = """
    update publisher.delivery_attempts
    set outcome = %s, settled_at = clock_timestamp(), next_look_at = null, pinterest_pin_id = %s,
        error_code = %s, error_message = %s
    where attempt_id = %s and outcome is null
"""
_DOUBT = """
    update publisher.delivery_attempts
    set next_look_at = coalesce(next_look_at, deadline_at), error_message = %s
    where attempt_id = %s and outcome is null
"""
_DOUBT_OVERDUE = f"""
    with overdue as (
        update publisher.delivery_attempts
        set next_look_at = clock_timestamp(),
            error_message = coalesce(error_message, 'The process that sent it ended.')
        where account_id = %s and mode = %s and outcome is null and next_look_at is null
            and deadline_at <= clock_timestamp()
        returning {ATTEMPT_COLUMNS}
    )
    update publisher.pins p set state = 'confirming', updated_at = now()
    from overdue o where p.pin_id = o.pin_id and p.state in ('publishing', 'queued')
    returning o.*
"""
_SELECT_IN_DOUBT = (
    "select compared from publisher.delivery_attempts where account_id = %s and outcome is null"
)


class Settlement(NamedTuple):
    """What became of an attempt."""

    outcome: AttemptOutcome
    pinterest_pin_id: str | None = None
    """Set if the outcome is CREATED or FOUND."""
    error_code: str | None = None
    error_message: str | None = None


async def insert_attempt(
    driver: DriverConnection, attempt: DeliveryAttempt, settlement: Settlement | None = None
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
            "texts": Json(attempt.texts._asdict()),
            "started_at": attempt.started_at,
            "deadline_at": attempt.deadline_at,
            "outcome": settlement and settlement.outcome,
            "error_code": settlement and settlement.error_code,
            "error_message": settlement and settlement.error_message,
        },
    )


async def settle_attempt(
    driver: DriverConnection, attempt_id: UUID, settlement: Settlement
) -> bool:
    """Records an outcome. Returns False if the attempt has one already, or no row."""
    cursor = await driver.execute(
        _SETTLE,
        (
            settlement.outcome,
            settlement.pinterest_pin_id,
            settlement.error_code,
            settlement.error_message,
            attempt_id,
        ),
    )
    return cursor.rowcount == 1


async def leave_in_doubt(driver: DriverConnection, attempt_id: UUID, reason: str) -> bool:
    """Lets the attempt be confirmed after its deadline. Returns False if it has an outcome."""
    return (await driver.execute(_DOUBT, (reason, attempt_id))).rowcount == 1


async def find_compared_in_doubt(driver: DriverConnection, account_id: UUID) -> frozenset[UUID]:
    """Returns the digests of the account's attempts without an outcome."""
    cursor = await driver.execute(_SELECT_IN_DOUBT, (account_id,))
    return frozenset(row[0] for row in await cursor.fetchall())


def read_attempt(row: Row) -> DeliveryAttempt:
    """Builds an attempt from its row (ATTEMPT_COLUMNS)."""
    values: dict[str, Any] = {
        name: row[name] for name in DeliveryAttempt.__slots__ if name != "texts"
    }
    return DeliveryAttempt(texts=ComparedTexts(**row["texts"]), **values)


class AttemptRepository:
    """Reads and changes attempts in transactions of its own."""

    def __init__(self, database: Database, mode: str) -> None:
        self._database = database
        self._mode = mode

    async def exists(self, attempt_id: UUID) -> bool:
        """Returns whether the attempt is stored. A restored Postgres may lack it."""
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            cursor = await driver.execute(
                "select from publisher.delivery_attempts where attempt_id = %s and outcome is null",
                (attempt_id,),
            )
            return await cursor.fetchone() is not None

    async def doubt_overdue(self, account_id: UUID) -> list[DeliveryAttempt]:
        """Sets pins to confirming whose sender ended without an outcome (rule 1).

        Their attempts are past the deadline, so the request has surely ended.
        """
        async with self._database.transaction() as connection:
            driver = await driver_connection(connection)
            cursor = driver.cursor(row_factory=dict_row)
            await cursor.execute(_DOUBT_OVERDUE, (account_id, self._mode))
            return [read_attempt(row) for row in await cursor.fetchall()]
