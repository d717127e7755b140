"""A connected account, a simulator and a server of videos, with the parts that upload videos."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr
from sqlalchemy import text

from services.publisher.delivery.attempts.account_failures import AccountFailures
from services.publisher.delivery.attempts.call_failures import CallFailures
from services.publisher.delivery.attempts.repository import SettlementRepository
from services.publisher.delivery.budgets.repository import Budgets
from services.publisher.delivery.budgets.rules import BudgetLimits
from services.publisher.delivery.config import DeliverySettings
from services.publisher.delivery.media.parts import MediaParts
from services.publisher.delivery.media_failures import MediaFailure, MediaRejected
from services.publisher.delivery.model import AccessToken, AccountLease, Postponed
from services.publisher.delivery.tokens.failures import AccountGivenUp
from shared.contract.errors import ErrorCode
from shared.pinterest.client import PinterestClient
from shared.pinterest.model import Category
from shared.pinterest.settings import PinterestSettings
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.support.simulator import Simulator


class SimulatedTokens:
    """Provides the token of one user of the simulator, as the access service would."""

    def __init__(self, value: str) -> None:
        self.value = value
        self.refreshed = ""
        """The token that a refresh returns."""
        self.is_given_up = False
        self.reported_version = 0
        """The version of the token that was reported to lack a right."""

    async def get(self, account_id: UUID) -> AccessToken:
        assert account_id
        if self.is_given_up:
            raise AccountGivenUp(ErrorCode.ACCOUNT_REVOKED, "Connect the account again.")
        return AccessToken(SecretStr(self.value), 1, datetime.max.replace(tzinfo=UTC))

    async def refresh(self, account_id: UUID, refused_version: int) -> AccessToken:
        assert refused_version == 1
        self.value = self.refreshed
        return await self.get(account_id)

    async def report_scope_missing(self, account_id: UUID, version: int) -> bool:
        assert account_id
        self.reported_version = version
        return True


class CountedBudget:
    """Lets requests through, and records their categories. `waits` holds them up."""

    def __init__(self) -> None:
        self.taken: list[Category] = []
        self.wait_seconds = 0.0

    async def require(self, account_id: UUID, category: Category) -> None:
        assert account_id
        if self.wait_seconds:
            raise Postponed(self.wait_seconds)
        self.taken.append(category)


class VideoDelivery:
    """Does the steps of videos when the test says so. Time passes with `pass_time`."""

    def __init__(
        self,
        database: Database,
        workspace: Workspace,
        simulator: Simulator,
        parts: MediaParts,
        tokens: SimulatedTokens,
        budget: CountedBudget,
    ) -> None:
        self._database = database
        self.workspace = workspace
        self.simulator = simulator
        self.parts = parts
        self.tokens = tokens
        self.budget = budget
        self.lease = AccountLease(
            workspace.account_id, workspace.id, 1, datetime.max.replace(tzinfo=UTC)
        )

    async def queue_pin(self, url: str, **fields: Any) -> dict[str, Any]:
        """Stores a queued pin of the connected account. Returns its row."""
        pin_id = uuid4()
        values = {
            "pin_id": pin_id,
            "workspace_id": self.workspace.id,
            "account_id": self.workspace.account_id,
            "fingerprint": uuid4(),
            "idempotency_key": str(pin_id),
            "board_id": "1",
            "title": "A lamp",
            "state": "queued",
            "delivery": "pinterest",
            "image_url": url,
            **fields,
        }
        names = ", ".join(values)
        await self.execute(
            f"insert into publisher.pins ({names}, created_at) "
            f"values ({', '.join(f':{name}' for name in values)}, now())",
            **values,
        )
        return await self.read_pin(pin_id)

    async def read_pin(self, pin_id: UUID) -> dict[str, Any]:
        return await self._read("pins", pin_id)

    async def read_video(self, pin: dict[str, Any]) -> dict[str, Any]:
        return await self._read("delivery_media", pin["pin_id"])

    async def step_of(self, pin: dict[str, Any]) -> str:
        return str((await self.read_video(pin))["step"])

    async def open(self, pin: dict[str, Any]) -> dict[str, object] | MediaFailure:
        """Asks for the media source as a turn does. Returns the failure if there is none."""
        try:
            async with self.parts.source.open(await self.read_pin(pin["pin_id"])) as source:
                return source
        except MediaFailure as failure:
            return failure

    async def call(self) -> bool:
        """Does what a turn of the account does for its videos."""
        return await self.parts.video_calls.run(self.lease)

    async def upload(self) -> bool:
        """Does what the uploads do beside the turns."""
        return bool(await self.parts.uploads[0]._run_once())

    async def pass_time(self) -> None:
        """Makes every wait of a video end."""
        await self.execute(
            "update publisher.delivery_media set next_at = now() where account_id = :account",
            account=self.workspace.account_id,
        )

    async def get_ready(self, pin: dict[str, Any]) -> None:
        """Does all steps of a video."""
        await self.open(pin)
        assert await self.call()
        assert await self.upload()
        await self.pass_time()
        assert await self.call()

    async def execute(self, statement: str, **values: Any) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(text(statement), values)

    def media_calls(self) -> list[str]:
        """Returns the operations on media that the simulator received, in order."""
        operations = [request["operation"] for request in self.simulator.control("GET", "requests")]
        return [name for name in operations if name and name.startswith("media/")]

    async def _read(self, table: str, pin_id: UUID) -> dict[str, Any]:
        query = text(f"select * from publisher.{table} where pin_id = :id").bindparams(id=pin_id)
        row = await self._database.fetch_first(query)
        assert row is not None
        return dict(row)


@asynccontextmanager
async def delivering_videos(
    database: Database, workspace: Workspace, simulator: Simulator, **settings: Any
) -> AsyncIterator[VideoDelivery]:
    configured: dict[str, Any] = {
        "pinterest_mode": "simulated",
        "pinterest_simulator_url": simulator.url,
        "media_allowed_networks": "127.0.0.0/8",
        **settings,
    }
    delivery = DeliverySettings(database_url=SecretStr("postgresql://unused"), **configured)
    client = PinterestClient(
        PinterestSettings(
            pinterest_mode="simulated",
            pinterest_simulator_url=simulator.url,
            pinterest_app_id="1",
            pinterest_app_secret=SecretStr("secret"),
            pinterest_token_keys=SecretStr(simulator.token_key),
        )
    )
    tokens = SimulatedTokens(str(simulator.get_token()["access_token"]))
    budget = CountedBudget()
    limits = BudgetLimits(*[100] * len(BudgetLimits._fields))
    settlements = SettlementRepository(database, Budgets(limits), "simulated")
    parts = MediaParts(
        delivery,
        database,
        client,
        tokens,
        budget,
        CallFailures(settlements),
        AccountFailures(settlements),
    )
    videos = VideoDelivery(database, workspace, simulator, parts, tokens, budget)
    await videos.execute("delete from publisher.delivery_media")  # uploads are of any account
    await videos.execute(
        "insert into publisher.delivery_accounts (account_id, workspace_id, lease_fence) "
        "values (:account, :workspace, 1)",
        account=workspace.account_id,
        workspace=workspace.id,
    )
    yield videos
    await parts.close()
    await client.close()


async def require_ready(videos: VideoDelivery, pin: dict[str, Any]) -> dict[str, Any]:
    source = await videos.open(pin)
    assert isinstance(source, dict), source
    return source


async def require_rejected(videos: VideoDelivery, pin: dict[str, Any]) -> MediaRejected:
    failure = await videos.open(pin)
    assert isinstance(failure, MediaRejected), failure
    return failure
