"""The webhooks service on real servers, with events as publisher and status announce them."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio

from services.webhooks.app import create_app
from services.webhooks.config import WebhooksSettings
from shared.contract.cloudevents import EventType, build_headers
from shared.contract.events import ImportCompleted, JobStatus
from shared.contract.pin_events import PinPublished
from shared.contract.topics import TopicName, TopicNames
from shared.contract.wire import encode
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.support.factories import ACCOUNT
from tests.support.receivers import Receiver, receiving
from tests.support.services import running_app
from tests.support.waiting import eventually

SECRET = "a secret of the tests"  # pragma: allowlist secret
ENDED = {"delivered", "failed"}


def pin_published(workspace_id: UUID, *, key: str = "lamp", **fields: Any) -> Record:
    values = {
        "pin_id": uuid4(),
        "account_id": ACCOUNT,
        "board_id": "board-1",
        "published_at": datetime.now(UTC),
        **fields,
    }
    event = PinPublished(workspace_id=workspace_id, idempotency_key=key, **values)
    headers = build_headers(
        EventType.PIN_PUBLISHED,
        event_id=f"{event.pin_id}:published",
        source="/test",
        time=event.published_at,
    )
    return Record(str(workspace_id).encode(), encode(event), headers)


def import_ended(workspace_id: UUID, status: JobStatus) -> Record:
    counters: dict[str, Any] = {
        "total_rows": 2,
        "processed_rows": 2,
        "created_rows": 1,
        "existing_rows": 0,
        "failed_rows": 1,
    }
    event = ImportCompleted(
        job_id=uuid4(),
        workspace_id=workspace_id,
        status=status,
        **counters,
        completed_at=datetime.now(UTC),
    )
    headers = build_headers(
        EventType.IMPORT_COMPLETED,
        event_id=f"{event.job_id}:completed",
        source="/test",
        time=event.completed_at,
    )
    return Record(str(workspace_id).encode(), encode(event), headers)


class Webhooks:
    """Calls the service as clients do, and announces events on Kafka."""

    def __init__(
        self, http: httpx.AsyncClient, producer: RecordProducer, names: TopicNames
    ) -> None:
        self.http = http
        self._producer = producer
        self._names = names

    async def announce(self, *records: Record, topic: TopicName = TopicName.PIN_EVENTS) -> None:
        await self._producer.send(self._names[topic], records)

    async def create(self, workspace: Workspace, url: str, **fields: Any) -> dict[str, Any]:
        answer = await self.http.post(
            "/v1/webhooks", json={"url": url, "secret": SECRET, **fields}, headers=workspace.headers
        )
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def webhook(self, workspace: Workspace, webhook_id: str) -> dict[str, Any]:
        return dict(
            (await self.http.get(f"/v1/webhooks/{webhook_id}", headers=workspace.headers)).json()
        )

    async def change(self, workspace: Workspace, webhook_id: str, **fields: Any) -> dict[str, Any]:
        answer = await self.http.patch(
            f"/v1/webhooks/{webhook_id}", json=fields, headers=workspace.headers
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def deliveries(
        self, workspace: Workspace, webhook_id: str, query: str = ""
    ) -> list[dict[str, Any]]:
        answer = await self.http.get(
            f"/v1/webhooks/{webhook_id}/deliveries{query}", headers=workspace.headers
        )
        assert answer.status_code == 200, answer.text
        return list(answer.json())

    async def ended(
        self, workspace: Workspace, webhook_id: str, count: int = 1
    ) -> list[dict[str, Any]]:
        """Waits for `count` deliveries of which none is pending, and returns them."""

        async def find_ended() -> list[dict[str, Any]] | None:
            deliveries = await self.deliveries(workspace, webhook_id)
            has_ended = all(delivery["status"] in ENDED for delivery in deliveries)
            return deliveries if len(deliveries) == count and has_ended else None

        return await eventually(find_ended)


@pytest.fixture(scope="module")
def settings(kafka: str, topic_prefix: str, database_url: str) -> WebhooksSettings:
    """Retries come soon, and receivers on this machine are allowed."""
    return WebhooksSettings(
        kafka_bootstrap_servers=kafka,
        topic_prefix=topic_prefix,
        database_url=database_url,
        webhooks_per_workspace=5,
        webhook_attempts=3,
        webhook_first_retry_seconds=0.05,
        webhook_retry_factor=2,
        webhook_failures_until_disabled=2,
        webhook_deliveries_at_once_each=2,
        webhook_interval_seconds=0.05,
        event_wait_ms=20,
        webhook_allow_private_addresses=True,
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def webhooks(settings: WebhooksSettings, database: Database) -> AsyncIterator[Webhooks]:
    names = TopicNames(settings.topic_prefix)
    compressed = [names[TopicName.PIN_EVENTS]]  # as the publisher does
    producer = RecordProducer(settings, client_id="test", compressed_topics=compressed)
    await producer.start()
    async with running_app(create_app(settings)) as http:
        yield Webhooks(http, producer, names)
    await producer.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver
