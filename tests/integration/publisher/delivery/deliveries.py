"""Stores pins and attempts, sends them to the simulator, and runs the parts of a turn."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import orjson
from psycopg.rows import dict_row
from pydantic import SecretStr

from services.publisher.delivery.attempts.call_failures import CallFailures
from services.publisher.delivery.attempts.compared import build_texts
from services.publisher.delivery.attempts.repository import SettlementRepository
from services.publisher.delivery.attempts.statements import insert_attempt
from services.publisher.delivery.budgets.repository import BudgetGate, Budgets
from services.publisher.delivery.budgets.rules import BudgetLimits
from services.publisher.delivery.confirming.confirmer import Confirmer
from services.publisher.delivery.confirming.repository import ConfirmingRepository
from services.publisher.delivery.model import (
    AccessToken,
    AccountLease,
    AttemptOutcome,
    DeliveryAttempt,
)
from services.publisher.delivery.removing.remover import Remover
from services.publisher.delivery.removing.repository import RemovingRepository
from services.publisher.ids import compute_pin_id
from shared.pinterest.client import PinterestClient
from shared.pinterest.failures import AnswerLost, PinterestFailure
from shared.pinterest.settings import PinterestSettings
from shared.postgres.database import Database, driver_connection
from shared.postgres.row import Row
from tests.support.connections import name_settings
from tests.support.simulator import Simulator

MODE = "simulated"
IMAGE = "https://cdn.example/lamps.jpg"
LIMITS = BudgetLimits(6000, 60_000, 200_000, 10_000, 0)
CONFIRM_SECONDS = 120.0
_INSERT_PIN = """
    insert into publisher.pins (
        pin_id, workspace_id, account_id, fingerprint, created_at, state, idempotency_key, board_id,
        title, description, link_url, image_url, delivery
    ) values (
        %(pin_id)s, %(workspace_id)s, %(account_id)s, %(pin_id)s, now(), 'publishing', %(key)s,
        %(board_id)s, %(title)s, %(description)s, %(link_url)s, %(image_url)s, 'pinterest'
    )
"""


class UserTokens:
    """Provides the tokens of one Pinterest user (ports.TokenSource)."""

    def __init__(self, simulator: Simulator, user: str) -> None:
        self._simulator = simulator
        self._user = user
        self._token = self._connect(1)

    def _connect(self, version: int) -> AccessToken:
        value = SecretStr(self._simulator.get_token(self._user)["access_token"])
        return AccessToken(value, version, datetime.max.replace(tzinfo=UTC))

    @property
    def value(self) -> str:
        return self._token.value.get_secret_value()

    @property
    def version(self) -> int:
        return self._token.version

    async def get(self, _account_id: UUID) -> AccessToken:
        return self._token

    async def refresh(self, _account_id: UUID, refused_version: int) -> AccessToken:
        assert refused_version == self._token.version
        self._token = self._connect(refused_version + 1)
        return self._token

    async def report_scope_missing(self, _account_id: UUID, _version: int) -> bool:
        return False


@dataclass
class RecordingLog:
    """Keeps what the topic `deliveries` would be told (ports.DeliveryLog)."""

    settled: list[tuple[UUID, AttemptOutcome, str | None]] = field(default_factory=list)
    closed: Exception | None = None

    async def require_open(self, connected_at: float) -> None:
        assert connected_at > 0
        if self.closed is not None:
            raise self.closed

    async def announce(self, attempt: DeliveryAttempt) -> None: ...

    async def settle(
        self, attempt: DeliveryAttempt, outcome: AttemptOutcome, pinterest_pin_id: str | None
    ) -> None:
        self.settled.append((attempt.attempt_id, outcome, pinterest_pin_id))


class Deliveries:
    """One connected account with one board, and the parts that serve it."""

    def __init__(self, database: Database, simulator: Simulator) -> None:
        self.database = database
        self.simulator = simulator
        self.user = simulator.create_account(boards=1)
        self.board_id: str = self.user["boards"][0]
        self.workspace_id, self.account_id = uuid4(), uuid4()
        self.tokens = UserTokens(simulator, self.user["username"])
        settings: dict[str, Any] = name_settings(simulator)
        self.client = PinterestClient(PinterestSettings(pinterest_timeout_seconds=5, **settings))
        self.log = RecordingLog()
        self.budget = BudgetGate(database, Budgets(LIMITS), MODE)
        self.remover = Remover(
            RemovingRepository(database, MODE, self.log.require_open),
            self.client,
            self.tokens,
            self.budget,
            CallFailures(SettlementRepository(database, Budgets(LIMITS), MODE)),
        )

    @property
    def lease(self) -> AccountLease:
        return AccountLease(self.account_id, self.workspace_id, 1, datetime.now(UTC))

    def confirmer(self, max_pages: int = 10) -> Confirmer:
        return Confirmer(
            ConfirmingRepository(self.database, MODE, self.log.require_open),
            self.client,
            self.tokens,
            self.budget,
            self.log,
            confirm_seconds=CONFIRM_SECONDS,
            max_pages=max_pages,
        )

    async def look(self, max_pages: int = 10) -> bool:
        return await self.confirmer(max_pages).run(self.lease)

    # Pins and attempts

    async def add_pin(self, **changes: Any) -> UUID:
        key = f"key-{uuid4()}"
        values = {
            "pin_id": compute_pin_id(self.workspace_id, key),
            "workspace_id": self.workspace_id,
            "account_id": self.account_id,
            "key": key,
            "board_id": self.board_id,
            "title": "Brass lamp",
            "description": "Warm & bright",
            "link_url": "https://shop.example/lamp",
            "image_url": IMAGE,
            **changes,
        }
        await self.execute(_INSERT_PIN, values)
        return cast("UUID", values["pin_id"])

    async def begin(self, pin_id: UUID, *, is_marked: bool = False) -> DeliveryAttempt:
        """Commits the intent to send a pin."""
        pin = await self.read_pin(pin_id)
        attempt_id = uuid4()
        (now,) = (await self.fetch("select clock_timestamp() as now"))[0].values()
        attempt = DeliveryAttempt(
            attempt_id=attempt_id,
            pin_id=pin_id,
            number=len(await self.read_attempts(pin_id)) + 1,
            workspace_id=self.workspace_id,
            account_id=self.account_id,
            mode=MODE,
            fence=1,
            board_id=pin["board_id"],
            texts=build_texts(pin, attempt_id if is_marked else None),
            started_at=now,
            deadline_at=now,
        )
        async with self.database.transaction() as connection:
            await insert_attempt(await driver_connection(connection), attempt)
        return attempt

    async def send(self, attempt: DeliveryAttempt) -> str | PinterestFailure:
        """Sends the pin once. Returns its id, or the failure."""
        texts = {name: text for name, text in attempt.texts._asdict().items() if text is not None}
        document = {
            "board_id": attempt.board_id,
            **texts,
            "media_source": {"source_type": "image_url", "url": IMAGE},
        }
        token = await self.tokens.get(self.account_id)
        try:
            answer = await self.client.call(
                "pins/create", "POST", "/pins", token=token.value, document=document
            )
        except PinterestFailure as failure:
            return failure
        return cast("str", answer["id"])

    async def lose(self, fault: str = "cut_after", **changes: Any) -> DeliveryAttempt:
        """Sends a pin whose answer is lost."""
        is_marked = changes.pop("is_marked", False)
        attempt = await self.begin(await self.add_pin(**changes), is_marked=is_marked)
        self.simulator.set_faults(fault, count=1, account_id=self.user["id"])
        assert isinstance(await self.send(attempt), AnswerLost)
        return attempt

    def make_by_hand(self, **changes: Any) -> str:
        """Makes a pin as another program of the user does."""
        document = {
            "board_id": self.board_id,
            "title": "Brass lamp",
            "description": "Warm & bright",
            "link": "https://shop.example/lamp",
            "media_source": {"source_type": "image_url", "url": IMAGE},
            **changes,
        }
        answer = self.simulator.call("POST", "/pins", self.tokens.value, json=document)
        answer.raise_for_status()
        return cast("str", answer.json()["id"])

    async def pass_time(self, seconds: float = CONFIRM_SECONDS) -> None:
        """Lets looks and removals be due that are due within this time."""
        for table, columns in (
            ("delivery_attempts", ("absent_at", "next_look_at")),
            ("removals", ("next_at",)),
        ):
            changes = ", ".join(f"{name} = {name} - %s * interval '1 second'" for name in columns)
            await self.execute(
                f"update publisher.{table} set {changes} where account_id = %s",
                (*[seconds] * len(columns), self.account_id),
            )

    async def add_lease(self) -> None:
        """Stores the account as one that was served before."""
        await self.execute(
            "insert into publisher.delivery_accounts (account_id, workspace_id) values (%s, %s)",
            (self.account_id, self.workspace_id),
        )

    # What is stored

    def made(self) -> list[dict[str, Any]]:
        """Returns all pins that the simulator ever made on the board, in order."""
        return list(self.simulator.control("GET", "pins", board_id=self.board_id))

    async def read_pin(self, pin_id: UUID) -> Row:
        return (await self.fetch("select * from publisher.pins where pin_id = %s", pin_id))[0]

    async def read_attempts(self, pin_id: UUID) -> list[dict[str, Any]]:
        return await self.fetch(
            "select * from publisher.delivery_attempts where pin_id = %s order by number", pin_id
        )

    async def read_events(self, pin_id: UUID) -> list[tuple[str, dict[str, Any]]]:
        """Returns the kinds and documents of the pin's events in the outbox."""
        rows = await self.fetch(
            "select event_type, payload from publisher.outbox where event_id like %s order by id",
            f"{pin_id}:%",
        )
        return [(row["event_type"].split(".")[2], orjson.loads(row["payload"])) for row in rows]

    async def fetch(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        async with self.database.transaction() as connection:
            cursor = (await driver_connection(connection)).cursor(row_factory=dict_row)
            await cursor.execute(statement, values)
            return await cursor.fetchall()

    async def execute(self, statement: str, values: Any = ()) -> None:
        async with self.database.transaction() as connection:
            await (await driver_connection(connection)).execute(statement, values)
