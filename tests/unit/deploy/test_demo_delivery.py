"""The demo follows the delivery of its pins, and says what to do if that does not go on."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from deploy.cli.client import PinflowClient
from deploy.local import demo_delivery
from deploy.local.demo_delivery import describe_result, follow_delivery, read_delivery
from deploy.local.layout import LocalError
from tests.support.pinflow_server import Answer, PinflowServer, Request, running_server

SIMULATOR = "http://127.0.0.1:8090"


class PinServer(PinflowServer):
    """Lists pins by their status. Each answer publishes `speed` more of them."""

    speed = 1

    def answer(self, request: Request) -> Answer | None:
        if request.path == "/v1/pins":
            status = request.query.get("status")
            pins = [dict(pin) for pin in self.pins if status in {None, pin["status"]}]
            self.lists["/v1/pins"] = pins
            self._publish()
        return super().answer(request)

    pins: list[dict[str, Any]]

    def _publish(self) -> None:
        for pin in [pin for pin in self.pins if pin["status"] == "queued"][: self.speed]:
            pin.update(status="published", pinterest_pin_id="8899")


def build_pin(status: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": str(uuid4()),
        "status": status,
        "title": "Lamp",
        "pinterest_pin_id": None,
        "error_code": None,
        "error_message": None,
        **fields,
    }


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PinServer]:
    monkeypatch.setattr(demo_delivery, "POLL_SECONDS", 0.01)
    with running_server(PinServer) as server:
        assert isinstance(server, PinServer)
        server.pins = []
        server.lists["/v1/schedules"] = [build_pin("scheduled") for _ in range(9)]
        yield server


@pytest.fixture
def client(server: PinServer) -> Iterator[PinflowClient]:
    with PinflowClient(server.url, "pf_key", 1) as client:
        yield client


def test_a_delivery_is_followed_until_no_pin_is_sent_any_more(
    server: PinServer, client: PinflowClient
) -> None:
    cause = {"error_code": "media_rejected", "error_message": "The image is broken."}
    wait = {"error_code": "media_unreachable", "error_message": "Not before noon."}
    server.pins = [build_pin("queued") for _ in range(5)]
    server.pins += [build_pin("failed", **cause), build_pin("deferred", **wait)]
    delivery = follow_delivery(client, lambda: "RUNNING")
    assert delivery.counts == {
        "queued": 0,
        "publishing": 0,
        "deferred": 1,
        "published": 5,
        "failed": 1,
    }
    text = describe_result(client, delivery, SIMULATOR)
    assert "5 published, 1 failed, 1 deferred" in text
    assert "9 more wait for their run_at" in text
    assert text.count(f"{SIMULATOR}/_simulator/pins?id=8899") == 3
    assert "1  media_rejected: The image is broken." in text
    assert "1  media_unreachable: Not before noon." in text
    assert "6000 writes a minute" in text


def test_a_pin_that_moves_while_pins_are_counted_counts_once(
    server: PinServer, client: PinflowClient
) -> None:
    server.pins = [build_pin("queued") for _ in range(450)]
    assert read_delivery(client).total == 450


def test_failed_and_deferred_pins_are_named_with_what_to_do(
    server: PinServer, client: PinflowClient
) -> None:
    cause = {"error_code": "media_rejected", "error_message": "The image is broken."}
    server.pins = [build_pin("failed", title=f"Shelf {number}", **cause) for number in range(4)]
    wait = {"error_code": "media_unreachable", "error_message": "Check the image's address."}
    deferred = build_pin("deferred", title="Vase\x1b[2J", **wait)
    server.pins.append(deferred)
    text = describe_result(client, read_delivery(client), SIMULATOR)
    failures, _, waits = text.partition("Deferred: tried again later:")
    assert "4  media_rejected" in failures
    assert [f"Shelf {number}" in failures for number in range(4)] == [True, True, True, False]
    assert ".venv/bin/pinflow pins retry ID" in failures
    assert "1  media_unreachable: Check the image's address." in waits
    assert f"{deferred['id']}  Vase" in waits
    assert "\x1b" not in waits
    assert "Pinflow tries again by itself. See a pin: .venv/bin/pinflow pins show ID" in waits


def test_a_delivery_that_stands_still_names_the_process_and_its_log(
    server: PinServer, client: PinflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_delivery, "STALL_SECONDS", 0.1)
    server.speed = 0
    server.pins = [build_pin("queued"), build_pin("publishing")]
    with pytest.raises(LocalError) as stalled:
        follow_delivery(client, lambda: "BACKOFF")
    message = str(stalled.value)
    assert "2 wait" in message
    assert "The delivery process is BACKOFF." in message
    assert ".pinflow/log/delivery.log" in message
    assert "make demo again" in message


def test_an_interrupted_demo_says_that_its_pins_wait(
    server: PinServer,
    client: PinflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    server.speed = 0
    server.pins = [build_pin("queued")]
    monkeypatch.setattr("deploy.local.demo_delivery.time.sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        follow_delivery(client, lambda: "RUNNING")
    assert "1 pin waits for its delivery, which goes on while" in capsys.readouterr().err


def test_a_workspace_without_pins_has_nothing_to_deliver(client: PinflowClient) -> None:
    assert read_delivery(client).total == 0
