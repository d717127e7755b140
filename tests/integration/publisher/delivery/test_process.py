"""The whole process, with Kafka: what it sends, and what it does in the mode `off`."""

from http import HTTPStatus
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

from services.publisher.delivery import app as delivery_app
from services.publisher.delivery.app import create_app
from services.publisher.delivery.config import DeliverySettings
from shared.contract.topics import TopicName, TopicNames
from tests.support.delivery.process import Account, Delivery
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def read_records(bootstrap: str, topic: str, count: int) -> list[dict[str, Any]]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    try:
        await consumer.start()
        return [msgspec.json.decode((await consumer.getone()).value) for _ in range(count)]
    finally:
        await consumer.stop()


async def test_a_pin_is_announced_sent_and_settled_in_this_order(
    delivery: Delivery,
    account: Account,
    environment: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery_app, "AccessTokens", lambda *_args: delivery.tokens)
    pin_id = await delivery.queue(account)
    settings = DeliverySettings(
        **environment,
        pinterest_mode="simulated",
        pinterest_simulator_url=delivery.simulator.url,
        delivery_interval_seconds=0.1,
    )
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        await eventually(lambda: is_published(delivery, pin_id), seconds=40)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://delivery") as client:
            readiness = await client.get("/readyz")
            text = (await client.get("/metrics")).text
    assert readiness.status_code == 200, readiness.text
    assert 'pinflow_delivery_attempts_total{outcome="created"} 0.0' not in text
    assert 'pinflow_delivery_attempts_total{outcome="created"}' in text
    assert 'pinflow_delivery_open{mode="simulated"} 1.0' in text
    records = await read_records(
        settings.kafka_bootstrap_servers, TopicNames(settings.topic_prefix)[TopicName.DELIVERIES], 2
    )
    assert [record["kind"] for record in records] == ["attempted", "settled"]
    assert records[1]["pinterest_pin_id"] == delivery.list_made(account)[0]["id"]


async def is_published(delivery: Delivery, pin_id: UUID) -> bool:
    return bool((await delivery.find_pin(pin_id))["state"] == "published")


async def test_in_the_mode_off_the_process_is_ready_and_sends_nothing(
    delivery: Delivery, account: Account, environment: dict[str, Any]
) -> None:
    pin_id = await delivery.queue(account)
    app = create_app(DeliverySettings(**environment, delivery_interval_seconds=0.01))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://delivery") as client,
    ):

        async def is_measured() -> bool:
            return (
                'pinflow_delivery_pins{state="queued"} 1.0' in (await client.get("/metrics")).text
            )

        async def is_ready() -> bool:
            return (await client.get("/readyz")).status_code == HTTPStatus.OK

        await eventually(is_measured)
        await eventually(is_ready)
    assert (await delivery.find_pin(pin_id))["state"] == "queued"
    assert await delivery.find_attempts(pin_id) == []
