"""Each answer of Pinterest, and its effect on the pin, its account and the app.

The simulator's own log, never Pinflow's tables, counts the pins that were made.
"""

from http import HTTPStatus
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from services.publisher.delivery.model import AccessToken, AttemptOutcome
from services.publisher.delivery.tokens.failures import (
    AccessAway,
    AccountGivenUp,
    TokenUnavailable,
)
from shared.contract.errors import ErrorCode
from tests.support.delivery.process import Account, Delivery, Process

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def run_until_state(
    process: Process, delivery: Delivery, pin_id: UUID, *states: str
) -> dict[str, Any]:
    async def check() -> bool:
        return (await delivery.find_pin(pin_id))["state"] in states

    await process.run_until(check)
    return await delivery.find_pin(pin_id)


async def run_until_attempts(
    process: Process, delivery: Delivery, pin_id: UUID, count: int
) -> list[dict[str, Any]]:
    """Delivers until the pin has so many attempts with an outcome."""

    async def check() -> bool:
        attempts = await delivery.find_attempts(pin_id)
        return sum(attempt["outcome"] is not None for attempt in attempts) >= count

    await process.run_until(check)
    return await delivery.find_attempts(pin_id)


async def test_a_created_pin_is_published_with_its_id_and_announced_once(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account, title="Brass lamp", link_url="https://shop.example/1")
    async with delivery.running() as process:
        pin = await run_until_state(process, delivery, pin_id, "published")
    (made,) = delivery.list_made(account)
    assert (made["title"], made["link"]) == ("Brass lamp", "https://shop.example/1")
    assert pin["pinterest_pin_id"] == made["id"]
    (attempt,) = await delivery.find_attempts(pin_id)
    assert (attempt["outcome"], attempt["pinterest_pin_id"]) == ("created", made["id"])
    assert await delivery.find_events(pin_id) == ["published"]
    assert delivery.log.settled == [(AttemptOutcome.CREATED, made["id"])]
    assert [attempt.pin_id for attempt in delivery.log.announced] == [pin_id]


async def test_the_intent_is_committed_and_in_kafka_before_the_request_leaves(
    delivery: Delivery, account: Account
) -> None:
    """Invariant: the attempt is committed before the call."""
    pin_id = await delivery.queue(account)
    seen: list[Any] = []

    async def look(_attempt: object) -> None:
        (attempt,) = await delivery.find_attempts(pin_id)
        pin = await delivery.find_pin(pin_id)
        seen.append((attempt["outcome"], pin["state"], delivery.list_made(account)))

    delivery.log.on_announce = look
    async with delivery.running() as process:
        await run_until_state(process, delivery, pin_id, "published")
    assert seen == [(None, "publishing", [])]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("image_small", "media_rejected"),
        ("image_broken", "media_rejected"),
        ("board_deleted", "board_not_found"),
        ("board_refused", "board_access_denied"),
    ],
)
async def test_a_refusal_of_one_pin_fails_it_alone(
    delivery: Delivery, account: Account, kind: str, code: str
) -> None:
    other = delivery.add_account()
    delivery.simulator.set_faults(kind, account_id=account.user_id, count=1)
    pin_id, other_id = await delivery.queue(account), await delivery.queue(other)
    async with delivery.running() as process:
        pin = await run_until_state(process, delivery, pin_id, "failed")
        await run_until_state(process, delivery, other_id, "published")
    assert pin["error_code"] == code
    assert await delivery.find_events(pin_id) == ["failed"]
    (attempt,) = await delivery.find_attempts(pin_id)
    assert attempt["outcome"] == "refused"
    assert delivery.list_made(account) == []
    assert (await delivery.find_account(account))["pause_code"] is None


async def test_a_wrong_field_fails_the_pin_with_pinterests_message(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account, link_url="shop.example")
    async with delivery.running() as process:
        pin = await run_until_state(process, delivery, pin_id, "failed")
    assert pin["error_code"] == "validation_error"
    assert "Invalid URL: link." in pin["error_message"]


async def test_an_image_that_cant_be_fetched_is_tried_again_later(
    delivery: Delivery, account: Account
) -> None:
    delivery.simulator.set_faults("fetch", account_id=account.user_id)
    pin_id = await delivery.queue(account)
    async with delivery.running() as process:
        await run_until_attempts(process, delivery, pin_id, 1)
        pin = await delivery.find_pin(pin_id)
        assert (pin["state"], pin["deferral_code"]) == ("queued", "media_unreachable")
        await delivery.execute("update publisher.pins set deliver_after = now()")
        await delivery.resume(account)
        pin = await run_until_state(process, delivery, pin_id, "published")
    assert pin["deferral_code"] is None
    assert await delivery.find_events(pin_id) == ["deferred", "published"]


async def test_an_image_that_can_never_be_fetched_fails_the_pin(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account)
    async with delivery.running(delivery_fetch_tries=1) as process:
        delivery.simulator.set_faults("fetch", account_id=account.user_id)
        pin = await run_until_state(process, delivery, pin_id, "failed")
    assert pin["error_code"] == "media_unreachable"


@pytest.mark.parametrize("kind", ["cut_before", "error_before"])
async def test_a_lost_answer_is_confirmed_and_the_absent_pin_sent_once_more(
    delivery: Delivery, account: Account, kind: str
) -> None:
    delivery.simulator.set_faults(kind, account_id=account.user_id, count=1)
    pin_id = await delivery.queue(account)
    async with delivery.running() as process:
        await run_until_state(process, delivery, pin_id, "confirming")
        await delivery.pass_deadlines()
        await run_until_state(process, delivery, pin_id, "published")
    assert len(delivery.list_made(account)) == 1
    outcomes = [attempt["outcome"] for attempt in await delivery.find_attempts(pin_id)]
    assert outcomes == ["absent", "created"]


@pytest.mark.parametrize("kind", ["cut_after", "error_after"])
async def test_a_pin_that_was_made_without_an_answer_is_found_and_never_sent_again(
    delivery: Delivery, account: Account, kind: str
) -> None:
    """Invariant: at most once."""
    delivery.simulator.set_faults(kind, account_id=account.user_id)
    pin_id = await delivery.queue(account)
    async with delivery.running() as process:
        await run_until_state(process, delivery, pin_id, "confirming")
        await delivery.pass_deadlines()
        pin = await run_until_state(process, delivery, pin_id, "published")
    (made,) = delivery.list_made(account)
    assert pin["pinterest_pin_id"] == made["id"]
    assert [attempt["outcome"] for attempt in await delivery.find_attempts(pin_id)] == ["found"]
    assert await delivery.find_events(pin_id) == ["published"]


async def test_a_slow_answer_is_lost_before_the_deadline(
    delivery: Delivery, account: Account
) -> None:
    delivery.simulator.set_faults("slow", seconds=3, operation="pins/create", count=1)
    pin_id = await delivery.queue(account)
    async with delivery.running(pinterest_timeout_seconds=0.5) as process:
        await run_until_state(process, delivery, pin_id, "confirming")
        (attempt,) = await delivery.execute(
            "select deadline_at > clock_timestamp() as is_early from publisher.delivery_attempts"
        )
    assert attempt["is_early"]


async def test_a_rate_limit_pauses_the_account_as_long_as_pinterest_says(
    delivery: Delivery, account: Account
) -> None:
    other = delivery.add_account()
    delivery.simulator.set_faults("rate_limit", seconds=300, account_id=account.user_id)
    pin_ids, other_id = await delivery.queue_many(account, 5), await delivery.queue(other)
    async with delivery.running() as process:
        await run_until_attempts(process, delivery, pin_ids[0], 1)
        await run_until_state(process, delivery, other_id, "published")
        await run_until_attempts(process, delivery, pin_ids[0], 1)
    row = await delivery.find_account(account)
    assert row["pause_code"] == "rate_limited"
    assert 290 < row["pause"] <= 300
    (counts,) = await delivery.execute(
        "select count(*) as attempts from publisher.delivery_attempts where outcome = 'refused'"
    )
    assert counts["attempts"] == 1


async def test_spam_blocks_pause_the_account_in_growing_steps_until_a_pin_is_created(
    delivery: Delivery, account: Account
) -> None:
    delivery.simulator.set_faults("spam_block", seconds=600, account_id=account.user_id)
    pin_id = await delivery.queue(account)
    pauses = []
    async with delivery.running() as process:
        for number in range(1, 6):
            await run_until_attempts(process, delivery, pin_id, number)
            pauses.append(round((await delivery.find_account(account))["pause"] / 3600))
            await delivery.resume(account)
        delivery.end_faults()
        await run_until_state(process, delivery, pin_id, "published")
    assert pauses == [1, 4, 12, 24, 24]
    row = await delivery.find_account(account)
    assert (row["pause_code"], row["pause_step"]) == (None, 0)


async def test_a_refused_token_is_refreshed_once_and_the_pin_tried_again(
    delivery: Delivery, account: Account
) -> None:
    delivery.simulator.set_faults("token", account_id=account.user_id, count=1)
    pin_id = await delivery.queue(account)
    async with delivery.running() as process:
        await run_until_state(process, delivery, pin_id, "published")
    assert delivery.tokens.refreshed == [account.id]
    outcomes = [attempt["outcome"] for attempt in await delivery.find_attempts(pin_id)]
    assert outcomes == ["refused", "created"]


async def test_a_dead_token_pauses_the_account_and_fails_no_pin(
    delivery: Delivery, account: Account
) -> None:
    """Invariant: a dead token never fails a thousand pins."""
    delivery.simulator.set_faults("token", account_id=account.user_id)
    delivery.tokens.given_up.add(account.id)
    pin_ids = await delivery.queue_many(account, 100)

    async def is_paused() -> bool:
        row = await delivery.execute(
            "select pause_code from publisher.delivery_accounts where pause_code = 'token_revoked'"
        )
        return bool(row)

    async with delivery.running() as process:
        await process.run_until(is_paused)
    states = await delivery.execute("select distinct state from publisher.pins")
    assert [row["state"] for row in states] == ["queued"]
    assert len(await delivery.find_attempts(pin_ids[0])) == 1


async def test_a_token_that_is_refused_after_its_refresh_pauses_the_account(
    delivery: Delivery, account: Account
) -> None:
    delivery.simulator.set_faults("token", account_id=account.user_id)
    pin_id = await delivery.queue(account)
    async with delivery.running() as process:
        await run_until_attempts(process, delivery, pin_id, 2)
        row = await delivery.find_account(account)
    assert row["pause_code"] == "token_revoked"
    assert 50 < row["pause"] <= 60


async def test_an_account_that_access_gave_up_is_asked_for_again_after_a_minute(
    delivery: Delivery, account: Account
) -> None:
    delivery.tokens.failure = AccountGivenUp(
        ErrorCode.ACCOUNT_REVOKED, "Connect it.", HTTPStatus.CONFLICT
    )
    pin_id = await delivery.queue(account)

    async def is_paused() -> bool:
        row = await delivery.execute(
            "select pause_code from publisher.delivery_accounts where pause_code = 'token_revoked'"
        )
        return bool(row)

    async with delivery.running() as process:
        await process.run_until(is_paused)
        assert await delivery.find_attempts(pin_id) == []
        assert 50 < (await delivery.find_account(account))["pause"] <= 60
        delivery.tokens.failure = None
        await delivery.resume(account)
        await run_until_state(process, delivery, pin_id, "published")
    assert (await delivery.find_account(account))["pause_code"] is None


async def test_an_app_with_trial_access_pauses_all_accounts_and_one_pin_asks_again(
    delivery: Delivery,
) -> None:
    accounts = [delivery.add_account() for _ in range(5)]
    delivery.simulator.set_faults("trial_app")
    pin_ids = [await delivery.queue(account) for account in accounts]

    async def count_attempts() -> int:
        (row,) = await delivery.execute(
            "select count(*) as n from publisher.delivery_attempts where outcome = 'refused'"
        )
        return int(row["n"])

    async def was_asked_again() -> bool:
        app = await delivery.find_app()
        return await count_attempts() == first + 1 and app["pause"] > 500

    async def is_paused() -> bool:
        return bool((await delivery.find_app())["pause_code"] == "app_not_approved")

    async with delivery.running(delivery_concurrency=1) as process:
        await process.run_until(is_paused)
        first = await count_attempts()
        await delivery.resume_app()
        await process.run_until(was_asked_again)
        delivery.end_faults()
        await delivery.resume_app()
        for pin_id in pin_ids:
            await run_until_state(process, delivery, pin_id, "published")
    assert (await delivery.find_app())["pause_code"] is None


async def test_an_unreachable_pinterest_pauses_all_accounts_and_grows_only_with_probes(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account)
    await delivery.tokens.get(account.id)

    async def is_paused() -> bool:
        return bool((await delivery.find_app())["pause_code"] == "pinterest_unavailable")

    async with delivery.running(pinterest_api_url="http://127.0.0.1:9/v5") as process:
        await process.run_until(is_paused)
        app = await delivery.find_app()
        assert (app["pause_step"], app["pause"] <= 5) == (1, True)
        await delivery.resume_app()
        await delivery.resume(account)
        await run_until_attempts(process, delivery, pin_id, 2)
        assert (await delivery.find_app())["pause_step"] == 2
    attempts = await delivery.find_attempts(pin_id)
    assert {attempt["outcome"] for attempt in attempts} == {"not_sent"}
    await delivery.resume_app()
    await delivery.resume(account)
    async with delivery.running() as process:
        await run_until_state(process, delivery, pin_id, "published")
    assert (await delivery.find_app())["pause_code"] is None


async def test_an_access_service_that_is_away_pauses_all_accounts(
    delivery: Delivery, account: Account
) -> None:
    delivery.tokens.failure = AccessAway("no answer")
    pin_id = await delivery.queue(account)

    async def is_paused() -> bool:
        return bool((await delivery.find_app())["pause_code"] == "pinterest_unavailable")

    async with delivery.running() as process:
        await process.run_until(is_paused)
    assert await delivery.find_attempts(pin_id) == []


async def test_an_account_without_an_answer_about_its_token_pauses_alone(
    delivery: Delivery, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    get_token = delivery.tokens.get

    async def answer_others(account_id: UUID) -> AccessToken:
        if account_id == account.id:
            raise TokenUnavailable("no answer in time")
        return await get_token(account_id)

    monkeypatch.setattr(delivery.tokens, "get", answer_others)
    await delivery.queue(account)
    other_id = await delivery.queue(delivery.add_account())

    async def is_paused() -> bool:
        rows = await delivery.execute(
            "select account_id from publisher.delivery_accounts where account_id = %(id)s "
            "and pause_code = 'pinterest_unavailable'",
            id=account.id,
        )
        return bool(rows)

    async with delivery.running() as process:
        with capture_logs() as logs:
            await process.run_until(is_paused)
        await run_until_state(process, delivery, other_id, "published")
    assert (await delivery.find_app())["pause_code"] is None
    causes = [entry["error"] for entry in logs if entry["event"] == "token_unavailable"]
    assert causes == ["no answer in time"]


async def test_a_missing_right_pauses_the_account_and_is_reported(
    delivery: Delivery, account: Account
) -> None:
    token = delivery.simulator.get_token(account.user_id, "boards:read,pins:read,boards:write")
    delivery.tokens.values[account.id] = token["access_token"]
    pin_id = await delivery.queue(account)
    async with delivery.running() as process:
        await run_until_attempts(process, delivery, pin_id, 1)

        async def is_reported() -> bool:
            return delivery.tokens.scope_missing == [account.id]

        await process.run_until(is_reported)
    row = await delivery.find_account(account)
    assert row["pause_code"] == "scope_missing"
    assert (await delivery.find_pin(pin_id))["state"] == "queued"
