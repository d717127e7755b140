"""Deliveries, from an event on Kafka to a receiver."""

import base64
import hashlib
import hmac
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import CommitFailedError

from services.webhooks.app import create_app
from services.webhooks.config import WebhooksSettings
from services.webhooks.delivery.sender import USER_AGENT
from shared.contract.events import JobStatus
from shared.contract.topics import PARTITIONS, TopicName, TopicNames
from shared.kafka.producer import RecordProducer
from shared.kafka.records import Record
from shared.postgres.database import Database
from tests.integration.conftest import Workspace, make_workspace
from tests.integration.webhooks.conftest import SECRET, Webhooks, import_ended, pin_published
from tests.support.infrastructure import fresh_topics
from tests.support.kafka import read_records
from tests.support.receivers import OK, ReceivedRequest, Receiver, Reply, receiving, respond_with
from tests.support.services import running_app
from tests.support.waiting import eventually


async def test_an_event_is_delivered_with_the_signature_that_pinbridges_receivers_check(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver
) -> None:
    created = await webhooks.create(workspace, f"{receiver.url}?shop=1")
    await webhooks.announce(pin_published(workspace.id, key="a lämp"))
    await eventually(receiver.find_requests)
    (received,) = receiver.requests
    # In JavaScript: crypto.createHmac('sha256', secret).update(rawBody).digest('hex')
    expected = hmac.new(SECRET.encode(), received.body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(received.headers["x-pinbridge-signature"], expected)
    assert received.headers["x-pinbridge-event"] == "pin.published"
    assert (received.headers["content-type"], received.headers["user-agent"]) == (
        "application/json",
        USER_AGENT,
    )
    assert (received.path, received.headers["host"]) == (
        "/hooks?shop=1",
        f"127.0.0.1:{receiver.port}",
    )
    document = received.document
    assert (document["event"], document["workspace_id"]) == ("pin.published", str(workspace.id))
    assert document["data"]["idempotency_key"] == "a lämp"
    (delivery,) = await webhooks.ended(workspace, created["id"])
    assert received.headers["x-pinbridge-delivery-id"] == delivery["id"]
    assert (delivery["payload"], delivery["event_type"], delivery["attempt_count"]) == (
        document,
        "pin.published",
        1,
    )
    assert (delivery["status"], delivery["last_status_code"], delivery["last_error"]) == (
        "delivered",
        204,
        None,
    )
    assert delivery["next_attempt_at"] is None


async def test_a_delivery_also_has_the_standard_webhooks_signature(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver
) -> None:
    key = b"0123456789abcdef0123456789abcdef"
    await webhooks.create(workspace, receiver.url, secret=f"whsec_{base64.b64encode(key).decode()}")
    await webhooks.announce(pin_published(workspace.id))
    await eventually(receiver.find_requests)
    (received,) = receiver.requests
    message_id, timestamp = received.headers["webhook-id"], received.headers["webhook-timestamp"]
    assert message_id == received.document["id"]
    assert abs(int(timestamp) - time.time()) < 60
    signed = b".".join([message_id.encode(), timestamp.encode(), received.body])
    expected = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    assert received.headers["webhook-signature"].split() == [f"v1,{expected}"]


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (JobStatus.COMPLETED, "import.completed"),
        (JobStatus.COMPLETED_WITH_ERRORS, "import.completed_with_errors"),
        (JobStatus.FAILED, "import.failed"),
    ],
)
async def test_the_end_of_an_import_is_delivered_to_subscribed_webhooks(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver, status: JobStatus, name: str
) -> None:
    await webhooks.create(workspace, receiver.url, events=[name])
    unfinished = {JobStatus.QUEUED, JobStatus.PROCESSING}
    others = [other for other in JobStatus if other not in {status, *unfinished}]
    await webhooks.announce(pin_published(workspace.id))
    await webhooks.announce(
        *(import_ended(workspace.id, job_status) for job_status in (*others, status)),
        topic=TopicName.JOB_EVENTS,
    )
    await eventually(lambda: receiver.find_requests(name))
    assert [request.headers["x-pinbridge-event"] for request in receiver.requests] == [name]


async def test_an_event_that_is_announced_twice_is_delivered_once(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver
) -> None:
    created = await webhooks.create(workspace, receiver.url)
    first, second = (
        pin_published(workspace.id, key="first"),
        pin_published(workspace.id, key="second"),
    )
    await webhooks.announce(first, first)
    await eventually(receiver.find_requests)
    await webhooks.announce(first, second)
    await webhooks.ended(workspace, created["id"], count=2)
    assert sorted(request.document["data"]["idempotency_key"] for request in receiver.requests) == [
        "first",
        "second",
    ]


@pytest.fixture
def own_topics(settings: WebhooksSettings) -> Iterator[str]:
    with fresh_topics(settings.kafka_bootstrap_servers) as prefix:
        yield prefix


async def test_a_delivery_keeps_its_id_when_its_event_is_read_again_after_a_restore(
    settings: WebhooksSettings,
    own_topics: str,
    workspace: Workspace,
    database: Database,
    receiver: Receiver,
) -> None:
    first, second = (
        pin_published(workspace.id, key="first"),
        pin_published(workspace.id, key="second"),
    )
    own = settings.model_copy(update={"topic_prefix": own_topics})
    producer = RecordProducer(own, client_id="test")
    await producer.start()
    async with running_app(create_app(own)) as http:
        webhooks = Webhooks(http, producer, TopicNames(own_topics))
        created = await webhooks.create(workspace, receiver.url)
        await webhooks.announce(first)
        await webhooks.ended(workspace, created["id"])
        await webhooks.announce(first, second)  # a second record of the same event
        before = await webhooks.ended(workspace, created["id"], count=2)
    await producer.stop()
    async with database.transaction() as connection:
        await connection.exec_driver_sql(
            f"delete from webhooks.deliveries where webhook_id = '{created['id']}'"
        )
    await rewind(own, TopicName.PIN_EVENTS)
    async with running_app(create_app(own)) as http:
        after = await Webhooks(http, producer, TopicNames(own_topics)).ended(
            workspace, created["id"], count=2
        )
    assert [(delivery["id"], delivery["payload"]) for delivery in after] == [
        (delivery["id"], delivery["payload"]) for delivery in before
    ]
    received = Counter(request.headers["x-pinbridge-delivery-id"] for request in receiver.requests)
    assert received == {delivery["id"]: 2 for delivery in before}


async def rewind(settings: WebhooksSettings, name: TopicName) -> None:
    """Resets the group's offsets to the start of the topic. The group must have no member."""
    names = TopicNames(settings.topic_prefix)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        group_id=names.group("webhooks"),
        enable_auto_commit=False,
    )
    consumer.assign([TopicPartition(names[name], partition) for partition in range(PARTITIONS)])
    await consumer.start()

    async def is_reset() -> bool:
        # Refused while a member that has not left in time is still in the group
        with suppress(CommitFailedError):
            await consumer.commit(dict.fromkeys(consumer.assignment(), 0))
            return True
        return False

    await eventually(is_reset, seconds=60)
    await consumer.stop()


async def test_each_webhook_of_the_workspace_and_no_other_gets_the_event(
    webhooks: Webhooks, workspace: Workspace, database: Database, receiver: Receiver
) -> None:
    other = await make_workspace(database)
    with receiving() as second, receiving() as foreign:
        await webhooks.create(workspace, receiver.url)
        await webhooks.create(workspace, second.url)
        await webhooks.create(other, foreign.url)
        await webhooks.announce(
            pin_published(workspace.id, key="ours"), pin_published(other.id, key="theirs")
        )
        await eventually(
            lambda: receiver.find_requests() and second.find_requests() and foreign.find_requests()
        )
        received = [
            [request.document["data"]["idempotency_key"] for request in target.requests]
            for target in (receiver, second, foreign)
        ]
    assert received == [["ours"], ["ours"], ["theirs"]]
    ids = {
        request.headers["webhook-id"]
        for target in (receiver, second)
        for request in target.requests
    }
    assert len(ids) == 1  # the event's id, not the delivery's


async def test_a_webhook_gets_events_right_after_its_creation(
    webhooks: Webhooks, database: Database, receiver: Receiver
) -> None:
    for _ in range(20):
        new_workspace = await make_workspace(database)
        await webhooks.create(new_workspace, receiver.url)
        await webhooks.announce(pin_published(new_workspace.id))
    await eventually(lambda: len(receiver.find_requests()) == 20)


async def test_a_webhook_does_not_get_old_events(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver, database: Database
) -> None:
    """Otherwise a service would deliver a week of events when it first reads the topic."""
    created = await webhooks.create(workspace, receiver.url)
    later = (
        "update webhooks.endpoints set created_at = now() + interval '6 minutes' where webhook_id "
        "= '{}'"
    )
    async with database.transaction() as connection:
        await connection.exec_driver_sql(later.format(created["id"]))
    await webhooks.announce(pin_published(workspace.id, key="before"))
    await webhooks.create(workspace, f"{receiver.url}/second")
    await webhooks.announce(pin_published(workspace.id, key="after"))
    await eventually(
        lambda: (
            "after"
            in {request.document["data"]["idempotency_key"] for request in receiver.find_requests()}
        )
    )
    assert await webhooks.deliveries(workspace, created["id"]) == []


async def test_a_failed_delivery_is_retried_with_the_same_body_until_it_succeeds(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver
) -> None:
    receiver.answer = respond_with(500, 429)
    created = await webhooks.create(workspace, receiver.url)
    await webhooks.announce(pin_published(workspace.id))
    (delivery,) = await webhooks.ended(workspace, created["id"])
    assert (delivery["status"], delivery["attempt_count"], delivery["last_status_code"]) == (
        "delivered",
        3,
        204,
    )
    distinct = {
        (request.body, request.headers["webhook-id"], request.headers["x-pinbridge-delivery-id"])
        for request in receiver.requests
    }
    assert (len(receiver.requests), len(distinct)) == (3, 1)


async def test_a_delivery_fails_after_its_last_attempt_and_failures_in_a_row_disable_the_webhook(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver
) -> None:
    receiver.answer = respond_with(*[500] * 6)
    created = await webhooks.create(workspace, receiver.url)
    await webhooks.announce(
        pin_published(workspace.id, key="first"), pin_published(workspace.id, key="second")
    )
    deliveries = await webhooks.ended(workspace, created["id"], count=2)
    assert [(delivery["status"], delivery["attempt_count"]) for delivery in deliveries] == [
        ("failed", 3)
    ] * 2

    async def disabled() -> bool:
        return bool(
            (await webhooks.webhook(workspace, created["id"]))["disabled_reason"] == "failing"
        )

    await eventually(disabled)
    await webhooks.announce(pin_published(workspace.id, key="while disabled"))
    changed = await webhooks.change(workspace, created["id"], is_enabled=True)
    assert (changed["is_enabled"], changed["disabled_reason"]) == (True, None)
    assert len(receiver.requests) == 6


async def test_pending_deliveries_continue_when_the_webhook_is_enabled_again(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver
) -> None:
    is_disabled, respond = threading.Event(), respond_with(500, 500)

    def answer_after_that(request: ReceivedRequest) -> Reply:
        is_disabled.wait(60)
        return respond(request)

    receiver.answer = answer_after_that
    created = await webhooks.create(workspace, receiver.url)
    await webhooks.announce(pin_published(workspace.id))
    await eventually(receiver.find_requests)
    await webhooks.change(workspace, created["id"], is_enabled=False)
    is_disabled.set()  # otherwise it could be delivered before the webhook is disabled

    async def was_tried() -> list[dict[str, Any]] | None:
        deliveries = await webhooks.deliveries(workspace, created["id"])
        return deliveries if deliveries[0]["attempt_count"] else None

    (pending,) = await eventually(was_tried)
    assert pending["status"] == "pending"
    await webhooks.change(workspace, created["id"], is_enabled=True)
    (delivery,) = await webhooks.ended(workspace, created["id"])
    assert (delivery["id"], delivery["status"]) == (pending["id"], "delivered")


async def test_410_gone_disables_the_webhook_at_once(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver
) -> None:
    receiver.answer = respond_with(410)
    created = await webhooks.create(workspace, receiver.url)
    await webhooks.announce(pin_published(workspace.id))
    (delivery,) = await webhooks.ended(workspace, created["id"])
    webhook = await webhooks.webhook(workspace, created["id"])
    assert (delivery["status"], delivery["attempt_count"], delivery["last_status_code"]) == (
        "failed",
        1,
        410,
    )
    assert (webhook["is_enabled"], webhook["disabled_reason"]) == (False, "gone")


async def test_a_redirect_is_not_followed(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver
) -> None:
    with receiving() as target:
        receiver.answer = lambda _: Reply(307, {"Location": target.url})
        created = await webhooks.create(workspace, receiver.url)
        await webhooks.announce(pin_published(workspace.id))
        (delivery,) = await webhooks.ended(workspace, created["id"])
        assert target.requests == []
    assert (delivery["status"], delivery["last_status_code"]) == ("failed", 307)
    assert "redirect" in delivery["last_error"]


async def test_the_status_of_a_huge_response_counts(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver
) -> None:
    receiver.answer = lambda _: Reply(200, body=b"x" * 5_000_000)
    created = await webhooks.create(workspace, receiver.url)
    await webhooks.announce(pin_published(workspace.id))
    (delivery,) = await webhooks.ended(workspace, created["id"])
    assert (delivery["status"], delivery["attempt_count"]) == ("delivered", 1)


async def test_a_delivery_fails_if_no_receiver_listens(
    webhooks: Webhooks, workspace: Workspace
) -> None:
    with receiving() as closed:
        url = closed.url
    created = await webhooks.create(workspace, url)
    await webhooks.announce(pin_published(workspace.id))
    (delivery,) = await webhooks.ended(workspace, created["id"])
    assert (delivery["status"], delivery["attempt_count"], delivery["last_status_code"]) == (
        "failed",
        3,
        None,
    )
    assert delivery["last_error"].startswith("ConnectError")


async def test_a_slow_receiver_does_not_delay_others(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver, settings: WebhooksSettings
) -> None:
    """The slow receiver hangs until the timeout and has a large backlog.

    Meanwhile another receiver gets all its events.
    """
    release = threading.Event()

    def hang(_: ReceivedRequest) -> Reply:
        release.wait(60)
        return OK

    with receiving(hang) as slow:
        await webhooks.create(workspace, slow.url)
        await webhooks.announce(
            *(pin_published(workspace.id, key=f"slow-{number}") for number in range(100))
        )
        await eventually(slow.find_requests)
        await webhooks.create(workspace, receiver.url)
        started = time.monotonic()
        await webhooks.announce(
            *(pin_published(workspace.id, key=f"quick-{number}") for number in range(30))
        )
        await eventually(lambda: len(receiver.find_requests()) == 30)
        seconds, slow_requests = time.monotonic() - started, len(slow.find_requests())
        release.set()
    assert seconds < settings.webhook_timeout_seconds
    # Two at once, each until the timeout
    assert slow_requests <= 2 + 2 * seconds / settings.webhook_timeout_seconds + 1


async def test_a_delivery_is_resent_on_request(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver
) -> None:
    created = await webhooks.create(workspace, receiver.url)
    await webhooks.announce(pin_published(workspace.id))
    (first,) = await webhooks.ended(workspace, created["id"])
    path = f"/v1/webhooks/{created['id']}/deliveries/{first['id']}"
    answer = await webhooks.http.post(f"{path}/resend", headers=workspace.headers)
    assert (answer.status_code, answer.json()["status"], answer.json()["id"]) == (
        202,
        "pending",
        first["id"],
    )
    await eventually(lambda: len(receiver.find_requests()) == 2)
    (again,) = await webhooks.ended(workspace, created["id"])
    assert (again["status"], again["attempt_count"]) == ("delivered", 2)
    assert (await webhooks.http.get(path, headers=workspace.headers)).json() == again
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


async def test_a_failed_delivery_is_resent_with_as_many_attempts_as_a_new_one(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver
) -> None:
    receiver.answer = respond_with(*[500] * 5)
    created = await webhooks.create(workspace, receiver.url)
    await webhooks.announce(pin_published(workspace.id))
    (failed,) = await webhooks.ended(workspace, created["id"])
    assert failed["status"] == "failed"
    await webhooks.http.post(
        f"/v1/webhooks/{created['id']}/deliveries/{failed['id']}/resend", headers=workspace.headers
    )
    (again,) = await webhooks.ended(workspace, created["id"])
    assert (again["status"], again["attempt_count"]) == ("delivered", 6)


async def test_a_disabled_webhooks_delivery_can_not_be_resent(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver
) -> None:
    created = await webhooks.create(workspace, receiver.url)
    await webhooks.announce(pin_published(workspace.id))
    (delivery,) = await webhooks.ended(workspace, created["id"])
    await webhooks.change(workspace, created["id"], is_enabled=False)
    answer = await webhooks.http.post(
        f"/v1/webhooks/{created['id']}/deliveries/{delivery['id']}/resend",
        headers=workspace.headers,
    )
    assert (answer.status_code, answer.json()["detail"]["code"]) == (409, "webhook_disabled")


async def test_deliveries_are_listed_newest_first_in_stable_pages(
    webhooks: Webhooks, workspace: Workspace, receiver: Receiver
) -> None:
    receiver.answer = respond_with(410)
    created = await webhooks.create(workspace, receiver.url, events=["pin.published"])
    await webhooks.announce(pin_published(workspace.id, key="failed"))
    await webhooks.ended(workspace, created["id"])
    await webhooks.change(workspace, created["id"], is_enabled=True)
    for number in range(4):
        await webhooks.announce(pin_published(workspace.id, key=f"page-{number}"))
        await webhooks.ended(workspace, created["id"], count=number + 2)
    path = f"/v1/webhooks/{created['id']}/deliveries"
    page = await webhooks.http.get(f"{path}?limit=2", headers=workspace.headers)
    await webhooks.announce(pin_published(workspace.id, key="meanwhile"))
    await webhooks.ended(workspace, created["id"], count=6)
    listed = read_keys(page.json())
    while "next" in page.links:
        page = await webhooks.http.get(page.links["next"]["url"], headers=workspace.headers)
        listed += read_keys(page.json())
    assert listed == ["page-3", "page-2", "page-1", "page-0", "failed"]
    assert read_keys(await webhooks.deliveries(workspace, created["id"], "?status=failed")) == [
        "failed"
    ]
    assert await webhooks.deliveries(workspace, created["id"], "?status=pending") == []
    for query in ("limit=0", "limit=201", "status=lost", "cursor=x"):
        answer = await webhooks.http.get(f"{path}?{query}", headers=workspace.headers)
        assert (answer.status_code, answer.json()["detail"]["code"]) == (422, "invalid_parameter")


def read_keys(deliveries: list[dict[str, Any]]) -> list[str]:
    return [delivery["payload"]["data"]["idempotency_key"] for delivery in deliveries]


async def test_invariant_8_an_unreadable_event_becomes_a_dead_letter_and_the_rest_is_delivered(
    webhooks: Webhooks,
    workspace: Workspace,
    database: Database,
    receiver: Receiver,
    kafka: str,
    topic_prefix: str,
) -> None:
    await webhooks.create(workspace, receiver.url)
    other = await make_workspace(database)
    good = pin_published(workspace.id)
    foreign = Record(good.key, pin_published(other.id).value, good.headers)
    garbage = Record(good.key, b"garbage", good.headers)
    invalid_key = Record(b"no workspace", good.value, good.headers)
    await webhooks.announce(foreign, garbage, invalid_key, good)
    await eventually(receiver.find_requests)

    async def are_dead_letters() -> bool:
        dead_letters = await read_records(kafka, topic_prefix, TopicName.DEAD_LETTERS)
        return {record.value for record in dead_letters} == {
            foreign.value,
            garbage.value,
            good.value,
        }

    await eventually(are_dead_letters, every=0.1)
    assert len(receiver.requests) == 1
