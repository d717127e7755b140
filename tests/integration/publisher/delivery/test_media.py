"""A whole process delivers pins with images and videos to the simulator."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from tests.support.delivery.process import Account, Delivery, Process
from tests.support.media_server import PNG, VIDEO, MediaServer, answer_status

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOCAL = {"media_allowed_networks": "127.0.0.0/8"}


@asynccontextmanager
async def uploading(delivery: Delivery, **settings: Any) -> AsyncIterator[Process]:
    """Runs a process with its uploads, as the publisher's role."""
    await delivery.execute("delete from publisher.delivery_media")
    async with delivery.running(None, **LOCAL, **settings) as process:
        tasks = [asyncio.create_task(upload.run()) for upload in process.media.uploads]
        try:
            yield process
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def run_until(
    process: Process, delivery: Delivery, states: dict[UUID, str]
) -> list[dict[str, Any]]:
    """Delivers until all pins have their states. The waits of videos end at once."""

    async def check() -> bool:
        await delivery.execute(
            "update publisher.delivery_media set next_at = clock_timestamp() "
            "where step = 'process' and next_at < clock_timestamp() + interval '30 seconds'"
        )
        pins = [await delivery.find_pin(pin_id) for pin_id in states]
        return all(pin["state"] == states[pin["pin_id"]] for pin in pins)

    await process.run_until(check)
    return [await delivery.find_pin(pin_id) for pin_id in states]


async def test_a_video_is_published_once_with_its_medium(
    delivery: Delivery, account: Account, server: MediaServer
) -> None:
    pin_id = await delivery.queue(account, image_url=server.serve("/lamp.mp4", VIDEO))
    async with uploading(delivery) as process:
        (pin,) = await run_until(process, delivery, {pin_id: "published"})
    (made,) = delivery.list_made(account)
    assert pin["pinterest_pin_id"] == made["id"]
    assert server.requests == ["/lamp.mp4"]
    assert await delivery.find_events(pin_id) == ["published"]


async def test_a_waiting_video_does_not_hold_up_the_other_pins_of_its_account(
    delivery: Delivery, account: Account, server: MediaServer
) -> None:
    delivery.simulator.set_faults("slow_media", seconds=3600)
    video = await delivery.queue(account, image_url=server.serve("/lamp.mp4", VIDEO))
    images = await delivery.queue_many(account, 3)
    async with uploading(delivery) as process:
        await run_until(process, delivery, dict.fromkeys(images, "published"))
    pin = await delivery.find_pin(video)
    assert (pin["state"], pin["deferral_code"]) == ("queued", None)
    assert len(delivery.list_made(account)) == 3


async def test_a_video_that_is_none_fails_its_pin_and_only_that(
    delivery: Delivery, account: Account, server: MediaServer
) -> None:
    video = await delivery.queue(account, image_url=server.serve("/page.mp4", b"<html></html>"))
    image = await delivery.queue(account)
    async with uploading(delivery) as process:
        (pin, _) = await run_until(process, delivery, {video: "failed", image: "published"})
    assert pin["error_code"] == "media_rejected"
    assert await delivery.find_events(video) == ["failed"]


async def test_images_are_sent_as_bytes_and_fetch_failures_defer_or_fail_their_pin(
    delivery: Delivery, account: Account, server: MediaServer
) -> None:
    """The simulator takes no image whose base64 or signature is wrong."""
    unavailable = server.answer("/unavailable.png", answer_status(503))
    deferred = await delivery.queue(account, image_url=unavailable)
    failed = await delivery.queue(account, image_url=server.url("/gone.png"))
    good = await delivery.queue(account, image_url=server.serve("/good.png", PNG))
    async with uploading(delivery, pinterest_image_mode="upload", media_fetch_seconds=2) as process:
        await run_until(process, delivery, {failed: "failed", good: "published"})
    pin = await delivery.find_pin(deferred)
    assert (pin["state"], pin["deferral_code"]) == ("queued", "media_unreachable")
    assert await delivery.find_events(deferred) == ["deferred"]
    assert (await delivery.find_pin(failed))["error_code"] == "media_unreachable"
    assert len(delivery.list_made(account)) == 1


async def test_an_image_at_a_private_address_is_never_sent(
    delivery: Delivery, account: Account, server: MediaServer
) -> None:
    pin_id = await delivery.queue(account, image_url="http://169.254.169.254/latest/key.png")
    async with uploading(delivery, pinterest_image_mode="upload") as process:
        (pin,) = await run_until(process, delivery, {pin_id: "failed"})
    assert pin["error_code"] == "media_unreachable"
    assert delivery.list_made(account) == []
