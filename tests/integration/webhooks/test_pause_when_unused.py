"""The service sleeps while nobody in the whole installation has a webhook, and whoever makes the
first misses nothing.
"""

import pytest
from structlog.testing import capture_logs

from services.webhooks import app
from services.webhooks.config import WebhooksSettings
from shared.contract.topics import TopicNames
from shared.kafka.producer import RecordProducer
from tests.integration.conftest import Workspace
from tests.integration.webhooks.conftest import Webhooks, pin_published
from tests.support.receivers import Receiver
from tests.support.services import running
from tests.support.waiting import eventually


async def test_the_first_webhook_of_all_misses_nothing_that_happens_right_after_it_was_made(
    settings: WebhooksSettings,
    workspace: Workspace,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(app, "UNUSED_CHECK_SECONDS", 0.02)
    producer = RecordProducer(settings, client_id="test")
    await producer.start()
    keys = [f"heard-{number}" for number in range(8)]

    def fell_asleep() -> int:
        return [line["event"] for line in logs].count("consumer_paused")

    with capture_logs() as logs:
        async with running(app.create_app(settings)) as http:
            webhooks = Webhooks(http, producer, TopicNames(settings.topic_prefix))
            for key in keys:
                await eventually(lambda: fell_asleep() > len(receiver.requests))
                made = await webhooks.create(workspace, receiver.url)
                await webhooks.announce(pin_published(workspace.id, key=key))
                await eventually(lambda: fell_asleep() == len(receiver.requests))
                await http.delete(f"/v1/webhooks/{made['id']}", headers=workspace.headers)
    await producer.stop()
    assert [one.document["data"]["idempotency_key"] for one in receiver.requests] == keys
