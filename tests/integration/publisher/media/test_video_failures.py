"""Videos whose source, upload or account fails: what waits, what fails, and what is forbidden."""

from http.server import BaseHTTPRequestHandler

import pytest
from sqlalchemy import text

from services.publisher.delivery.media.rules import MAX_VIDEO_BYTES
from services.publisher.delivery.model import Postponed
from shared.contract.errors import ErrorCode
from shared.postgres.database import Database
from tests.integration.conftest import Workspace
from tests.integration.publisher.media.videos import (
    VideoDelivery,
    delivering_videos,
    require_rejected,
)
from tests.support.media_server import (
    VIDEO,
    MediaServer,
    answer_status,
)
from tests.support.simulator import Simulator

pytestmark = pytest.mark.processes


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"<html>not found</html>", ErrorCode.MEDIA_REJECTED),
        (b"", ErrorCode.MEDIA_REJECTED),
        (None, ErrorCode.MEDIA_UNREACHABLE),
    ],
)
async def test_a_source_that_is_no_video_fails_the_pin(
    videos: VideoDelivery, server: MediaServer, content: bytes | None, code: ErrorCode
) -> None:
    if content is not None:
        server.serve("/page.mp4", content)
    pin = await videos.queue_pin(server.url("/page.mp4"))
    await videos.open(pin)
    await videos.call()
    assert await videos.upload()
    assert (await require_rejected(videos, pin)).code is code


async def test_a_video_that_is_too_large_is_rejected_before_it_is_read(
    videos: VideoDelivery, server: MediaServer
) -> None:
    def promise(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(MAX_VIDEO_BYTES + 1))
        handler.end_headers()
        handler.close_connection = True

    pin = await videos.queue_pin(server.answer("/large.mp4", promise))
    await videos.open(pin)
    await videos.call()
    await videos.upload()
    failure = await require_rejected(videos, pin)
    assert (failure.code, "2048 MiB" in failure.message) == (ErrorCode.MEDIA_REJECTED, True)


async def test_an_unreachable_source_is_tried_again_and_given_up_after_the_last_try(
    videos: VideoDelivery, server: MediaServer
) -> None:
    pin = await videos.queue_pin(server.answer("/lamp.mp4", answer_status(503)))
    await videos.open(pin)
    await videos.call()
    for tries in range(1, 5):
        assert await videos.upload()
        assert (await videos.read_video(pin))["tries"] == tries
        assert not await videos.upload()  # it waits
        await videos.pass_time()
    assert await videos.upload()
    failure = await require_rejected(videos, pin)
    assert failure.code is ErrorCode.MEDIA_UNREACHABLE
    assert "try 5, the last one" in failure.message


async def test_a_source_that_is_good_again_is_uploaded(
    videos: VideoDelivery, server: MediaServer, url: str
) -> None:
    server.answer("/lamp.MP4", answer_status(503))
    pin = await videos.queue_pin(url)
    await videos.open(pin)
    await videos.call()
    await videos.upload()
    del server.answers["/lamp.MP4"]
    await videos.pass_time()
    assert await videos.upload()
    assert await videos.step_of(pin) == "process"


async def test_a_video_at_a_private_address_is_not_fetched(
    database: Database, workspace: Workspace, simulator: Simulator, server: MediaServer
) -> None:
    """The simulator's upload URL is a loopback address all the same: only that one is allowed."""
    async with delivering_videos(
        database, workspace, simulator, media_allowed_networks=""
    ) as videos:
        pin = await videos.queue_pin(server.serve("/lamp.mp4", VIDEO))
        await videos.open(pin)
        await videos.call()
        await videos.upload()
        failure = await require_rejected(videos, pin)
    assert failure.code is ErrorCode.MEDIA_UNREACHABLE
    assert server.requests == []


async def test_an_upload_url_at_a_private_address_is_refused_outside_the_simulation(
    database: Database, workspace: Workspace, simulator: Simulator, server: MediaServer
) -> None:
    async with delivering_videos(
        database,
        workspace,
        simulator,
        pinterest_mode="sandbox",
        pinterest_api_url=simulator.api_url,
    ) as videos:
        pin = await videos.queue_pin(server.serve("/lamp.mp4", VIDEO))
        await videos.open(pin)
        await videos.call()
        assert await videos.upload()
        video = await videos.read_video(pin)
    assert (video["step"], video["registrations"]) == ("register", 1)
    assert "/_uploads" not in [r["path"] for r in simulator.control("GET", "requests")]


async def test_a_used_up_budget_postpones_a_video(videos: VideoDelivery, url: str) -> None:
    pin = await videos.queue_pin(url)
    await videos.open(pin)
    videos.budget.wait_seconds = 30
    with pytest.raises(Postponed):
        await videos.call()
    assert not await videos.call()  # other parts of the turn go on
    videos.budget.wait_seconds = 0
    await videos.pass_time()
    assert await videos.call()


async def test_a_refused_token_is_refreshed_once(videos: VideoDelivery, url: str) -> None:
    pin = await videos.queue_pin(url)
    await videos.open(pin)
    videos.tokens.refreshed, videos.tokens.value = videos.tokens.value, "refused"
    assert await videos.call()
    assert await videos.step_of(pin) == "upload"


@pytest.mark.parametrize(
    ("fault", "code"), [("token", "token_revoked"), ("rate_limit", "rate_limited")]
)
async def test_a_failure_of_the_account_pauses_it_once_and_its_video_waits(
    videos: VideoDelivery, database: Database, url: str, fault: str, code: str
) -> None:
    videos.simulator.set_faults(fault, operation="media/create")
    videos.tokens.refreshed = videos.tokens.value
    pin = await videos.queue_pin(url)
    await videos.open(pin)
    assert await videos.call()
    assert await videos.step_of(pin) == "register"
    assert await read_pause(videos) == code


async def test_a_missing_right_is_reported_and_pauses_the_account(
    videos: VideoDelivery, url: str
) -> None:
    pin = await videos.queue_pin(url)
    await videos.open(pin)
    readable = videos.simulator.get_token(scopes="boards:read,pins:read")
    videos.tokens.value = str(readable["access_token"])
    assert await videos.call()
    assert videos.tokens.reported_version == 1
    assert await read_pause(videos) == "scope_missing"
    assert await videos.step_of(pin) == "register"


async def test_a_paused_account_registers_nothing_but_asks_for_its_videos(
    videos: VideoDelivery, url: str
) -> None:
    new, uploaded = await videos.queue_pin(url), await videos.queue_pin(url)
    await videos.open(uploaded)
    await videos.call()
    await videos.upload()
    await videos.open(new)
    await videos.pass_time()
    await videos.execute(
        "update publisher.delivery_accounts set paused_until = now() + interval '1 hour', "
        "pause_code = 'rate_limited', pause_message = 'x' where account_id = :account",
        account=videos.workspace.account_id,
    )
    assert await videos.call()
    assert not await videos.call()
    assert (await videos.step_of(new), await videos.step_of(uploaded)) == ("register", "ready")


async def test_an_account_that_access_has_given_up_is_paused(
    videos: VideoDelivery, url: str
) -> None:
    pin = await videos.queue_pin(url)
    await videos.open(pin)
    videos.tokens.is_given_up = True
    assert await videos.call()
    assert await read_pause(videos) == "token_revoked"


async def read_pause(videos: VideoDelivery) -> str | None:
    row = await videos._database.fetch_first(
        text(
            "select pause_code from publisher.delivery_accounts where account_id = :id"
        ).bindparams(id=videos.workspace.account_id)
    )
    assert row is not None
    return str(row["pause_code"])
