"""Tests webhooks in a running Pinflow.

PinBridge's public client creates them, and no delivery of an accepted import is lost.
"""

import hashlib
import hmac
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from pinbridge_sdk import AsyncPinbridgeClient, PinbridgeClient
from pinbridge_sdk.errors import NotFoundError, ValidationError
from pinbridge_sdk.models.webhooks import WebhookCreate, WebhookUpdate

from deploy.administration import NewWorkspace
from tests.acceptance.patience import read_readiness
from tests.acceptance.rows import rows_for
from tests.support.deployment import Deployment, wait_for_job
from tests.support.receivers import OK, ReceivedRequest, Receiver, Reply, receiving
from tests.support.waiting import wait_until

SECRET = "a secret of the tests"  # pragma: allowlist secret
EVENTS = ["pin.published", "import.completed"]


@pytest.fixture(scope="module")
def pinflow(connected: Deployment) -> Deployment:
    """The deployment that calls receivers on this machine. Tests break its webhooks service."""
    return connected


@pytest.fixture
def sdk(pinflow: Deployment, workspace: NewWorkspace) -> Iterator[Any]:
    """PinBridge's client. Typed Any, because it adds its resources at run time."""
    with PinbridgeClient(base_url=pinflow.base_url, api_key=workspace.api_key) as client:
        yield client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def is_genuine(received: ReceivedRequest) -> bool:
    """Checks the signature as PinBridge documents it for receivers.

    That is createHmac('sha256', secret).update(rawBody).digest('hex').
    """
    expected = hmac.new(SECRET.encode(), received.body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, received.headers["x-pinbridge-signature"])


def read_keys(receiver: Receiver) -> list[str]:
    return [
        request.document["data"]["idempotency_key"]
        for request in receiver.find_requests("pin.published")
    ]


def test_the_sdk_creates_a_webhook_that_receives_an_imports_events(
    sdk: Any, workspace: NewWorkspace, receiver: Receiver
) -> None:
    created = sdk.webhooks.create(WebhookCreate(url=receiver.url, secret=SECRET, events=EVENTS))
    assert (created.workspace_id, created.url, created.events, created.is_enabled) == (
        workspace.id,
        receiver.url,
        EVENTS,
        True,
    )
    job = sdk.pins.import_json(rows_for(workspace, 20, prefix="event"))
    wait_until(lambda: len(receiver.find_requests()) == 21)
    assert all(map(is_genuine, receiver.requests))
    assert sorted(read_keys(receiver)) == sorted(f"event-{number}" for number in range(1, 21))
    (ended,) = receiver.find_requests("import.completed")
    assert ended.document["data"]["job_id"] == str(job.id)
    assert ended.document["data"]["created_rows"] == 20


def test_the_sdk_reads_changes_and_deletes_webhooks(sdk: Any, receiver: Receiver) -> None:
    created = sdk.webhooks.create({"url": receiver.url, "secret": SECRET})
    assert created.events == ["pin.published", "pin.failed"]
    assert sdk.webhooks.list() == [created]
    changed = sdk.webhooks.update(
        created.id, WebhookUpdate(is_enabled=False, events=["pin.failed"])
    )
    assert (changed.is_enabled, changed.events, changed.url) == (False, ["pin.failed"], created.url)
    assert sdk.webhooks.get(created.id) == changed
    sdk.webhooks.delete(created.id)
    with pytest.raises(NotFoundError):
        sdk.webhooks.get(created.id)
    with pytest.raises(ValidationError) as refused:
        sdk.webhooks.create({"url": receiver.url, "secret": SECRET, "events": ["pin.deleted"]})
    assert refused.value.code == "validation_error"


async def test_the_asynchronous_sdk_does_the_same(
    pinflow: Deployment, workspace: NewWorkspace, receiver: Receiver
) -> None:
    sdk: Any = AsyncPinbridgeClient(base_url=pinflow.base_url, api_key=workspace.api_key)
    async with sdk:
        created = await sdk.webhooks.create(WebhookCreate(url=receiver.url, secret=SECRET))
        assert await sdk.webhooks.list() == [created]
        changed = await sdk.webhooks.update(created.id, {"url": f"{receiver.url}/b"})
        assert await sdk.webhooks.get(created.id) == changed
        await sdk.webhooks.delete(created.id)
        assert await sdk.webhooks.list() == []


def test_kill_9_of_the_service_in_the_middle_of_deliveries_loses_none(
    pinflow: Deployment, sdk: Any, workspace: NewWorkspace, receiver: Receiver
) -> None:
    """Kills the webhooks service three times. Each event still arrives at least once."""
    rows, held = 120, threading.Event()

    def slowly(_: ReceivedRequest) -> Reply:
        held.wait(0.05)
        return OK

    receiver.answer = slowly
    sdk.webhooks.create(WebhookCreate(url=receiver.url, secret=SECRET, events=EVENTS))
    sdk.pins.import_json(rows_for(workspace, rows, prefix="killed"))
    for kills in range(1, 4):
        wait_until(lambda: len(receiver.find_requests()) >= 20 * kills)  # noqa: B023
        pinflow.programs["webhooks"].kill()
        pinflow.restart("webhooks")
    wait_until(
        lambda: set(read_keys(receiver)) == {f"killed-{number}" for number in range(1, rows + 1)},
        seconds=60,
    )
    wait_until(lambda: receiver.find_requests("import.completed"))
    print(f"{len(receiver.find_requests())} requests for {rows + 1} deliveries")
    pinflow.wait_until_ready()


def test_imports_continue_without_the_webhooks_service_and_are_delivered_later(
    pinflow: Deployment,
    sdk: Any,
    client: httpx.Client,
    workspace: NewWorkspace,
    receiver: Receiver,
) -> None:
    sdk.webhooks.create(WebhookCreate(url=receiver.url, secret=SECRET, events=EVENTS))
    pinflow.programs["webhooks"].kill()
    try:
        job = sdk.pins.import_json(rows_for(workspace, 5, prefix="later"))
        assert wait_for_job(client, str(job.id))["completed_at"] is not None
        readiness = read_readiness(client, lambda answer: answer.is_success)
        # 200, so that a load balancer keeps using the gateway
        assert (readiness.status_code, readiness.json()["status"]) == (200, "degraded")
        assert readiness.json()["checks"]["webhooks"] == "no answer"
    finally:
        pinflow.restart("webhooks")
        pinflow.wait_until_ready()
    wait_until(lambda: len(receiver.find_requests()) == 6)
