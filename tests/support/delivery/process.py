"""A delivery process without HTTP, the pins that wait for it, and the accounts of the simulator."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

from psycopg.rows import dict_row
from pydantic import SecretStr

from services.publisher.delivery.app import DeliveryParts
from services.publisher.delivery.config import DeliverySettings
from services.publisher.delivery.model import AccessToken, AttemptOutcome, DeliveryAttempt
from services.publisher.delivery.ports import DeliveryLog
from services.publisher.delivery.tokens.failures import AccountGivenUp
from shared.contract.errors import ErrorCode
from shared.postgres.database import Database, driver_connection
from shared.runtime.settings import DatabaseSettings
from tests.support.infrastructure import with_role
from tests.support.simulator import Simulator
from tests.support.waiting import eventually

IMAGE_URL = "https://images.example.com/lamp.jpg"

_INSERT_PINS = """
    insert into publisher.pins (
        pin_id, workspace_id, account_id, fingerprint, created_at, run_at, state, idempotency_key,
        board_id, title, description, link_url, image_url, delivery
    )
    select gen_random_uuid(), %(workspace_id)s, %(account_id)s, gen_random_uuid(),
        clock_timestamp() + n * interval '1 microsecond', %(run_at)s, 'queued',
        gen_random_uuid()::text, %(board_id)s,
        %(title)s || case when n > 1 then ' ' || n else '' end, %(description)s, %(link_url)s,
        %(image_url)s, 'pinterest'
    from generate_series(1, %(count)s) n
    returning pin_id
"""

LOAD_SECONDS = 60
"""More time than usual: a statement may insert a hundred thousand pins."""


class OpenLog:
    """A log of deliveries in memory. Its gate is open."""

    def __init__(self) -> None:
        self.announced: list[DeliveryAttempt] = []
        self.settled: list[tuple[AttemptOutcome, str | None]] = []
        self.on_announce: Callable[[DeliveryAttempt], Awaitable[None]] | None = None
        """Called when Kafka has the attempt, right before the request leaves."""

    async def require_open(self, connected_at: float) -> None:
        """Raises nothing."""

    async def announce(self, attempt: DeliveryAttempt) -> None:
        self.announced.append(attempt)
        if self.on_announce is not None:
            await self.on_announce(attempt)

    async def settle(
        self, _attempt: DeliveryAttempt, outcome: AttemptOutcome, pinterest_pin_id: str | None
    ) -> None:
        self.settled.append((outcome, pinterest_pin_id))


@dataclass
class SimulatedTokens:
    """Stands for the access service: it has the tokens of the simulator's accounts."""

    simulator: Simulator
    users: dict[UUID, str] = field(default_factory=dict)
    versions: dict[UUID, int] = field(default_factory=dict)
    values: dict[UUID, str] = field(default_factory=dict)
    refreshed: list[UUID] = field(default_factory=list)
    scope_missing: list[UUID] = field(default_factory=list)
    failure: Exception | None = None
    """Raised by every call."""
    given_up: set[UUID] = field(default_factory=set)
    """The accounts whose tokens access can't refresh."""

    async def get(self, account_id: UUID) -> AccessToken:
        if self.failure is not None:
            raise self.failure
        version = self.versions.setdefault(account_id, 1)
        if account_id not in self.values:
            token = await asyncio.to_thread(self.simulator.get_token, self.users[account_id])
            self.values[account_id] = token["access_token"]
        expires_at = datetime.now(UTC) + timedelta(days=1)
        return AccessToken(SecretStr(self.values[account_id]), version, expires_at)

    async def refresh(self, account_id: UUID, refused_version: int) -> AccessToken:
        self.refreshed.append(account_id)
        if account_id in self.given_up:
            raise AccountGivenUp(ErrorCode.ACCOUNT_REVOKED, "Connect it.", HTTPStatus.CONFLICT)
        if self.versions[account_id] == refused_version:
            self.versions[account_id] += 1
            del self.values[account_id]
        return await self.get(account_id)

    async def report_scope_missing(self, account_id: UUID, _version: int) -> bool:
        self.scope_missing.append(account_id)
        return True


@dataclass(frozen=True)
class Account:
    """An account that is connected to a user of the simulator."""

    id: UUID
    workspace_id: UUID
    user_id: str
    board_id: str


class Delivery:
    """Pins, attempts and accounts in Postgres, and processes that deliver them."""

    def __init__(self, database: Database, database_url: str, simulator: Simulator) -> None:
        self.database = database
        self._database_url = database_url
        self.simulator = simulator
        self.tokens = SimulatedTokens(simulator)
        self.log = OpenLog()

    def add_account(self, workspace_id: UUID | None = None) -> Account:
        """Creates a user with a board in the simulator, and an account that is connected to it."""
        user = self.simulator.create_account(boards=1)
        account = Account(uuid4(), workspace_id or uuid4(), user["id"], user["boards"][0])
        self.tokens.users[account.id] = user["id"]
        return account

    async def queue(self, account: Account, **fields: Any) -> UUID:
        """Inserts a queued pin."""
        return (await self.queue_many(account, 1, **fields))[0]

    async def queue_many(self, account: Account, count: int, **fields: Any) -> list[UUID]:
        values = {
            "workspace_id": account.workspace_id,
            "account_id": account.id,
            "board_id": account.board_id,
            "run_at": None,
            "title": f"Lamp {uuid4()}",
            "description": None,
            "link_url": None,
            "image_url": IMAGE_URL,
            "count": count,
            **fields,
        }
        return [row["pin_id"] for row in await self.execute(_INSERT_PINS, **values)]

    async def execute(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """Runs a statement. Returns its rows, if it has any."""
        async with self.database.transaction(extra_timeout_seconds=LOAD_SECONDS) as connection:
            cursor = (await driver_connection(connection)).cursor(row_factory=dict_row)
            await cursor.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []

    async def find_pin(self, pin_id: UUID) -> dict[str, Any]:
        (pin,) = await self.execute("select * from publisher.pins where pin_id = %(id)s", id=pin_id)
        return pin

    async def find_attempts(self, pin_id: UUID) -> list[dict[str, Any]]:
        return await self.execute(
            "select * from publisher.delivery_attempts where pin_id = %(id)s order by number",
            id=pin_id,
        )

    async def find_account(self, account: Account) -> dict[str, Any]:
        (row,) = await self.execute(
            "select *, extract(epoch from paused_until - clock_timestamp())::float8 as pause "
            "from publisher.delivery_accounts where account_id = %(id)s",
            id=account.id,
        )
        return row

    async def find_app(self) -> dict[str, Any]:
        rows = await self.execute(
            "select *, extract(epoch from paused_until - clock_timestamp())::float8 as pause "
            "from publisher.delivery_apps"
        )
        return rows[0] if rows else {"pause_code": None}

    async def find_events(self, pin_id: UUID) -> list[str]:
        rows = await self.execute(
            "select event_type from publisher.outbox where event_id like %(id)s order by id",
            id=f"{pin_id}:%",
        )
        return [row["event_type"].split(".")[2] for row in rows]

    def list_made(self, account: Account) -> list[dict[str, Any]]:
        """Returns what the simulator made for the account: this counts doubles."""
        return list(self.simulator.control("GET", "pins", board_id=account.board_id))

    def end_faults(self) -> None:
        self.simulator.control("POST", "faults", {"kind": "none"})

    async def resume(self, account: Account) -> None:
        """Lets the account's pause and rest end, as if time had passed. The steps stay."""
        await self.execute(
            "update publisher.delivery_accounts set paused_until = clock_timestamp(), "
            "next_at = null where account_id = %(id)s and pause_code is not null",
            id=account.id,
        )
        await self.execute(
            "update publisher.delivery_accounts set next_at = null where account_id = %(id)s",
            id=account.id,
        )

    async def resume_app(self) -> None:
        await self.execute(
            "update publisher.delivery_apps set paused_until = clock_timestamp() "
            "where pause_code is not null"
        )

    async def pass_deadlines(self) -> None:
        """Lets all leases expire, and the deadlines of all attempts pass."""
        await self.execute(
            "update publisher.delivery_accounts set lease_until = clock_timestamp(), next_at = null"
        )
        await self.execute(
            "update publisher.delivery_attempts set deadline_at = clock_timestamp(), "
            "next_look_at = clock_timestamp() where outcome is null"
        )

    @asynccontextmanager
    async def running(
        self, delivery_log: DeliveryLog | None = None, **changes: Any
    ) -> AsyncIterator["Process"]:
        """Runs a process with the publisher's role until the block ends."""
        settings = DeliverySettings(
            **{
                "database_url": SecretStr(with_role(self._database_url, "pinflow_publisher")),
                "database_pool_size": 8,
                "pinterest_mode": "simulated",
                "pinterest_simulator_url": self.simulator.url,
                "pinterest_timeout_seconds": 10,
                "delivery_spacing_seconds": 0,
                "delivery_interval_seconds": 0.05,
                "delivery_confirm_seconds": 1,
                "delivery_account_writes_per_minute": 10_000,
                "delivery_app_requests_per_second": 10_000,
                "delivery_daily_pins": 200_000,
                **changes,
            }
        )
        database = Database.from_settings(
            DatabaseSettings(
                database_url=settings.database_url, database_pool_size=settings.database_pool_size
            ),
            application="tests-delivery",
        )
        parts = DeliveryParts(settings, database, delivery_log or self.log, self.tokens)
        process = Process(parts)
        try:
            yield process
        finally:
            await process.stop()
            await parts.close()
            await database.dispose()


class Process:
    """The worker of one process, which a test starts and stops."""

    def __init__(self, parts: DeliveryParts) -> None:
        self.worker = parts.worker
        self.media = parts.media
        self.outdated_pauses = parts.outdated_pauses
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await self.worker.run_round()

    async def run_until(self, condition: Callable[[], Awaitable[object]]) -> None:
        """Delivers until the condition holds. Fails after 40 s, or if a round fails."""
        if self._task is None:
            self.start()

        async def check() -> object:
            if self._task is not None and self._task.done():
                self._task.result()
            return await condition()

        await eventually(check, seconds=40, every=0.05)  # each check takes 2 ms of CPU time

    async def kill(self) -> None:
        """Ends all work at once, as SIGKILL does: nothing is written any more."""
        turns = list(self.worker._turns)
        for task in (*turns, *filter(None, [self._task])):
            task.cancel()
        await asyncio.gather(*turns, *filter(None, [self._task]), return_exceptions=True)
        self._task = None
        self.worker._finished.clear()

    async def stop(self) -> None:
        """Stops as SIGTERM does."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.worker.stop()
