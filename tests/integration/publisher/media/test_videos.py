"""Videos are uploaded to the simulator in persisted steps, none of which makes a double."""

import asyncio
import socket
import threading
import tracemalloc
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any
from uuid import uuid4

import pytest

from services.publisher.delivery.creating.pin_document import build_pin_document
from services.publisher.delivery.media.video import record_failure
from services.publisher.delivery.media_failures import MediaPending, MediaRejected
from shared.contract.errors import ErrorCode
from shared.http.checked_connections import Resolver
from shared.pinterest.model import Category
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.integration.publisher.media.videos import (
    VideoDelivery,
    delivering_videos,
    require_ready,
    require_rejected,
)
from tests.support.media_server import (
    PNG,
    VIDEO,
    MediaServer,
    send_chunked,
)
from tests.support.simulator import Simulator
from tests.support.waiting import eventually

pytestmark = pytest.mark.processes


async def test_a_video_is_registered_uploaded_awaited_and_then_part_of_a_pin(
    videos: VideoDelivery, url: str
) -> None:
    pin = await videos.queue_pin(url)
    assert not await videos.call()  # nothing is asked for yet

    assert isinstance(await videos.open(pin), MediaPending)
    assert await videos.step_of(pin) == "register"
    assert await videos.call()
    assert await videos.step_of(pin) == "upload"
    assert not await videos.call()  # the account's turns go on without it
    assert await videos.upload()
    video = await videos.read_video(pin)
    assert (video["step"], video["upload_parameters"]) == ("process", None)
    assert not await videos.call()  # it waits
    await videos.pass_time()
    assert await videos.call()

    source = await require_ready(videos, pin)
    assert source == {
        "source_type": "video_id",
        "media_id": video["media_id"],
        "cover_image_key_frame_time": 0,
    }
    assert videos.budget.taken == [Category.WRITE, Category.READ]
    assert videos.media_calls() == ["media/create", "media/get"]
    board = next(a for a in videos.simulator.list_accounts() if a["username"] == "rosa")
    document = build_pin_document({**pin, "board_id": board["boards"][0]}, source, None)
    answer = videos.simulator.call("POST", "/pins", videos.tokens.value, json=document)
    assert answer.status_code == 201, answer.text


async def test_a_ready_or_failed_video_makes_its_pin_due_at_once(
    videos: VideoDelivery, server: MediaServer, url: str
) -> None:
    ready = await videos.queue_pin(url)
    await videos.open(ready)
    await videos.execute(
        "update publisher.pins set deliver_after = now() + interval '1 hour' where pin_id = :id",
        id=ready["pin_id"],
    )
    await videos.get_ready(ready)
    assert (await videos.read_pin(ready["pin_id"]))["deliver_after"] is None

    failed = await videos.queue_pin(server.url("/missing.mov"))
    await videos.open(failed)
    await videos.execute(
        "update publisher.pins set deliver_after = now() + interval '1 hour' where pin_id = :id",
        id=failed["pin_id"],
    )
    await videos.call()
    await videos.upload()
    assert (await videos.read_pin(failed["pin_id"]))["deliver_after"] is None


async def test_a_cover_is_sent_with_a_video_and_not_with_an_image(
    videos: VideoDelivery, url: str, server: MediaServer
) -> None:
    cover = "https://pictures.example/cover.png"
    pin = await videos.queue_pin(url, cover_image_url=cover)
    await videos.get_ready(pin)
    source = await require_ready(videos, pin)
    assert source["cover_image_url"] == cover
    assert "cover_image_key_frame_time" not in source

    image = await videos.queue_pin(server.serve("/a.png", PNG), cover_image_url=cover)
    assert await videos.open(image) == {"source_type": "image_url", "url": image["image_url"]}
    assert server.requests == ["/lamp.MP4"]  # Pinterest fetches the image itself


async def test_images_are_uploaded_if_the_operator_wants_it(
    database: Database, workspace: Workspace, simulator: Simulator, server: MediaServer
) -> None:
    async with delivering_videos(
        database, workspace, simulator, pinterest_image_mode="upload"
    ) as videos:
        pin = await videos.queue_pin(server.serve("/a", PNG))
        source = await require_ready(videos, pin)
        account = next(a for a in simulator.list_accounts() if a["username"] == "rosa")
        document = build_pin_document({**pin, "board_id": account["boards"][0]}, source, None)
        answer = simulator.call("POST", "/pins", videos.tokens.value, json=document)
    assert answer.status_code == 201, answer.text


async def test_slow_name_servers_hold_up_no_other_image(
    database: Database,
    workspace: Workspace,
    simulator: Simulator,
    server: MediaServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()

    def look_up(host: str, *arguments: Any, **options: Any) -> Any:
        if host.endswith(".slow.example"):
            release.wait(30)
            raise OSError
        return socket.getaddrinfo(host, *arguments, **options)

    monkeypatch.setattr(
        "services.publisher.delivery.media.parts.Resolver", partial(Resolver, lookup=look_up)
    )
    async with delivering_videos(
        database, workspace, simulator, pinterest_image_mode="upload", media_fetch_seconds=5
    ) as videos:
        urls = [f"http://{number}.slow.example/a.png" for number in range(40)]
        slow = [
            asyncio.create_task(videos.open(pin))
            for pin in [await videos.queue_pin(url) for url in urls]
        ]
        try:
            await require_ready(videos, await videos.queue_pin(server.serve("/a", PNG)))
        finally:
            release.set()
            await asyncio.gather(*slow)


async def test_a_slow_video_is_asked_for_at_growing_intervals(
    videos: VideoDelivery, url: str
) -> None:
    videos.simulator.set_faults("slow_media", seconds=3600)
    pin = await videos.queue_pin(url)
    await videos.get_ready(pin)
    waits = []
    for _ in range(3):
        video = await videos.read_video(pin)
        assert video["step"] == "process"
        waits.append((video["next_at"] - video["changed_at"]).total_seconds())
        await videos.pass_time()
        assert await videos.call()
    assert waits == sorted(waits)
    assert waits[0] < waits[2]
    assert isinstance(await videos.open(pin), MediaPending)


async def test_a_failed_video_is_registered_anew_three_times_at_most(
    videos: VideoDelivery, url: str
) -> None:
    videos.simulator.set_faults("failed_media")
    pin = await videos.queue_pin(url)
    await videos.open(pin)
    media_ids = set()
    for _ in range(3):
        await videos.pass_time()
        assert await videos.call()
        media_ids.add((await videos.read_video(pin))["media_id"])
        await videos.pass_time()
        assert await videos.upload()
        await videos.pass_time()
        assert await videos.call()

    assert len(media_ids) == 3
    failure = await require_rejected(videos, pin)
    assert failure.code is ErrorCode.MEDIA_REJECTED
    assert "3 uploads" in failure.message
    # The pin fails. When its user retries it, everything begins anew
    videos.simulator.control("POST", "faults", {"kind": "none"})
    await videos.get_ready(pin)
    await require_ready(videos, pin)


async def test_one_failed_video_is_followed_by_a_good_one(videos: VideoDelivery, url: str) -> None:
    videos.simulator.set_faults("failed_media", count=1)
    pin = await videos.queue_pin(url)
    await videos.get_ready(pin)
    assert await videos.step_of(pin) == "register"
    await videos.pass_time()
    await videos.get_ready(pin)
    await require_ready(videos, pin)


async def test_a_crash_at_any_step_repeats_it_without_harm(videos: VideoDelivery, url: str) -> None:
    """Checks that a taken step is not free until its wait ends, and is then done again."""
    pin = await videos.queue_pin(url)
    await videos.open(pin)
    repository = videos.parts.video_calls._videos
    account_id = videos.workspace.account_id

    lost = await repository.take_call(account_id, 60)  # dies before or after POST /media
    assert lost is not None
    assert not await videos.call()
    await videos.pass_time()
    assert await videos.call()

    assert await repository.take_upload(60) is not None  # dies during the upload
    assert not await videos.upload()
    await videos.pass_time()
    assert await videos.upload()

    await videos.pass_time()
    assert await repository.take_call(account_id, 60) is not None  # dies during GET /media
    await videos.pass_time()
    assert await videos.call()
    await require_ready(videos, pin)
    assert videos.media_calls() == ["media/create", "media/get"]


async def test_a_lost_registration_costs_a_write_and_no_double(
    videos: VideoDelivery, url: str
) -> None:
    videos.simulator.set_faults("cut_after", operation="media/create", count=1)
    pin = await videos.queue_pin(url)
    await videos.open(pin)
    assert await videos.call()
    assert await videos.step_of(pin) == "register"
    await videos.pass_time()
    await videos.get_ready(pin)
    await require_ready(videos, pin)
    assert (await videos.read_video(pin))["registrations"] == 1


async def test_a_late_answer_changes_nothing(videos: VideoDelivery, url: str) -> None:
    """The result of an upload that another process has taken over, and ended."""
    pin = await videos.queue_pin(url)
    await videos.open(pin)
    await videos.call()
    repository = videos.parts.video_calls._videos
    stalled = await repository.take_upload(0)
    assert stalled is not None
    assert await videos.upload()
    assert not await repository.change(stalled, record_failure(MediaRejected("late")))
    assert await videos.step_of(pin) == "process"


async def test_a_medium_that_pinterest_no_longer_knows_is_uploaded_anew(
    videos: VideoDelivery, url: str
) -> None:
    pin = await videos.queue_pin(url)
    await videos.get_ready(pin)
    old = await require_ready(videos, pin)
    videos.simulator.control("POST", "reset")
    videos.tokens.value = str(videos.simulator.get_token()["access_token"])
    await videos.execute(
        "update publisher.delivery_media set ready_at = now() - interval '2 hours' "
        "where pin_id = :id",
        id=pin["pin_id"],
    )

    assert isinstance(await videos.open(pin), MediaPending)  # asks again first
    assert await videos.call()
    assert await videos.step_of(pin) == "register"
    await videos.pass_time()
    await videos.get_ready(pin)
    assert (await require_ready(videos, pin))["media_id"] != old["media_id"]


async def test_an_old_medium_that_pinterest_still_knows_is_used(
    videos: VideoDelivery, url: str
) -> None:
    pin = await videos.queue_pin(url)
    await videos.get_ready(pin)
    first = await require_ready(videos, pin)
    await videos.execute(
        "update publisher.delivery_media set ready_at = now() - interval '2 hours' "
        "where pin_id = :id",
        id=pin["pin_id"],
    )
    assert isinstance(await videos.open(pin), MediaPending)
    assert await videos.call()
    assert await require_ready(videos, pin) == first


async def test_a_changed_pin_gets_its_new_video(
    videos: VideoDelivery, server: MediaServer, url: str
) -> None:
    pin = await videos.queue_pin(url)
    await videos.get_ready(pin)
    first = await require_ready(videos, pin)
    await videos.execute(
        "update publisher.pins set image_url = :url where pin_id = :id",
        url=server.serve("/other.m4v", VIDEO + b"other"),
        id=pin["pin_id"],
    )
    assert isinstance(await videos.open(pin), MediaPending)
    await videos.get_ready(pin)
    assert (await require_ready(videos, pin))["media_id"] != first["media_id"]


@pytest.mark.parametrize("change", ["state = 'cancelled', run_at = now()", "deleted_at = now()"])
async def test_nothing_is_done_for_a_pin_that_is_gone(
    videos: VideoDelivery, url: str, change: str
) -> None:
    if "cancelled" in change:
        change += ", deliver_after = null"
    pin = await videos.queue_pin(url)
    await videos.open(pin)
    await videos.execute(f"update publisher.pins set {change} where pin_id = :id", id=pin["pin_id"])
    assert not await videos.call()
    assert videos.media_calls() == []


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "10"}])
async def test_a_video_without_a_valid_length_is_uploaded_from_a_temporary_file(
    videos: VideoDelivery, server: MediaServer, headers: dict[str, str]
) -> None:
    chunks = [VIDEO[:5], VIDEO[5:9], VIDEO[9:]]
    answer = send_chunked(*chunks, **headers)
    pin = await videos.queue_pin(server.answer("/lamp.mov", answer))
    await videos.get_ready(pin)
    await require_ready(videos, pin)


async def test_a_large_video_is_streamed_and_never_in_memory(
    videos: VideoDelivery, server: MediaServer
) -> None:
    megabyte, count = b"x" * (1024 * 1024), 48

    def stream(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(VIDEO) + len(megabyte) * count))
        handler.end_headers()
        handler.wfile.write(VIDEO)
        for _ in range(count):
            handler.wfile.write(megabyte)

    pin = await videos.queue_pin(server.answer("/large.mp4", stream))
    await videos.open(pin)
    await videos.call()
    tracemalloc.start()
    try:
        assert await videos.upload()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert await videos.step_of(pin) == "process"
    assert peak < 4 * 1024 * 1024


async def test_an_upload_stops_when_its_pin_is_deleted(
    videos: VideoDelivery, server: MediaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.publisher.delivery.media.uploading.KEEP_SECONDS", 0.05)
    reached, release = threading.Event(), threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        reached.set()
        release.wait(30)

    pin = await videos.queue_pin(server.answer("/lamp.mp4", stall))
    await videos.open(pin)
    await videos.call()
    upload = asyncio.create_task(videos.upload())
    try:
        assert await asyncio.to_thread(reached.wait, 10)
        await videos.execute(
            "update publisher.pins set deleted_at = now() where pin_id = :id", id=pin["pin_id"]
        )
        async with asyncio.timeout(10):
            assert await upload
    finally:
        release.set()
    assert await videos.step_of(pin) == "upload"


async def test_slow_sources_of_one_workspace_leave_a_place_for_another(
    videos: VideoDelivery, server: MediaServer, url: str
) -> None:
    release = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        release.wait(30)
        handler.close_connection = True

    for path in ("/1.mp4", "/2.mp4", "/3.mp4"):
        await videos.open(await videos.queue_pin(server.answer(path, stall)))
        assert await videos.call()
    other = replace(videos.lease, account_id=uuid4(), workspace_id=uuid4())
    pin = await videos.queue_pin(url, account_id=other.account_id, workspace_id=other.workspace_id)
    await videos.open(pin)
    assert await videos.parts.video_calls.run(other)
    slow = [asyncio.ensure_future(task._run_once()) for task in videos.parts.uploads[:2]]
    try:
        await eventually(lambda: len(server.requests) == len(slow))
        async with asyncio.timeout(10):
            assert await videos.parts.uploads[2]._run_once()
        assert await videos.step_of(pin) == "process"
    finally:
        release.set()
        await asyncio.gather(*slow)


async def test_an_asset_is_rejected(videos: VideoDelivery) -> None:
    asset_id = "0190a8a2-0000-7000-8000-000000000001"
    pin = await videos.queue_pin("https://pictures.example/a.png", asset_id=asset_id)
    failure = await require_rejected(videos, pin)
    assert failure.code is ErrorCode.MEDIA_REJECTED
    assert failure.message.startswith("Pinflow stores no assets")
