"""The service pauses while the installation has no webhook. The first webhook misses no event."""

import pytest
from structlog.testing import capture_logs

from services.webhooks import app
from services.webhooks.config import WebhooksSettings
from shared.contract.topics import TopicNames
from shared.kafka.producer import RecordProducer
from tests.integration.conftest import Workspace
from tests.integration.webhooks.conftest import Webhooks, pin_published
from tests.support.receivers import Receiver
from tests.support.services import running_app
from tests.support.waiting import eventually


async def test_the_very_first_webhook_gets_events_right_after_its_creation(
    settings: WebhooksSettings,
    workspace: Workspace,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "UNUSED_CHECK_SECONDS", 0.02)
    producer = RecordProducer(settings, client_id="test")
    await producer.start()
    keys = [f"pin-{number}" for number in range(8)]

    def count_pauses() -> int:
        return [line["event"] for line in logs].count("consumer_paused")

    with capture_logs() as logs:
        async with running_app(app.create_app(settings)) as http:
            webhooks = Webhooks(http, producer, TopicNames(settings.topic_prefix))
            for key in keys:
                await eventually(lambda: count_pauses() > len(receiver.requests))
                created = await webhooks.create(workspace, receiver.url)
                await webhooks.announce(pin_published(workspace.id, key=key))
                await eventually(lambda: count_pauses() == len(receiver.requests))
                await http.delete(f"/v1/webhooks/{created['id']}", headers=workspace.headers)
    await producer.stop()
    received = [request.document["data"]["idempotency_key"] for request in receiver.requests]
    assert received == keys
