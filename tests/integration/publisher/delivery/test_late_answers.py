"""Answers that come after their attempts were settled, because a process was frozen for long."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from services.publisher.delivery.model import AttemptOutcome
from tests.support.delivery.process import Account, Delivery, Process

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOW_SECONDS = 3
_SETTLE_AS_ABSENT = (
    "update publisher.delivery_attempts set outcome = 'absent', settled_at = now()",
    "update publisher.pins set state = 'queued'",
)


async def send_slowly(process: Process, delivery: Delivery, account: Account) -> UUID:
    """Sends a pin that Pinterest makes, and whose answer takes longer."""
    delivery.simulator.set_faults("slow", seconds=SLOW_SECONDS, operation="pins/create", count=1)
    pin_id = await delivery.queue(account)

    async def is_made() -> bool:
        return len(delivery.list_made(account)) == 1

    await process.run_until(is_made)
    return pin_id


async def run_until_logged(
    process: Process, logs: Sequence[Mapping[str, Any]], event: str
) -> Mapping[str, Any]:
    async def check() -> bool:
        return any(entry["event"] == event for entry in logs)

    await process.run_until(check)
    (found,) = [entry for entry in logs if entry["event"] == event]
    return found


async def test_a_pin_that_was_queued_again_takes_the_id_of_a_late_answer(
    delivery: Delivery, account: Account
) -> None:
    """Invariant: at most once. Without the id, the pin would be sent again."""
    async with delivery.running(pinterest_timeout_seconds=10) as process:
        with capture_logs() as logs:
            pin_id = await send_slowly(process, delivery, account)
            for statement in _SETTLE_AS_ABSENT:
                await delivery.execute(statement)
            await run_until_logged(process, logs, "delivery_late_id_adopted")
        later = await delivery.queue(account)

        async def is_over() -> bool:
            return bool((await delivery.find_pin(later))["state"] == "published")

        await process.run_until(is_over)
    made = delivery.list_made(account)
    assert len(made) == 2, "the later pin is the second"
    pin = await delivery.find_pin(pin_id)
    assert (pin["state"], pin["pinterest_pin_id"]) == ("published", made[0]["id"])
    (attempt,) = await delivery.find_attempts(pin_id)
    assert (attempt["outcome"], attempt["pinterest_pin_id"]) == ("created", made[0]["id"])
    assert await delivery.find_events(pin_id) == ["published"]
    assert delivery.log.settled[0] == (AttemptOutcome.CREATED, made[0]["id"])


async def test_a_late_id_of_a_pin_that_was_sent_again_is_logged_with_the_newer_attempt(
    delivery: Delivery, account: Account
) -> None:
    async with delivery.running(pinterest_timeout_seconds=10) as process:
        with capture_logs() as logs:
            pin_id = await send_slowly(process, delivery, account)
            for statement in _SETTLE_AS_ABSENT:
                await delivery.execute(statement)
            await delivery.pass_deadlines()
            entry = await run_until_logged(process, logs, "delivery_answer_late")
    first, second = delivery.list_made(account)
    old, newer = await delivery.find_attempts(pin_id)
    assert entry["log_level"] == "error"
    assert (entry["attempt_id"], entry["pinterest_pin_id"]) == (
        str(old["attempt_id"]),
        first["id"],
    )
    assert (entry["newer_attempt_id"], entry["newer_pinterest_pin_id"]) == (
        str(newer["attempt_id"]),
        second["id"],
    )
    assert (old["outcome"], newer["outcome"]) == ("absent", "created")
    assert (await delivery.find_pin(pin_id))["pinterest_pin_id"] == second["id"]


async def test_an_id_whose_attempt_an_older_postgres_lacks_is_told_to_the_topic(
    delivery: Delivery, account: Account
) -> None:
    """Invariant: at most once. The attempt comes back from the topic, with its id."""
    async with delivery.running(pinterest_timeout_seconds=10) as process:
        with capture_logs() as logs:
            pin_id = await send_slowly(process, delivery, account)
            await delivery.execute("delete from publisher.delivery_attempts")
            await delivery.execute("update publisher.pins set state = 'confirming'")
            await run_until_logged(process, logs, "delivery_attempt_missing")
    (made,) = delivery.list_made(account)
    assert delivery.log.settled == [(AttemptOutcome.CREATED, made["id"])]
    assert (await delivery.find_pin(pin_id))["state"] == "confirming"


async def test_a_late_id_that_a_look_has_found_is_no_fault(
    delivery: Delivery, account: Account
) -> None:
    async with delivery.running(pinterest_timeout_seconds=10) as process:
        with capture_logs() as logs:
            pin_id = await send_slowly(process, delivery, account)
            await delivery.pass_deadlines()
            await run_until_logged(process, logs, "delivery_late_id_adopted")
    (made,) = delivery.list_made(account)
    assert (await delivery.find_pin(pin_id))["pinterest_pin_id"] == made["id"]
    (attempt,) = await delivery.find_attempts(pin_id)
    assert attempt["outcome"] == "found"
    assert await delivery.find_events(pin_id) == ["published"]
