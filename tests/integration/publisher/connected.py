"""Pins of a connected account, moved through their states as the delivery process does."""

from typing import Any
from uuid import UUID

from shared.postgres.database import Database
from tests.integration.publisher.conftest import Client
from tests.support.connections import record_connection

INSERT_ATTEMPT = (
    "insert into publisher.delivery_attempts (attempt_id, pin_id, number, workspace_id, "
    "account_id, mode, fence, board_id, compared, texts, started_at, deadline_at) "
    "values (gen_random_uuid(), :id, :number, :workspace, :account, 'simulated', 1, '1', "
    "gen_random_uuid(), '{}', now() - :ago * interval '1 second', now() + interval '30 seconds')"
)


class ConnectedClient:
    """The API client of a workspace whose account is connected. Stands for the delivery process."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.account_id = client.workspace.account_id

    @classmethod
    async def connect(cls, client: Client, database: Database) -> "ConnectedClient":
        await record_connection(database, client.workspace.id, client.workspace.account_id)
        return cls(client)

    async def queue(self, **fields: Any) -> str:
        """Creates a pin, which is then queued. Returns its id."""
        pin = await self.client.publish_pin(**fields)
        assert pin["status"] == "queued"
        return str(pin["id"])

    async def publish(self, pinterest_pin_id: str | None = None, **fields: Any) -> str:
        """Creates a pin and delivers it. Returns its id."""
        pin_id = await self.queue(**fields)
        await self.set_published(pin_id, pinterest_pin_id or f"at-{pin_id}")
        return pin_id

    async def set_state(self, pin_id: str | UUID | None, state: str) -> None:
        await self.client.execute(
            "update publisher.pins set state = :state where pin_id = :id", state=state, id=pin_id
        )

    async def set_published(self, pin_id: str | UUID | None, pinterest_pin_id: str) -> None:
        await self.client.execute(
            "update publisher.pins set state = 'published', published_at = now(), "
            "pinterest_pin_id = :pinterest where pin_id = :id",
            id=pin_id,
            pinterest=pinterest_pin_id,
        )

    async def fail(self, pin_id: str | UUID | None, code: str = "validation_error") -> None:
        await self.client.execute(
            "update publisher.pins set state = 'failed', failed_at = now(), error_code = :code, "
            "error_message = 'Pinterest says no.' where pin_id = :id",
            id=pin_id,
            code=code,
        )

    async def pause(self, code: str = "rate_limited", seconds: float = 600) -> None:
        """Pauses the account, as after an answer of Pinterest."""
        await self.client.execute(
            "insert into publisher.delivery_accounts "
            "(account_id, workspace_id, paused_until, pause_code, pause_message) "
            "values (:id, :workspace, now() + :seconds * interval '1 second', :code, 'Wait.') "
            "on conflict (account_id) do update set paused_until = excluded.paused_until, "
            "pause_code = excluded.pause_code, pause_message = excluded.pause_message",
            id=self.account_id,
            workspace=self.client.workspace.id,
            seconds=seconds,
            code=code,
        )

    async def attempt(
        self, pin_id: str | UUID | None, number: int = 1, seconds_ago: float = 0
    ) -> None:
        """Records an attempt that has no outcome yet."""
        await self.client.execute(
            INSERT_ATTEMPT, **self.build_attempt(pin_id, number=number, seconds_ago=seconds_ago)
        )

    def build_attempt(
        self, pin_id: str | UUID | None, *, number: int, seconds_ago: float
    ) -> dict[str, Any]:
        """Builds the values of INSERT_ATTEMPT."""
        return {
            "id": pin_id,
            "number": number,
            "workspace": self.client.workspace.id,
            "account": self.account_id,
            "ago": seconds_ago,
        }

    async def settle_removal(
        self, pin_id: str | UUID | None, outcome: str = "removed", message: str | None = None
    ) -> None:
        """Carries a removal out. Raises AssertionError if there is none that waits."""
        await self.client.execute(
            "update publisher.removals set outcome = :outcome, settled_at = now(), "
            "error_message = :message where pin_id = :id and outcome is null",
            id=pin_id,
            outcome=outcome,
            message=message,
        )
        if outcome == "removed":
            await self.client.execute(
                "update publisher.pins set removed_at = now() where pin_id = :id", id=pin_id
            )
