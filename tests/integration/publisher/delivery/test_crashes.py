"""No pin is made twice: after crashes, with two processes, and after a restore of Postgres."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from services.publisher.delivery.accounts.leases import LeaseRepository
from services.publisher.delivery.accounts.statements import (
    HeldAccount,
    read_held_account,
    send_lease_extension,
)
from services.publisher.delivery.attempts.compared import digest
from services.publisher.delivery.budgets.repository import Budgets
from services.publisher.delivery.budgets.rules import BudgetLimits
from services.publisher.delivery.confirming.repository import UNSETTLED_ATTEMPTS
from services.publisher.delivery.creating import creator
from services.publisher.delivery.model import AccountLease, ComparedTexts, DeliveryAttempt
from shared.contract.errors import BrokerUnavailable
from shared.postgres.database import DriverConnection, driver_connection
from tests.support.delivery.process import IMAGE_URL, LOAD_SECONDS, Account, Delivery, Process

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def run_until_state(
    process: Process, delivery: Delivery, pin_id: UUID, state: str
) -> dict[str, Any]:
    async def check() -> bool:
        return bool((await delivery.find_pin(pin_id))["state"] == state)

    await process.run_until(check)
    return await delivery.find_pin(pin_id)


@asynccontextmanager
async def answer_held_back(
    delivery: Delivery, process: Process, account: Account, pin_id: UUID
) -> AsyncIterator[DriverConnection]:
    """Delivers the queued pin, and runs the body when it is made and its answer not stored.

    The yielded connection has locked the pin and its attempt. It commits at the block's end.
    """
    before = len(delivery.list_made(account))
    async with delivery.database.transaction(extra_timeout_seconds=LOAD_SECONDS) as connection:
        holding = await driver_connection(connection)

        async def lock(_attempt: DeliveryAttempt) -> None:
            await holding.execute(
                "select from publisher.pins join publisher.delivery_attempts using (pin_id) "
                "where pin_id = %s for update",
                (pin_id,),
            )

        async def is_made() -> bool:
            return len(delivery.list_made(account)) > before

        delivery.log.on_announce = lock
        await process.run_until(is_made)
        delivery.log.on_announce = None
        yield holding


async def insert_attempt(delivery: Delivery, pin_id: UUID, **fields: Any) -> None:
    """Inserts an attempt of a pin, as a restore of the topic `deliveries` does."""
    values = {"outcome": None, "pinterest_pin_id": None, "deadline": "1 hour", **fields}
    await delivery.execute(
        """
        insert into publisher.delivery_attempts (
            attempt_id, pin_id, number, workspace_id, account_id, mode, fence, board_id, compared,
            texts, deadline_at, outcome, settled_at, pinterest_pin_id
        )
        select gen_random_uuid(), pin_id, 1, workspace_id, account_id, 'simulated', 1, board_id,
            gen_random_uuid(), json_build_object(
                'title', title, 'description', null, 'alt_text', null, 'link', null
            ), clock_timestamp() + %(deadline)s::interval, %(outcome)s,
            case when %(outcome)s::text is not null then now() end, %(pinterest_pin_id)s
        from publisher.pins where pin_id = %(pin_id)s
        """,
        pin_id=pin_id,
        **values,
    )


@pytest.mark.parametrize("is_made", [False, True])
async def test_a_process_killed_during_its_request_leaves_a_pin_that_is_confirmed_and_never_resent(
    delivery: Delivery, account: Account, is_made: bool
) -> None:
    """Invariant: whoever finds an attempt without an outcome confirms it."""
    if is_made:
        # The simulator makes the pin after half of the time
        delivery.simulator.set_faults("slow", seconds=3, operation="pins/create", count=1)
    pin_id = await delivery.queue(account)

    async def wait_forever(_attempt: DeliveryAttempt) -> None:
        await asyncio.Event().wait()

    async def may_be_killed() -> bool:
        return bool(delivery.log.announced) and len(delivery.list_made(account)) == is_made

    if not is_made:
        delivery.log.on_announce = wait_forever

    async with delivery.running(pinterest_timeout_seconds=10) as first:
        await first.run_until(may_be_killed)
        await first.kill()
    delivery.log.on_announce = None
    assert (await delivery.find_pin(pin_id))["state"] == "publishing"
    async with delivery.running() as second:
        await delivery.pass_deadlines()
        await run_until_state(second, delivery, pin_id, "published")
    assert len(delivery.list_made(account)) == 1
    assert len(await delivery.find_attempts(pin_id)) == (1 if is_made else 2)


async def test_a_late_answer_settles_its_attempt_although_another_process_has_the_lease(
    delivery: Delivery, account: Account
) -> None:
    delivery.simulator.set_faults("slow", seconds=1, operation="pins/create", count=1)
    pin_id = await delivery.queue(account)

    async def take_lease_away(_attempt: DeliveryAttempt) -> None:
        await delivery.execute("update publisher.delivery_accounts set served_at = null")

    delivery.log.on_announce = take_lease_away

    async def is_sent() -> bool:
        return len(delivery.list_made(account)) == 1

    async with delivery.running() as process:
        await process.run_until(is_sent)
        await delivery.execute(
            "update publisher.delivery_accounts set lease_fence = lease_fence + 1, "
            "lease_until = clock_timestamp() + interval '1 hour'"
        )
        pin = await run_until_state(process, delivery, pin_id, "published")
    (made,) = delivery.list_made(account)
    assert pin["pinterest_pin_id"] == made["id"]
    # Its release of the lease had no effect
    assert (await delivery.find_account(account))["lease_until"] is not None


async def test_an_answer_that_comes_after_the_attempt_was_settled_changes_nothing(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account)
    async with delivery.running() as process:
        async with answer_held_back(delivery, process, account, pin_id) as holding:
            await holding.execute(
                "update publisher.delivery_attempts set outcome = 'unconfirmed', settled_at = now()"
            )
            await holding.execute(
                "update publisher.pins set state = 'failed', failed_at = now(), "
                "error_code = 'publish_unconfirmed', error_message = 'x'"
            )
        await process.run_until(lambda: is_rested(delivery, account))
    assert (await delivery.find_pin(pin_id))["state"] == "failed"
    assert (await delivery.find_attempts(pin_id))[0]["outcome"] == "unconfirmed"
    assert delivery.log.settled == []


async def extend_lease(driver: DriverConnection, lease: AccountLease) -> HeldAccount | None:
    return read_held_account(await (await send_lease_extension(driver, lease, 30)).fetchone())


async def test_a_holder_whose_fence_is_old_begins_no_attempt(
    delivery: Delivery, account: Account
) -> None:
    await delivery.execute(
        "insert into publisher.delivery_accounts (account_id, workspace_id, lease_fence) "
        "values (%(id)s, %(id)s, 7)",
        id=account.id,
    )
    async with delivery.database.transaction() as connection:
        driver = await driver_connection(connection)
        old = AccountLease(account.id, account.workspace_id, 6, datetime.now(UTC))
        assert await extend_lease(driver, old) is None
        assert await extend_lease(driver, replace(old, fence=7)) is not None


async def test_two_processes_create_each_pin_of_one_account_once(
    delivery: Delivery, account: Account
) -> None:
    """Invariant: one create in flight per account."""
    await delivery.queue_many(account, 30)
    in_flight = [0, 0]

    async def count(_attempt: DeliveryAttempt) -> None:
        (row,) = await delivery.execute(
            "select count(*) as n from publisher.delivery_attempts where outcome is null"
        )
        in_flight.append(row["n"])

    delivery.log.on_announce = count

    async def is_done() -> bool:
        (row,) = await delivery.execute(
            "select count(*) as n from publisher.pins where state = 'published'"
        )
        return bool(row["n"] == 30)

    async with delivery.running() as process, delivery.running() as other:
        other.start()
        await process.run_until(is_done)
    assert len(delivery.list_made(account)) == 30
    assert max(in_flight) == 1
    (row,) = await delivery.execute("select count(*) as n from publisher.delivery_attempts")
    assert row["n"] == 30


async def test_two_searches_lease_an_account_once(delivery: Delivery, account: Account) -> None:
    await delivery.queue(account)
    stores = [
        LeaseRepository(
            delivery.database,
            Budgets(BudgetLimits(60, 600, 200, 1000, 0)),
            "simulated",
            (UNSETTLED_ATTEMPTS,),
            lease_seconds=30,
        )
        for _ in range(4)
    ]
    found = await asyncio.gather(*(store.exchange([], 10) for store in stores))
    assert sum(map(len, found)) == 1


async def test_a_pin_that_kafka_does_not_have_is_not_sent(
    delivery: Delivery, account: Account
) -> None:
    """Invariant: announced before the call."""
    pin_id = await delivery.queue(account)

    async def fail(_attempt: DeliveryAttempt) -> None:
        raise BrokerUnavailable("no acknowledgement")

    delivery.log.on_announce = fail
    async with delivery.running() as process:

        async def is_withdrawn() -> bool:
            attempts = await delivery.find_attempts(pin_id)
            return [attempt["outcome"] for attempt in attempts] == ["not_sent"]

        await process.run_until(is_withdrawn)
        assert (await delivery.find_pin(pin_id))["state"] == "queued"
        assert delivery.list_made(account) == []
        delivery.log.on_announce = None
        await process.run_until(lambda: is_rested(delivery, account))
        await delivery.resume(account)
        await run_until_state(process, delivery, pin_id, "published")
    assert len(delivery.list_made(account)) == 1


async def is_rested(delivery: Delivery, account: Account) -> bool:
    return (await delivery.find_account(account))["lease_until"] is None


async def test_an_attempt_that_a_restored_postgres_lacks_is_not_sent(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account)

    async def restore(attempt: DeliveryAttempt) -> None:
        delivery.log.on_announce = None
        await delivery.execute(
            "delete from publisher.delivery_attempts where attempt_id = %(id)s",
            id=attempt.attempt_id,
        )

    delivery.log.on_announce = restore
    async with delivery.running() as process:

        async def is_over() -> bool:
            return bool(delivery.log.announced) and await is_rested(delivery, account)

        await process.run_until(is_over)
    assert delivery.list_made(account) == []
    assert (await delivery.find_pin(pin_id))["state"] == "publishing"


async def test_a_request_that_would_outlast_its_deadline_is_not_sent(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account)

    async def stall(attempt: DeliveryAttempt) -> None:
        delivery.log.on_announce = None
        await delivery.execute(
            "update publisher.delivery_attempts "
            "set deadline_at = clock_timestamp() + interval '1 second' where attempt_id = %(id)s",
            id=attempt.attempt_id,
        )

    delivery.log.on_announce = stall
    async with delivery.running() as process:
        await run_until_state(process, delivery, pin_id, "published")
    outcomes = [attempt["outcome"] for attempt in await delivery.find_attempts(pin_id)]
    assert outcomes == ["not_sent", "created"]


async def test_a_queued_pin_with_an_unsettled_attempt_is_confirmed_and_not_sent(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account)
    await insert_attempt(delivery, pin_id)
    async with delivery.running() as process:
        await run_until_state(process, delivery, pin_id, "confirming")
    assert delivery.log.announced == []


async def test_a_queued_pin_that_was_made_before_is_published_with_that_id(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account)
    await insert_attempt(delivery, pin_id, outcome="created", pinterest_pin_id="4711")
    async with delivery.running() as process:
        pin = await run_until_state(process, delivery, pin_id, "published")
    assert pin["pinterest_pin_id"] == "4711"
    assert delivery.list_made(account) == []
    assert await delivery.find_events(pin_id) == ["published"]


@pytest.mark.parametrize("outcome", ["refused", "not_sent", "absent", "unconfirmed"])
async def test_a_retried_pin_whose_attempts_are_settled_is_sent(
    delivery: Delivery, account: Account, outcome: str
) -> None:
    pin_id = await delivery.queue(account)
    await insert_attempt(delivery, pin_id, outcome=outcome)
    async with delivery.running() as process:
        await run_until_state(process, delivery, pin_id, "published")
    assert len(delivery.list_made(account)) == 1


async def test_an_id_of_another_pin_is_never_taken_twice(
    delivery: Delivery, account: Account
) -> None:
    other_id = await delivery.queue(account)
    async with delivery.running() as process:
        await run_until_state(process, delivery, other_id, "published")
        pin_id = await delivery.queue(account)
        async with answer_held_back(delivery, process, account, pin_id) as holding:
            await holding.execute(
                "update publisher.pins set pinterest_pin_id = %s where pin_id = %s",
                (delivery.list_made(account)[1]["id"], other_id),
            )
        pin = await run_until_state(process, delivery, pin_id, "failed")
    assert pin["error_code"] == "publish_unconfirmed"


async def test_equal_pins_wait_for_the_unsettled_one_and_others_go_on(
    delivery: Delivery, account: Account
) -> None:
    """An unsettled pin blocks only creates to the same board with equal texts."""
    delivery.simulator.set_faults("cut_before", account_id=account.user_id, count=1)
    unsettled = await delivery.queue(account, title="Same lamp")
    equal = await delivery.queue(account, title="  same LAMP ")
    different = await delivery.queue(account, title="Another lamp")
    async with delivery.running() as process:
        await run_until_state(process, delivery, unsettled, "confirming")
        await run_until_state(process, delivery, different, "published")
        assert (await delivery.find_pin(equal))["state"] == "queued"
        await delivery.pass_deadlines()
        await run_until_state(process, delivery, unsettled, "published")
        await run_until_state(process, delivery, equal, "published")
    assert len(delivery.list_made(account)) == 3


async def test_an_edit_or_a_cancel_before_the_attempt_wins(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account)
    token = delivery.tokens.get

    async def edit_meanwhile(account_id: UUID) -> Any:
        delivery.tokens.get = token  # type: ignore[method-assign]
        await delivery.execute(
            "update publisher.pins set title = 'Edited', updated_at = clock_timestamp()"
        )
        return await token(account_id)

    delivery.tokens.get = edit_meanwhile  # type: ignore[method-assign]
    async with delivery.running() as process:
        await run_until_state(process, delivery, pin_id, "published")
    assert [made["title"] for made in delivery.list_made(account)] == ["Edited"]


async def test_a_process_that_was_frozen_before_its_request_does_not_send_it(
    delivery: Delivery, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Invariant: another process may have confirmed and sent the pin by then."""
    frozen_seconds = [60.0]

    def pass_time() -> float:
        return time.monotonic() + (frozen_seconds.pop() if frozen_seconds else 0)

    monkeypatch.setattr(creator, "time", SimpleNamespace(time=time.time, monotonic=pass_time))
    pin_id = await delivery.queue(account)
    async with delivery.running() as process:
        await run_until_state(process, delivery, pin_id, "published")
    attempts = await delivery.find_attempts(pin_id)
    assert [attempt["outcome"] for attempt in attempts] == ["not_sent", "created"]
    assert len(delivery.list_made(account)) == 1


async def test_a_pin_whose_id_another_pin_has_does_not_hold_up_its_account(
    delivery: Delivery, account: Account
) -> None:
    """A restore makes such pins. They are queued again if a person allows it."""
    first, second = await delivery.queue(account), await delivery.queue(account)
    async with delivery.running() as process:
        published = await run_until_state(process, delivery, first, "published")
        await run_until_state(process, delivery, second, "published")
        pin_id = await delivery.queue(account)
        await insert_attempt(
            delivery, pin_id, outcome="created", pinterest_pin_id=published["pinterest_pin_id"]
        )
        last = await delivery.queue(account)
        await run_until_state(process, delivery, last, "published")
        pin = await run_until_state(process, delivery, pin_id, "published")
    assert pin["pinterest_pin_id"] != published["pinterest_pin_id"]


async def test_an_edit_of_the_image_wins_over_the_failure_of_the_earlier_one(
    delivery: Delivery, account: Account
) -> None:
    pin_id = await delivery.queue(account, image_url=None)
    token = delivery.tokens.get

    async def edit_meanwhile(account_id: UUID) -> Any:
        delivery.tokens.get = token  # type: ignore[method-assign]
        await delivery.execute(
            "update publisher.pins set image_url = %(url)s, updated_at = clock_timestamp()",
            url=IMAGE_URL,
        )
        return await token(account_id)

    delivery.tokens.get = edit_meanwhile  # type: ignore[method-assign]
    async with delivery.running() as process:
        await run_until_state(process, delivery, pin_id, "published")
    assert len(await delivery.find_attempts(pin_id)) == 1


async def test_a_doubt_of_another_mode_does_not_hold_up_an_equal_pin(
    delivery: Delivery, account: Account
) -> None:
    """An unsettled attempt blocks equal pins of its board, and another mode has other boards."""
    doubtful = await delivery.queue(account, title="Lamp")
    await insert_attempt(delivery, doubtful)
    async with delivery.running() as process:
        await run_until_state(process, delivery, doubtful, "confirming")
        await delivery.execute(
            "update publisher.delivery_attempts a set mode = 'sandbox', compared = %(compared)s",
            compared=digest(account.board_id, ComparedTexts("Lamp", None, None, None)),
        )
        equal = await delivery.queue(account, title="Lamp")
        await run_until_state(process, delivery, equal, "published")
    assert (await delivery.find_pin(doubtful))["state"] == "confirming"


async def test_a_pin_waits_until_what_kafka_knows_of_it_is_applied(
    delivery: Delivery, account: Account
) -> None:
    """Invariant: a pin that a restore lost, and a direct call created again, may be there."""
    pin_id = await delivery.queue(account)
    await insert_attempt(delivery, pin_id, outcome="unconfirmed")
    await delivery.execute("update publisher.delivery_attempts set is_applied = false")
    other = await delivery.queue(account)
    async with delivery.running() as process:
        await run_until_state(process, delivery, other, "published")
    assert (await delivery.find_pin(pin_id))["state"] == "queued"
