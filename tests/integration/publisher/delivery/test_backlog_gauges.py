"""Checks which pins the metrics count as queued, uploading and deferred, and how pauses last."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from services.publisher.delivery import backlog_gauges
from services.publisher.delivery.accounts.statements import (
    lock_pause,
    pause_account,
    resume_account,
)
from services.publisher.delivery.backlog_gauges import BacklogGauges
from services.publisher.delivery.media.rules import KEPT_SECONDS, OVERDUE_SECONDS
from services.publisher.delivery.model import Pause
from shared.postgres.database import driver_connection
from tests.support.delivery.process import Account, Delivery

pytestmark = pytest.mark.asyncio(loop_scope="module")

DEFER = (
    "update publisher.pins set deferral_code = 'media_unreachable', "
    "deliver_after = clock_timestamp() + %(seconds)s * interval '1 second', "
    "created_at = created_at - interval '2 hours' where pin_id = %(pin_id)s"
)
VIDEO_URL = "https://videos.example.com/lamp.mp4"
INSERT_VIDEO = """
    insert into publisher.delivery_media (
        pin_id, workspace_id, account_id, mode, source_url, step, media_id, upload_url,
        upload_parameters, next_at
    )
    select pin_id, workspace_id, account_id, 'simulated', image_url, %(step)s::text, '1',
        case %(step)s::text when 'upload' then 'https://uploads.example.com/' end,
        case %(step)s::text when 'upload' then '{}'::json end,
        clock_timestamp() + %(seconds)s * interval '1 second'
    from publisher.pins where pin_id = %(pin_id)s
"""
LET_WAIT = (
    "update publisher.pins set deliver_after = clock_timestamp() + %(seconds)s * interval "
    "'1 second' where pin_id = %(pin_id)s"
)
MINUTE, HOUR = 60.0, 3600.0
OVERDUE = -OVERDUE_SECONDS - 60
RUNNING = KEPT_SECONDS - 10


async def measure(delivery: Delivery) -> None:
    await BacklogGauges(delivery.database, "simulated").measure()


def count(state: str) -> float | None:
    return REGISTRY.get_sample_value("pinflow_delivery_pins", {"state": state})


def find_oldest(state: str) -> float:
    return REGISTRY.get_sample_value("pinflow_delivery_oldest_seconds", {"state": state}) or 0.0


async def test_a_pin_that_is_deferred_by_itself_is_neither_queued_nor_late(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account)
    await delivery.execute(DEFER, pin_id=pin_id, seconds=3600)
    await measure(delivery)
    assert (count("queued"), count("deferred")) == (0, 1)
    assert find_oldest("queued") == 0
    assert find_oldest("deferred") >= 7200


async def test_the_other_pins_of_its_account_stay_queued(
    delivery: Delivery, account: Account
) -> None:
    (deferred, *_others) = await delivery.queue_many(account, 3)
    await delivery.execute(DEFER, pin_id=deferred, seconds=3600)
    await measure(delivery)
    assert (count("queued"), count("deferred")) == (2, 1)
    assert find_oldest("queued") < 3600


async def test_a_pin_is_queued_again_when_its_deferral_has_ended(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account)
    await delivery.execute(DEFER, pin_id=pin_id, seconds=-1)
    await measure(delivery)
    assert (count("queued"), count("deferred")) == (1, 0)


async def queue_video(
    delivery: Delivery, account: Account, step: str, *, next_in: float, pin_waits: float = 600
) -> UUID:
    """Queues a pin that waits for its video. Its next step is due in `next_in` seconds."""
    await delivery.execute(
        "delete from publisher.delivery_media where pin_id not in ("
        "select pin_id from publisher.pins)"
    )
    pin_id = await delivery.queue(account, image_url=VIDEO_URL)
    await delivery.execute(INSERT_VIDEO, pin_id=pin_id, step=step, seconds=next_in)
    await delivery.execute(LET_WAIT, pin_id=pin_id, seconds=pin_waits)
    return pin_id


@pytest.mark.parametrize(
    ("step", "next_in"),
    [("upload", RUNNING), ("upload", 3600), ("process", 600), ("process", -1), ("register", -1)],
)
async def test_a_pin_is_not_queued_while_its_video_makes_progress(
    delivery: Delivery, account: Account, step: str, next_in: float
) -> None:
    await queue_video(delivery, account, step, next_in=next_in)
    await measure(delivery)
    assert (count("queued"), count("uploading"), count("deferred")) == (0, 1, 0)


@pytest.mark.parametrize("step", ["register", "upload", "process"])
async def test_a_pin_is_queued_again_when_nobody_works_at_its_video(
    delivery: Delivery, account: Account, step: str
) -> None:
    await queue_video(delivery, account, step, next_in=OVERDUE)
    await measure(delivery)
    assert (count("queued"), count("uploading")) == (1, 0)


async def test_an_upload_makes_progress_while_it_waits_for_its_turn_behind_another(
    delivery: Delivery, account: Account
) -> None:
    await queue_video(delivery, account, "upload", next_in=RUNNING)
    await queue_video(delivery, account, "upload", next_in=OVERDUE)
    await measure(delivery)
    assert (count("queued"), count("uploading")) == (0, 2)


async def test_an_upload_that_waits_to_be_repeated_hides_no_overdue_one(
    delivery: Delivery, account: Account
) -> None:
    await queue_video(delivery, account, "upload", next_in=3600)
    await queue_video(delivery, account, "upload", next_in=OVERDUE)
    await measure(delivery)
    assert (count("queued"), count("uploading")) == (1, 1)


async def test_a_pin_is_queued_when_its_video_is_ready(
    delivery: Delivery, account: Account
) -> None:
    await queue_video(delivery, account, "ready", next_in=-1, pin_waits=-1)
    await measure(delivery)
    assert (count("queued"), count("uploading")) == (1, 0)


async def test_a_pin_is_queued_when_no_turn_looks_at_its_video_any_more(
    delivery: Delivery, account: Account
) -> None:
    await queue_video(delivery, account, "upload", next_in=RUNNING, pin_waits=OVERDUE)
    await measure(delivery)
    assert (count("queued"), count("uploading")) == (1, 0)


async def test_a_due_pin_beside_a_video_stays_queued(delivery: Delivery, account: Account) -> None:
    await queue_video(delivery, account, "upload", next_in=RUNNING)
    await delivery.queue(account)
    await measure(delivery)
    assert (count("queued"), count("uploading")) == (1, 1)


async def test_a_video_of_a_paused_account_is_deferred(
    delivery: Delivery, account: Account
) -> None:
    await queue_video(delivery, account, "upload", next_in=RUNNING)
    await delivery.execute(
        "insert into publisher.delivery_accounts "
        "(account_id, workspace_id, paused_until, pause_code, pause_message) "
        "values (%(account)s, %(workspace)s, now() + interval '1 hour', 'rate_limited', 'x')",
        account=account.id,
        workspace=account.workspace_id,
    )
    await measure(delivery)
    assert (count("uploading"), count("deferred")) == (0, 1)


async def pause(
    delivery: Delivery, account: Account, seconds: float, code: str = "rate_limited"
) -> None:
    await delivery.execute(
        "insert into publisher.delivery_accounts (account_id, workspace_id) "
        "values (%(account)s, %(workspace)s) on conflict do nothing",
        account=account.id,
        workspace=account.workspace_id,
    )
    async with delivery.database.transaction() as connection:
        driver = await driver_connection(connection)
        now, _ = await lock_pause(driver, account.id)
        until = now + timedelta(seconds=seconds)
        await pause_account(driver, account.id, Pause(until, code, "Pinterest limits it."))


async def pass_time(delivery: Delivery, seconds: float) -> None:
    """Moves all pauses into the past."""
    await delivery.execute(
        "update publisher.delivery_accounts "
        "set paused_until = paused_until - %(seconds)s * interval '1 second', "
        "paused_since = paused_since - %(seconds)s * interval '1 second'",
        seconds=seconds,
    )


def find_longest_pause(code: str = "rate_limited") -> float | None:
    return REGISTRY.get_sample_value("pinflow_delivery_longest_pause_seconds", {"code": code})


async def test_short_pauses_of_different_accounts_are_no_long_pause(delivery: Delivery) -> None:
    for _ in range(3):
        await pause(delivery, delivery.add_account(), MINUTE)
        await measure(delivery)
        assert (find_longest_pause() or 0) < MINUTE
        await pass_time(delivery, HOUR)


async def test_pauses_of_one_account_that_fails_after_each_are_one_long_pause(
    delivery: Delivery, account: Account
) -> None:
    for _ in range(3):
        await pause(delivery, account, HOUR)
        await pass_time(delivery, HOUR + MINUTE)
    await measure(delivery)
    assert (find_longest_pause() or 0) >= 3 * HOUR


async def test_an_account_that_rests_longer_than_its_pauses_is_paused_between_its_tries(
    delivery: Delivery, account: Account
) -> None:
    for _ in range(3):
        await pause(delivery, account, MINUTE)
        await delivery.execute(
            "update publisher.delivery_accounts "
            "set served_at = now(), next_at = now() + interval '1 hour'"
        )
        await pass_time(delivery, HOUR)
        await measure(delivery)
        assert (find_longest_pause() or 0) >= HOUR
    assert (find_longest_pause() or 0) >= 3 * HOUR


async def test_a_pause_is_over_after_a_success(delivery: Delivery, account: Account) -> None:
    await pause(delivery, account, HOUR)
    await pass_time(delivery, HOUR)
    async with delivery.database.transaction() as connection:
        await resume_account(await driver_connection(connection), account.id)
    await measure(delivery)
    assert find_longest_pause() is None
    await pause(delivery, account, HOUR)
    await measure(delivery)
    assert (find_longest_pause() or 0) < MINUTE


async def test_a_pause_of_an_account_without_pins_ends_with_its_time(
    delivery: Delivery, account: Account
) -> None:
    await pause(delivery, account, HOUR)
    await pass_time(delivery, 2 * HOUR)
    await measure(delivery)
    assert find_longest_pause() is None
    await pause(delivery, account, HOUR)
    await measure(delivery)
    assert (find_longest_pause() or 0) < MINUTE


async def test_a_pause_that_follows_a_used_up_day_is_a_new_one(
    delivery: Delivery, account: Account
) -> None:
    await pause(delivery, account, 20 * HOUR, "quota_exceeded")
    await pass_time(delivery, 20 * HOUR)
    await pause(delivery, account, HOUR)
    await measure(delivery)
    assert find_longest_pause() is not None
    assert (find_longest_pause() or 0) < MINUTE


async def test_a_pause_for_another_cause_continues_the_last_one(
    delivery: Delivery, account: Account
) -> None:
    await pause(delivery, account, HOUR, "pinterest_unavailable")
    await pass_time(delivery, HOUR)
    await pause(delivery, account, HOUR)
    await measure(delivery)
    assert (find_longest_pause() or 0) >= HOUR


def list_nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from list_nodes(child)


async def test_queued_pins_are_counted_from_an_index_alone(
    delivery: Delivery, account: Account
) -> None:
    await delivery.queue_many(account, 500)
    # Otherwise Postgres reads so small a table as a whole
    await delivery.execute("set enable_seqscan = off; set enable_bitmapscan = off")
    (row,) = await delivery.execute(
        f"explain (format json) {backlog_gauges._MEASURE}", mode="simulated"
    )
    nodes = list(list_nodes(row["QUERY PLAN"][0]["Plan"]))
    scans = {node.get("Index Name"): node["Node Type"] for node in nodes}
    assert scans["pins_queue"] == "Index Only Scan"
    assert "pins_deferred" in scans
