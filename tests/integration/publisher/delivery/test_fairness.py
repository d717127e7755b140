"""Budgets, order and fairness: no account and no workspace holds up another."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.publisher.delivery.accounts.leases import LeaseRepository
from services.publisher.delivery.budgets.repository import BudgetGate, Budgets
from services.publisher.delivery.budgets.rules import BudgetLimits
from services.publisher.delivery.confirming.repository import UNSETTLED_ATTEMPTS
from services.publisher.delivery.model import DeliveryAttempt, FinishedTurn, Postponed
from shared.pinterest.model import Category, RateLimits
from shared.postgres.database import driver_connection
from tests.support.delivery.process import Account, Delivery, Process

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMITS = BudgetLimits(
    account_writes_per_minute=60,
    account_reads_per_minute=600,
    daily_pins=3,
    app_requests_per_second=1000,
    app_writes_per_day=0,
)

MAX_TURNS = 10
"""Pins of a bulk that may be sent until another account's pin is published."""


def make_leases(delivery: Delivery, limits: BudgetLimits = LIMITS) -> LeaseRepository:
    return LeaseRepository(
        delivery.database, Budgets(limits), "simulated", (UNSETTLED_ATTEMPTS,), lease_seconds=30
    )


async def run_until_published(process: Process, delivery: Delivery, *pin_ids: UUID) -> None:
    async def check() -> bool:
        (row,) = await delivery.execute(
            "select count(*) as n from publisher.pins "
            "where pin_id = any(%(ids)s) and state = 'published'",
            ids=list(pin_ids),
        )
        return bool(row["n"] == len(pin_ids))

    await process.run_until(check)


async def run_until_paused(process: Process, delivery: Delivery, code: str) -> None:
    async def check() -> bool:
        return bool(
            await delivery.execute(
                "select pause_code from publisher.delivery_accounts where pause_code = %(code)s "
                "union all select pause_code from publisher.delivery_apps where pause_code = "
                "%(code)s",
                code=code,
            )
        )

    await process.run_until(check)


async def test_the_days_pins_of_an_account_pause_it_until_its_next_day(
    delivery: Delivery, account: Account
) -> None:
    other = delivery.add_account()
    await delivery.queue_many(account, 5)
    async with delivery.running(delivery_daily_pins=3) as process:
        await run_until_paused(process, delivery, "quota_exceeded")
        await run_until_published(process, delivery, await delivery.queue(other))
        assert len(delivery.list_made(account)) == 3
        assert 86_000 < (await delivery.find_account(account))["pause"] <= 86_400
        await delivery.execute(
            "update publisher.pinterest_budgets "
            "set day_started_at = day_started_at - interval '1 day'"
        )
        await delivery.resume(account)

        async def are_all_made() -> bool:
            return len(delivery.list_made(account)) == 5

        await process.run_until(are_all_made)


async def test_pins_that_were_not_made_do_not_count_for_the_day(
    delivery: Delivery, account: Account
) -> None:
    delivery.simulator.set_faults("image_small", account_id=account.user_id, count=3)
    await delivery.queue_many(account, 5)
    async with delivery.running(delivery_daily_pins=2) as process:

        async def are_made() -> bool:
            return len(delivery.list_made(account)) == 2

        await process.run_until(are_made)


async def test_the_days_changes_of_the_app_pause_all_accounts(delivery: Delivery) -> None:
    accounts = [delivery.add_account() for _ in range(3)]
    pin_ids = [pin for account in accounts for pin in await delivery.queue_many(account, 2)]
    async with delivery.running(delivery_app_writes_per_day=4) as process:
        await run_until_paused(process, delivery, "quota_exceeded")

        async def are_turns_over() -> bool:
            (row,) = await delivery.execute(
                "select count(*) as n from publisher.delivery_accounts "
                "where lease_until is not null"
            )
            return bool(row["n"] == 0)

        await process.run_until(are_turns_over)
        assert sum(len(delivery.list_made(account)) for account in accounts) == 4
        await delivery.execute(
            "update publisher.pinterest_budgets "
            "set day_started_at = day_started_at - interval '1 day'"
        )
        await delivery.resume_app()
        await run_until_published(process, delivery, *pin_ids)
    assert (await delivery.find_app())["pause_code"] is None


async def test_a_bucket_that_is_empty_delays_without_a_pause(
    delivery: Delivery, account: Account
) -> None:
    pin_ids = await delivery.queue_many(account, 12)
    async with delivery.running(delivery_account_writes_per_minute=60) as process:
        # Ten at once, then one a second
        await run_until_published(process, delivery, *pin_ids[:11])
        assert (await delivery.find_account(account))["pause_code"] is None
        await run_until_published(process, delivery, *pin_ids)
    (row,) = await delivery.execute(
        "select extract(epoch from max(started_at) - min(started_at))::float8 as seconds "
        "from publisher.delivery_attempts"
    )
    assert row["seconds"] >= 1.8


async def test_pinterests_own_count_lowers_a_bucket_and_never_raises_it(
    delivery: Delivery, account: Account
) -> None:
    budgets = Budgets(LIMITS)
    gate = BudgetGate(delivery.database, budgets, "simulated")

    async def read_level() -> float:
        (row,) = await delivery.execute(
            "select level from publisher.pinterest_budgets where account_id = %(id)s", id=account.id
        )
        return float(row["level"])

    await gate.require(account.id, Category.WRITE)
    await gate.feed(account.id, Category.WRITE, RateLimits(1000, 10))
    assert 8.9 < await read_level() <= 10
    await gate.feed(account.id, Category.WRITE, RateLimits(2, 10))
    assert 2 <= await read_level() < 3
    await gate.feed(account.id, Category.WRITE, RateLimits(0, 100))
    with pytest.raises(Postponed) as postponed:
        await gate.require(account.id, Category.WRITE)
    assert 95 < postponed.value.seconds <= 100
    await gate.require(account.id, Category.READ)


async def test_concurrent_takes_of_one_account_never_exceed_its_budget(
    delivery: Delivery, account: Account
) -> None:
    budgets = Budgets(LIMITS)

    async def take() -> bool:
        async with delivery.database.transaction() as connection:
            driver = await driver_connection(connection)
            locked = await budgets.lock_for_pin(driver, "simulated", account.id)
            return await budgets.take_locked(driver, locked) == 0

    taken = await asyncio.gather(*(take() for _ in range(20)))
    assert sum(taken) == 3


async def test_the_search_takes_a_request_of_the_app_for_each_account(delivery: Delivery) -> None:
    for _ in range(5):
        await delivery.queue(delivery.add_account())
    leases = make_leases(delivery, LIMITS._replace(app_requests_per_second=3))

    async def refill(interval: str) -> None:
        """Moves the time until which the app's bucket is refilled."""
        await delivery.execute(
            "update publisher.pinterest_budgets set refilled_at = clock_timestamp() "
            "+ %(interval)s::interval",
            interval=interval,
        )

    assert len(await leases.exchange([], 10)) == 3
    await refill("1 hour")
    assert await leases.exchange([], 10) == []
    await refill("-1 second")
    assert len(await leases.exchange([], 10)) == 2


async def test_spacing_separates_the_pins_of_one_account_only(delivery: Delivery) -> None:
    accounts = [delivery.add_account() for _ in range(2)]
    pin_ids = [pin for account in accounts for pin in await delivery.queue_many(account, 2)]
    async with delivery.running(delivery_spacing_seconds=1) as process:
        await run_until_published(process, delivery, *pin_ids)
    rows = await delivery.execute(
        "select account_id, extract(epoch from max(started_at) - min(settled_at))::float8 as gap "
        "from publisher.delivery_attempts group by account_id"
    )
    assert [row["gap"] >= 1 for row in rows] == [True, True]


async def test_schedules_that_are_due_go_before_bulk_of_the_same_account(
    delivery: Delivery, account: Account
) -> None:
    bulk = await delivery.queue_many(account, 3, title="Bulk")
    late = datetime.now(UTC) - timedelta(minutes=1)
    second = await delivery.queue(account, run_at=late, title="Second")
    first = await delivery.queue(account, run_at=late - timedelta(hours=1), title="First")
    async with delivery.running() as process:
        await run_until_published(process, delivery, *bulk, first, second)
    titles = [made["title"] for made in delivery.list_made(account)]
    assert titles == ["First", "Second", "Bulk", "Bulk 2", "Bulk 3"]


async def test_a_hundred_thousand_pins_of_one_account_delay_no_other(
    delivery: Delivery, account: Account
) -> None:
    """Invariant: the backlog of one account holds up nobody."""
    await delivery.queue_many(account, 100_000, title="Bulk")
    await delivery.execute("analyze publisher.pins")
    other = delivery.add_account()
    async with delivery.running(delivery_spacing_seconds=0.2) as process:
        await process.run_until(lambda: is_served(delivery, account))
        made_before = len(delivery.list_made(account))
        pin_id = await delivery.queue(other)
        await run_until_published(process, delivery, pin_id)
    # In turns, not in seconds: the bulk's next pins are sent beside the other account's
    assert len(delivery.list_made(account)) - made_before <= MAX_TURNS


async def is_served(delivery: Delivery, account: Account) -> bool:
    return bool(delivery.list_made(account))


async def test_the_search_reads_one_index_entry_for_each_account(
    delivery: Delivery, account: Account
) -> None:
    await delivery.queue_many(account, 20_000, title="Bulk")
    accounts = [delivery.add_account() for _ in range(2)]
    for other in accounts:
        await delivery.queue(other)
    await delivery.execute("analyze publisher.pins")
    store = make_leases(delivery)
    values = {
        "mode": "simulated",
        "creates": True,
        "new_pin_codes": [],
        "skipped": 1000,
        "limit": 50,
    }
    plan = await delivery.execute(f"explain (analyze, format json) {store._search}", **values)

    def list_rows(node: dict[str, Any]) -> list[float]:
        here = (
            node["Actual Rows"] * node["Actual Loops"]
            if "pins" in str(node.get("Relation Name"))
            else 0
        )
        return [here, *(n for child in node.get("Plans", []) for n in list_rows(child))]

    read = list_rows(plan[0]["QUERY PLAN"][0]["Plan"])
    assert max(read) < 3100, read


async def test_workspaces_alternate_however_many_accounts_each_has(delivery: Delivery) -> None:
    large, small = uuid4(), uuid4()
    for workspace_id, count in ((large, 8), (small, 2)):
        for _ in range(count):
            await delivery.queue(Account(uuid4(), workspace_id, "user", "1"))
    store = make_leases(delivery)
    first = await store.exchange([], 4)
    assert [lease.workspace_id for lease in first].count(small) == 2
    # The leases of the large workspace count: its next accounts come after another one's
    await delivery.queue(Account(uuid4(), other := uuid4(), "user", "1"))
    (lease,) = await store.exchange([], 1)
    assert lease.workspace_id == other


async def test_a_rest_begins_with_the_end_of_the_turn_not_with_its_release(
    delivery: Delivery, account: Account
) -> None:
    await delivery.queue(account)
    store = make_leases(delivery)
    (lease,) = await store.exchange([], 1)
    resting = FinishedTurn(lease, did_work=True, rest_seconds=60, ended_at=time.monotonic() - 30)
    assert await store.exchange([resting], 1) == []
    await delivery.execute("update publisher.delivery_accounts set next_at = null")
    (lease,) = await store.exchange([], 1)
    rested = FinishedTurn(lease, did_work=True, rest_seconds=60, ended_at=time.monotonic() - 60)
    assert len(await store.exchange([rested], 1)) == 1


async def test_accounts_that_were_served_least_recently_come_first(delivery: Delivery) -> None:
    workspace_id = uuid4()
    accounts = [Account(uuid4(), workspace_id, "user", "1") for _ in range(3)]
    for minutes, account in enumerate(accounts):
        await delivery.queue(account)
        await delivery.execute(
            "insert into publisher.delivery_accounts (account_id, workspace_id, served_at) "
            "values (%(id)s, %(workspace_id)s, now() - %(minutes)s * interval '1 minute')",
            id=account.id,
            workspace_id=workspace_id,
            minutes=minutes,
        )
    store = make_leases(delivery)
    (lease,) = await store.exchange([], 1)
    assert lease.account_id == accounts[-1].id


async def test_pins_that_wait_by_themselves_hide_no_other_pin_and_are_not_searched_for(
    delivery: Delivery, account: Account
) -> None:
    store = make_leases(delivery)
    await delivery.queue_many(account, 50)
    await delivery.execute(
        "update publisher.pins set deferral_code = 'media_unreachable', "
        "deliver_after = clock_timestamp() + interval '1 hour'"
    )
    assert await store.exchange([], 10) == []
    pin_id = await delivery.queue(account)
    async with delivery.running() as process:
        await run_until_published(process, delivery, pin_id)


async def test_fifty_accounts_are_served_at_the_same_time(delivery: Delivery) -> None:
    accounts = [delivery.add_account() for _ in range(50)]
    for account in accounts:
        await delivery.tokens.get(account.id)
    pin_ids = [await delivery.queue(account) for account in accounts]
    delivery.simulator.set_faults("slow", seconds=4, operation="pins/create")
    in_flight = []

    async def count(_attempt: DeliveryAttempt) -> None:
        in_flight.append(len(delivery.log.announced) - len(delivery.log.settled))

    async def are_published() -> bool:
        return len(delivery.log.settled) == len(pin_ids)

    delivery.log.on_announce = count
    async with delivery.running(pinterest_timeout_seconds=20) as process:
        used = time.process_time()
        await process.run_until(are_published)
        cpu = time.process_time() - used
    print(f"{1000 * cpu / len(pin_ids):.1f} ms CPU a pin")
    assert max(in_flight) > 25


async def test_pins_without_their_medium_delay_the_next_pin_by_no_rest(
    delivery: Delivery, account: Account
) -> None:
    """A rest after each would take a minute, which is longer than the test waits."""
    videos = await delivery.queue_many(account, 60, image_url="https://files.example.com/a.mp4")
    pin_id = await delivery.queue(account)
    async with delivery.running() as process:
        await run_until_published(process, delivery, pin_id)
    rows = await delivery.execute(
        "select count(*) as n from publisher.pins where deliver_after > now() and state = 'queued' "
        "and pin_id = any(%(ids)s)",
        ids=videos,
    )
    assert rows[0]["n"] == len(videos)
