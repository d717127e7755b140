"""An account pauses after consecutive lost answers, so that few of its pins are in doubt."""

from typing import Any

import pytest

from tests.support.delivery.process import Account, Delivery, Process

pytestmark = pytest.mark.asyncio(loop_scope="module")

PINS = 12


async def count_pins(delivery: Delivery, account: Account, state: str) -> int:
    (row,) = await delivery.execute(
        "select count(*) as n from publisher.pins where account_id = %(id)s and state = %(state)s",
        id=account.id,
        state=state,
    )
    return int(row["n"])


async def run_until_count(
    process: Process, delivery: Delivery, account: Account, state: str, count: int
) -> None:
    async def check() -> bool:
        return await count_pins(delivery, account, state) == count

    await process.run_until(check)


async def find_lost(delivery: Delivery, account: Account) -> list[dict[str, Any]]:
    return await delivery.execute(
        "select * from publisher.delivery_attempts "
        "where account_id = %(id)s and (outcome is null or outcome = 'absent')",
        id=account.id,
    )


@pytest.mark.parametrize("kind", ["error_before", "cut_before"])
async def test_a_long_outage_leaves_few_pins_in_doubt_and_makes_each_pin_once(
    delivery: Delivery, account: Account, kind: str
) -> None:
    """Invariant: at most once, also after consecutive lost answers."""
    other = delivery.add_account()
    delivery.simulator.set_faults(kind, account_id=account.user_id)
    await delivery.queue_many(account, PINS)
    await delivery.queue_many(other, 3 * PINS)
    async with delivery.running() as process:
        for tries, seconds in enumerate((30, 60, 120), start=3):

            async def is_lost(expected: int = tries) -> bool:
                return len(await find_lost(delivery, account)) == expected

            await process.run_until(is_lost)

            async def is_paused(longest: int = seconds) -> bool:
                row = await delivery.find_account(account)
                return bool(longest / 2 < row["pause"] <= longest)

            await process.run_until(is_paused)
            row = await delivery.find_account(account)
            assert row["pause_code"] == "pinterest_unavailable"
            await delivery.resume(account)
        await run_until_count(process, delivery, other, "published", 3 * PINS)
        delivery.end_faults()

        async def is_done() -> bool:
            await delivery.pass_deadlines()
            await delivery.resume(account)
            return await count_pins(delivery, account, "published") == PINS

        await process.run_until(is_done)
    titles = [made["title"] for made in delivery.list_made(account)]
    assert (len(titles), len(set(titles))) == (PINS, PINS)
    row = await delivery.find_account(account)
    assert (row["pause_code"], row["pause_step"]) == (None, 0)


async def test_lost_answers_are_confirmed_while_they_pause_the_account(
    delivery: Delivery, account: Account
) -> None:
    delivery.simulator.set_faults("error_after", account_id=account.user_id)
    await delivery.queue_many(account, PINS)
    async with delivery.running() as process:
        await run_until_count(process, delivery, account, "confirming", 3)
        await delivery.pass_deadlines()
        await run_until_count(process, delivery, account, "published", 3)
    row = await delivery.find_account(account)
    assert (row["pause_code"], row["pause_step"]) == ("pinterest_unavailable", 3)
    assert row["pause"] > 0, "a pin that was found is no answer to a create"
    assert len(delivery.list_made(account)) == 3


@pytest.mark.parametrize(("kind", "state"), [(None, "published"), ("image_small", "failed")])
async def test_lost_answers_count_anew_after_a_created_pin_or_a_refusal(
    delivery: Delivery, account: Account, kind: str | None, state: str
) -> None:
    async with delivery.running() as process:
        delivery.simulator.set_faults("cut_before", account_id=account.user_id, count=2)
        await delivery.queue_many(account, 2)
        await run_until_count(process, delivery, account, "confirming", 2)
        row = await delivery.find_account(account)
        assert (row["pause_step"], row["pause"] <= 0) == (2, True)

        if kind is not None:
            delivery.simulator.set_faults(kind, account_id=account.user_id, count=1)
        await delivery.queue(account)
        await run_until_count(process, delivery, account, state, 1)
        row = await delivery.find_account(account)
        assert (row["pause_code"], row["pause_step"]) == (None, 0)

        delivery.simulator.set_faults("cut_before", account_id=account.user_id, count=2)
        await delivery.queue_many(account, 2)
        await run_until_count(process, delivery, account, "confirming", 4)
        assert (await delivery.find_account(account))["pause"] <= 0
