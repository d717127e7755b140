"""Pins are deleted on the simulator of Pinterest."""

import asyncio
from http import HTTPStatus
from typing import Any
from uuid import UUID

import pytest

from services.publisher.delivery.attempts.settlements import publish_pin
from services.publisher.delivery.model import AccessToken, AttemptOutcome
from services.publisher.delivery.tokens.failures import AccountGivenUp
from services.publisher.generations import read_keys
from services.publisher.key_state import KeyState
from shared.contract.errors import ErrorCode
from shared.postgres.database import driver_connection
from tests.integration.publisher.delivery.deliveries import Deliveries

_REQUEST = """
    insert into publisher.removals (
        pin_id, workspace_id, account_id, pinterest_pin_id, release_key
    ) values (%s, %s, %s, %s, %s)
"""
_TAKE_KEY = "update publisher.pins set generation = 1, current_pin_id = %s where pin_id = %s"


async def publish(deliveries: Deliveries) -> UUID:
    """Publishes a pin. Its removal is requested by `request`."""
    attempt = await deliveries.begin(await deliveries.add_pin())
    made = await deliveries.send(attempt)
    assert isinstance(made, str)
    async with deliveries.database.transaction() as connection:
        driver = await driver_connection(connection)
        await publish_pin(driver, attempt, AttemptOutcome.CREATED, made)
    return attempt.pin_id


async def request(deliveries: Deliveries, pin_id: UUID, *, release_key: bool = False) -> None:
    pin = await deliveries.read_pin(pin_id)
    await deliveries.execute(
        _REQUEST,
        (
            pin_id,
            deliveries.workspace_id,
            deliveries.account_id,
            pin["pinterest_pin_id"],
            release_key,
        ),
    )


async def run(deliveries: Deliveries) -> bool:
    return await deliveries.remover.run(deliveries.lease)


async def read_removal(deliveries: Deliveries, pin_id: UUID) -> dict[str, Any]:
    return (await deliveries.fetch("select * from publisher.removals where pin_id = %s", pin_id))[0]


async def read_key(deliveries: Deliveries, pin_id: UUID) -> KeyState:
    async with deliveries.database.transaction() as connection:
        driver = await driver_connection(connection)
        return (await read_keys(driver, [pin_id], lock=False))[pin_id]


async def require_removed(deliveries: Deliveries, pin_id: UUID) -> None:
    assert [made["deleted_at"] is not None for made in deliveries.made()] == [True]
    assert (await read_removal(deliveries, pin_id))["outcome"] == "removed"
    pin = await deliveries.read_pin(pin_id)
    assert pin["removed_at"] is not None
    assert pin["state"] == "published"


async def test_a_pin_is_deleted_on_pinterest(deliveries: Deliveries) -> None:
    pin_id = await publish(deliveries)
    assert not await run(deliveries)
    await request(deliveries, pin_id)
    assert await run(deliveries)
    await require_removed(deliveries, pin_id)
    assert (await deliveries.read_pin(pin_id))["deleted_at"] is None
    assert not (await read_key(deliveries, pin_id)).is_free
    assert not await run(deliveries)


@pytest.mark.parametrize("fault", ["cut_after", "cut_before", "error_after", "error_before"])
async def test_a_deletion_whose_answer_was_lost_is_repeated(
    deliveries: Deliveries, fault: str
) -> None:
    pin_id = await publish(deliveries)
    await request(deliveries, pin_id, release_key=True)
    deliveries.simulator.set_faults(
        fault, count=1, operation="pins/delete", account_id=deliveries.user["id"]
    )
    assert await run(deliveries)
    removal = await read_removal(deliveries, pin_id)
    assert (removal["outcome"], removal["tries"]) == (None, 1)
    assert not (await read_key(deliveries, pin_id)).is_free
    assert not await run(deliveries), "the next try waits"
    await deliveries.pass_time()
    assert await run(deliveries)
    await require_removed(deliveries, pin_id)
    assert (await read_key(deliveries, pin_id)).is_free


async def test_a_pin_that_is_gone_already_counts_as_removed(deliveries: Deliveries) -> None:
    pin_id = await publish(deliveries)
    made_id = (await deliveries.read_pin(pin_id))["pinterest_pin_id"]
    deliveries.simulator.call("DELETE", f"/pins/{made_id}", deliveries.tokens.value)
    await request(deliveries, pin_id)
    assert await run(deliveries)
    await require_removed(deliveries, pin_id)


async def test_an_undone_pin_is_deleted_and_releases_its_key(deliveries: Deliveries) -> None:
    pin_id = await publish(deliveries)
    await request(deliveries, pin_id, release_key=True)
    assert await run(deliveries)
    await require_removed(deliveries, pin_id)
    assert (await deliveries.read_pin(pin_id))["deleted_at"] is not None
    assert (await read_key(deliveries, pin_id)).is_free


async def test_a_released_key_is_not_released_again(deliveries: Deliveries) -> None:
    pin_id = await publish(deliveries)
    await deliveries.execute(
        "update publisher.pins set deleted_at = now(), released_at = now() - interval '1 hour' "
        "where pin_id = %s",
        (pin_id,),
    )
    before = await read_key(deliveries, pin_id)
    await request(deliveries, pin_id, release_key=True)
    assert await run(deliveries)
    await require_removed(deliveries, pin_id)
    assert await read_key(deliveries, pin_id) == before


async def test_a_key_that_a_later_pin_has_stays_taken(deliveries: Deliveries) -> None:
    pin_id = await publish(deliveries)
    await deliveries.execute(
        "update publisher.pins set deleted_at = now(), released_at = now() where pin_id = %s",
        (pin_id,),
    )
    later = (await read_key(deliveries, pin_id)).next_pin_id
    await deliveries.execute(_TAKE_KEY, (later, pin_id))
    await request(deliveries, pin_id, release_key=True)
    assert await run(deliveries)
    await require_removed(deliveries, pin_id)
    assert (await read_key(deliveries, pin_id)).current_pin_id == later


async def test_two_processes_release_a_key_once(deliveries: Deliveries) -> None:
    pin_id = await publish(deliveries)
    await request(deliveries, pin_id, release_key=True)
    await asyncio.gather(run(deliveries), run(deliveries))
    await require_removed(deliveries, pin_id)
    assert (await read_removal(deliveries, pin_id))["tries"] == 1


async def test_a_pin_that_pinterest_keeps_is_named(deliveries: Deliveries) -> None:
    pin_id = await publish(deliveries)
    deliveries.simulator.set_faults(
        "board_refused", operation="pins/delete", account_id=deliveries.user["id"]
    )
    await request(deliveries, pin_id, release_key=True)
    assert await run(deliveries)
    removal = await read_removal(deliveries, pin_id)
    assert (removal["outcome"], removal["error_code"]) == ("refused", "board_access_denied")
    assert "not permitted" in removal["error_message"]
    pin = await deliveries.read_pin(pin_id)
    assert (pin["removed_at"], pin["deleted_at"]) == (None, None)
    assert not (await read_key(deliveries, pin_id)).is_free


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("rate_limit", "rate_limited"),
        ("spam_block", "rate_limited"),
        ("token", "token_revoked"),
    ],
)
async def test_a_limit_or_a_dead_token_pauses_the_account(
    deliveries: Deliveries, fault: str, code: str
) -> None:
    pin_id = await publish(deliveries)
    await deliveries.add_lease()
    deliveries.simulator.set_faults(
        fault, operation="pins/delete", account_id=deliveries.user["id"]
    )
    await request(deliveries, pin_id)
    assert await run(deliveries)
    assert (await read_removal(deliveries, pin_id))["outcome"] is None
    assert not await run(deliveries), "the next try waits"
    (account,) = await deliveries.fetch(
        "select pause_code from publisher.delivery_accounts where account_id = %s",
        deliveries.account_id,
    )
    assert account["pause_code"] == code


async def test_a_pin_of_another_mode_is_left_alone(deliveries: Deliveries) -> None:
    pin_id = await publish(deliveries)
    await deliveries.execute(
        "update publisher.delivery_attempts set mode = 'production' where pin_id = %s", (pin_id,)
    )
    await request(deliveries, pin_id)
    assert not await run(deliveries)


async def test_a_block_outlasts_the_loss_of_the_tokens(deliveries: Deliveries) -> None:
    """Connecting the account again must not end it."""
    await deliveries.add_lease()
    await deliveries.execute(
        "update publisher.delivery_accounts set paused_until = now() + interval '4 hours', "
        "pause_code = 'rate_limited', pause_message = 'Blocked.', pause_step = 2 "
        "where account_id = %s",
        (deliveries.account_id,),
    )
    await request(deliveries, await publish(deliveries))

    async def give_up(_account_id: UUID) -> AccessToken:
        raise AccountGivenUp(ErrorCode.ACCOUNT_REVOKED, "Connect it.", HTTPStatus.CONFLICT)

    deliveries.tokens.get = give_up  # type: ignore[method-assign]
    assert await run(deliveries)
    (row,) = await deliveries.fetch(
        "select pause_code, pause_step from publisher.delivery_accounts where account_id = %s "
        "and paused_until > now() + interval '3 hours'",
        deliveries.account_id,
    )
    assert row == {"pause_code": "rate_limited", "pause_step": 2}
