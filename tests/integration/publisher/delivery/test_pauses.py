"""The work that goes on while an account is paused, and pauses that end before their time."""

from uuid import UUID

import pytest

from services.publisher.delivery.accounts.leases import PINS, LeaseRepository
from services.publisher.delivery.budgets.repository import Budgets
from services.publisher.delivery.budgets.settings import DeliveryLimitSettings
from services.publisher.delivery.confirming.repository import UNSETTLED_ATTEMPTS
from services.publisher.delivery.media.repository import VIDEOS
from services.publisher.delivery.removing.repository import REMOVALS
from tests.integration.conftest import make_workspace
from tests.support.connections import record_connection
from tests.support.delivery.process import Account, Delivery, Process

pytestmark = pytest.mark.asyncio(loop_scope="module")

_INSERT_ATTEMPT = """
    insert into publisher.delivery_attempts (
        attempt_id, pin_id, number, workspace_id, account_id, mode, fence, board_id, compared,
        texts, deadline_at
    ) values (
        gen_random_uuid(), %(pin_id)s, 1, %(workspace_id)s, %(account_id)s, 'simulated', 1, '1',
        gen_random_uuid(), '{}', clock_timestamp()
    )
"""
_INSERT_REMOVAL = """
    insert into publisher.removals (
        pin_id, workspace_id, account_id, pinterest_pin_id, release_key
    ) values (%(pin_id)s, %(workspace_id)s, %(account_id)s, '1', false)
"""
_INSERT_VIDEO = """
    insert into publisher.delivery_media (
        pin_id, workspace_id, account_id, mode, source_url, step, media_id
    )
    select pin_id, workspace_id, account_id, 'simulated', image_url, 'process', '1'
    from publisher.pins where pin_id = %(pin_id)s
"""
_PAUSE = """
    insert into publisher.delivery_accounts (
        account_id, workspace_id, paused_until, pause_code, pause_message
    ) values (
        %(account_id)s, %(workspace_id)s, clock_timestamp() + interval '1 hour', %(code)s, 'Wait.'
    )
    on conflict (account_id) do update set paused_until = excluded.paused_until,
        pause_code = excluded.pause_code, pause_message = excluded.pause_message
"""


async def queue_all_work(delivery: Delivery, account: Account) -> UUID:
    """Queues a pin, and lets a removal, a look and a video of the account be due."""
    pin_id = await delivery.queue(account)
    for statement in (_INSERT_ATTEMPT, _INSERT_REMOVAL, _INSERT_VIDEO):
        await delivery.execute(
            statement, pin_id=pin_id, account_id=account.id, workspace_id=account.workspace_id
        )
    return pin_id


async def pause(delivery: Delivery, account: Account, code: str) -> None:
    await delivery.execute(
        _PAUSE, account_id=account.id, workspace_id=account.workspace_id, code=code
    )


@pytest.mark.parametrize(
    ("code", "work"),
    [
        (None, {PINS, UNSETTLED_ATTEMPTS.name, REMOVALS.name, VIDEOS.name}),
        ("quota_exceeded", {UNSETTLED_ATTEMPTS.name, REMOVALS.name, VIDEOS.name}),
        ("rate_limited", {UNSETTLED_ATTEMPTS.name}),
        ("token_revoked", set()),
        ("scope_missing", set()),
        ("pinterest_unavailable", {UNSETTLED_ATTEMPTS.name}),
    ],
)
async def test_nothing_is_changed_at_pinterest_while_it_limits_the_account(
    delivery: Delivery, account: Account, code: str | None, work: set[str]
) -> None:
    await queue_all_work(delivery, account)
    if code is not None:
        await pause(delivery, account, code)
    store = LeaseRepository(
        delivery.database,
        Budgets(DeliveryLimitSettings().budget_limits),
        "simulated",
        (UNSETTLED_ATTEMPTS, REMOVALS, VIDEOS),
        lease_seconds=30,
    )
    leases = await store.exchange([], 10)
    assert [set(lease.work) for lease in leases] == ([work] if work else [])


async def run_until_made(
    process: Process, delivery: Delivery, count: int, *accounts: Account
) -> None:
    async def check() -> bool:
        made = [pin for account in accounts for pin in delivery.list_made(account)]
        return len(made) == count

    await process.run_until(check)


async def is_account_paused(delivery: Delivery, account: Account) -> bool:
    rows = await delivery.execute(
        "select account_id from publisher.delivery_accounts "
        "where account_id = %(id)s and paused_until > clock_timestamp()",
        id=account.id,
    )
    return bool(rows)


async def test_a_raised_limit_of_a_day_ends_the_pause_of_the_account(
    delivery: Delivery, account: Account
) -> None:
    await delivery.queue_many(account, 5)

    async def is_paused() -> bool:
        return await is_account_paused(delivery, account)

    async with delivery.running(delivery_daily_pins=3) as process:
        await process.run_until(is_paused)
        await process.outdated_pauses.end()
        assert await is_paused(), "the limit is the same"
    assert len(delivery.list_made(account)) == 3
    async with delivery.running(delivery_daily_pins=4) as process:
        await process.outdated_pauses.end()
        assert not await is_paused()
        await run_until_made(process, delivery, 4, account)
        await process.run_until(is_paused)
    async with delivery.running(delivery_daily_pins=200) as process:
        await process.outdated_pauses.end()
        await run_until_made(process, delivery, 5, account)
    assert (await delivery.find_account(account))["pause_code"] is None


@pytest.mark.parametrize("raised", [0, 100])
async def test_a_raised_limit_of_the_app_ends_its_pause(delivery: Delivery, raised: int) -> None:
    accounts = [delivery.add_account() for _ in range(2)]
    for account in accounts:
        await delivery.queue_many(account, 2)

    async def is_paused() -> bool:
        return bool((await delivery.find_app())["pause_code"] == "quota_exceeded")

    async with delivery.running(delivery_app_writes_per_day=3) as process:
        await process.run_until(is_paused)
        await process.outdated_pauses.end()
        assert (await delivery.find_app())["pause"] > 80_000
    async with delivery.running(delivery_app_writes_per_day=raised) as process:
        await process.outdated_pauses.end()
        await run_until_made(process, delivery, 4, *accounts)


async def test_only_pauses_whose_cause_is_gone_end_early(
    delivery: Delivery, account: Account
) -> None:
    for code in ("rate_limited", "token_revoked", "scope_missing"):
        await pause(delivery, account, code)
        async with delivery.running() as process:
            await process.outdated_pauses.end()
        assert await is_account_paused(delivery, account), code


async def test_an_account_that_was_connected_again_continues_at_once(delivery: Delivery) -> None:
    workspace = await make_workspace(delivery.database)
    account = Account(workspace.account_id, workspace.id, "", "")
    await pause(delivery, account, "token_revoked")
    await delivery.execute("update publisher.delivery_accounts set served_at = clock_timestamp()")
    async with delivery.running() as process:
        await record_connection(delivery.database, workspace.id, workspace.account_id)
        await process.outdated_pauses.end()
        assert not await is_account_paused(delivery, account)
        await pause(delivery, account, "token_revoked")
        await delivery.execute(
            "update publisher.delivery_accounts set served_at = clock_timestamp()"
        )
        await process.outdated_pauses.end()
        assert await is_account_paused(delivery, account), "it was refused after that"
