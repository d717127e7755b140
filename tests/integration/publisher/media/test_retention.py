"""Old videos and attempts are deleted."""

from typing import Any

import pytest
from sqlalchemy import text

from services.publisher.delivery.retention import DeliveryCleaner
from shared.postgres.database import Database
from tests.integration.publisher.media.videos import VideoDelivery

pytestmark = pytest.mark.processes


async def test_old_videos_and_attempts_are_deleted_unless_a_pin_waits_for_them(
    videos: VideoDelivery, database: Database, url: str
) -> None:
    waiting, failed = await videos.queue_pin(url), await videos.queue_pin(url)
    for pin in (waiting, failed):
        await videos.open(pin)
        for number, days in ((1, 91), (2, 89)):
            await insert_settled_attempt(videos, pin, number, days)
    await videos.execute(
        "update publisher.pins set state = 'failed', failed_at = now(), error_code = 'x' "
        "where pin_id = :id",
        id=failed["pin_id"],
    )
    await videos.execute(
        "update publisher.delivery_media set changed_at = now() - interval '2 days'"
    )
    retention = DeliveryCleaner(database, videos.parts.video_calls._videos)
    assert await retention.delete_old() >= 2

    numbers = {pin["pin_id"]: await list_attempts(database, pin) for pin in (waiting, failed)}
    assert numbers == {waiting["pin_id"]: [1, 2], failed["pin_id"]: [2]}
    assert await videos.step_of(waiting) == "register"
    with pytest.raises(AssertionError):
        await videos.read_video(failed)


async def insert_settled_attempt(
    videos: VideoDelivery, pin: dict[str, Any], number: int, days: int
) -> None:
    await videos.execute(
        """
        insert into publisher.delivery_attempts (
            attempt_id, pin_id, number, workspace_id, account_id, mode, fence, board_id, compared,
            texts, deadline_at, outcome, settled_at
        ) values (
            gen_random_uuid(), :pin, :number, :workspace, :account, 'simulated', 1, '1',
            gen_random_uuid(), '{}', now(), 'refused', now() - :days * interval '1 day'
        )
        """,
        pin=pin["pin_id"],
        number=number,
        workspace=pin["workspace_id"],
        account=pin["account_id"],
        days=days,
    )


async def list_attempts(database: Database, pin: dict[str, Any]) -> list[int]:
    rows = await database.fetch_all(
        text(
            "select number from publisher.delivery_attempts where pin_id = :id order by number"
        ).bindparams(id=pin["pin_id"])
    )
    return [row["number"] for row in rows]
