"""Stores pins and attempts in Postgres, with the methods of MemoryStore that scenarios use.

Time passes by moving everything that is stored into the past.
"""

from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg.rows import dict_row

from services.publisher.delivery.attempts.settlements import publish_pin, queue_pin
from services.publisher.delivery.attempts.statements import (
    AttemptSettlement,
    insert_attempt,
)
from services.publisher.delivery.confirming.confirmer import StartedLook, UnsettledAttempt
from services.publisher.delivery.confirming.repository import ConfirmingRepository
from services.publisher.delivery.model import (
    AccountLease,
    AttemptOutcome,
    ComparedTexts,
    DeliveryAttempt,
)
from services.publisher.model import PinState
from shared.postgres.database import Database, driver_connection
from tests.support.delivery.memory_store import MODE, PinRow
from tests.support.delivery.pinterest_model import PinterestModel

_INSERT_PIN = """
    insert into publisher.pins (
        pin_id, workspace_id, account_id, fingerprint, created_at, state, idempotency_key, board_id,
        title, description, alt_text, link_url, delivery
    ) values (%s, %s, %s, %s, now(), 'queued', %s, %s, %s, %s, %s, %s, 'pinterest')
"""
_ATTEMPT_TIMES = ("started_at", "deadline_at", "next_look_at", "absent_at")


async def _accept(_connected_at: float) -> None:
    """Accepts every connection: no Postgres was replaced."""


class PostgresStore:
    """Does with the real repositories what MemoryStore does in memory."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.workspace_id = uuid4()
        self.time = datetime.now(UTC)
        self.pinterest: PinterestModel | None = None
        self._looks = ConfirmingRepository(database, MODE, _accept)

    def now(self) -> datetime:
        """Returns the database's time, as of the last step."""
        return self.time

    async def refresh_time(self) -> None:
        ((self.time,),) = await self._execute("select clock_timestamp()")

    async def advance(self, seconds: float) -> None:
        changes = ", ".join(f"{name} = {name} - %s" for name in _ATTEMPT_TIMES)
        delay = timedelta(seconds=seconds)
        await self._execute(
            f"update publisher.delivery_attempts set {changes} where workspace_id = %s",
            *[delay] * len(_ATTEMPT_TIMES),
            self.workspace_id,
        )
        for pin in self.pinterest.pins if self.pinterest else ():
            pin.created_at -= delay
            pin.visible_at -= delay
        await self.refresh_time()

    async def add_pin(
        self, pin_id: UUID, account_id: UUID, board: str, texts: ComparedTexts
    ) -> None:
        values = (pin_id, self.workspace_id, account_id, pin_id, str(pin_id), board, *texts)
        await self._execute(_INSERT_PIN, *values)

    async def read_pin(self, pin_id: UUID) -> PinRow:
        async with self.database.transaction() as connection:
            cursor = (await driver_connection(connection)).cursor(row_factory=dict_row)
            await cursor.execute("select * from publisher.pins where pin_id = %s", (pin_id,))
            row: dict[str, Any] = await cursor.fetchone() or {}
        events = await self._execute(
            "select event_type from publisher.outbox where event_id like %s order by id",
            f"{pin_id}:%",
        )
        texts = ComparedTexts(row["title"], row["description"], row["alt_text"], row["link_url"])
        return PinRow(
            pin_id,
            row["account_id"],
            row["board_id"],
            texts,
            PinState(row["state"]),
            row["pinterest_pin_id"],
            row["error_code"],
            [event_type.split(".")[2] for (event_type,) in events],
        )

    async def read_outcomes(self, pin_id: UUID) -> list[AttemptOutcome | None]:
        rows = await self._execute(
            "select outcome from publisher.delivery_attempts where pin_id = %s order by number",
            pin_id,
        )
        return [outcome and AttemptOutcome(outcome) for (outcome,) in rows]

    async def send(self, pin_id: UUID, seconds: float) -> DeliveryAttempt:
        """Commits the intent to send a queued pin."""
        pin = await self.read_pin(pin_id)
        await self.refresh_time()
        attempt = DeliveryAttempt(
            attempt_id=uuid4(),
            pin_id=pin_id,
            number=len(await self.read_outcomes(pin_id)) + 1,
            workspace_id=self.workspace_id,
            account_id=pin.account_id,
            mode=MODE,
            fence=1,
            board_id=pin.board_id,
            texts=pin.texts,
            started_at=self.time,
            deadline_at=self.time + timedelta(seconds=seconds),
        )
        async with self.database.transaction() as connection:
            driver = await driver_connection(connection)
            await driver.execute(
                "update publisher.pins set state = 'publishing' where pin_id = %s", (pin_id,)
            )
            await insert_attempt(driver, attempt)
        return attempt

    async def settle_late(
        self, attempt: DeliveryAttempt, outcome: AttemptOutcome, pinterest_pin_id: str | None
    ) -> bool:
        """Writes the outcome that a sender has, unless the attempt has one."""
        async with self.database.transaction() as connection:
            driver = await driver_connection(connection)
            if pinterest_pin_id is not None:
                return await publish_pin(driver, attempt, outcome, pinterest_pin_id)
            return await queue_pin(driver, attempt, AttemptSettlement(outcome))

    async def start_look(self, lease: AccountLease) -> StartedLook | None:
        return await self._looks.start_look(lease)

    def lock_attempt(
        self, attempt: DeliveryAttempt
    ) -> AbstractAsyncContextManager[UnsettledAttempt | None]:
        return self._looks.lock_attempt(attempt)

    async def _execute(self, statement: str, *values: Any) -> list[Any]:
        async with self.database.transaction() as connection:
            cursor = await (await driver_connection(connection)).execute(statement, values)
            return await cursor.fetchall() if cursor.description else []
