"""A pin that is deleted over HTTP disappears from Pinterest (ADR 0049).

The simulator's own log, never Pinflow's tables, says which pins are there.
"""

import asyncio
from uuid import uuid4

import pytest

from shared.access.keys import Scope
from shared.access.model import Principal
from tests.integration.publisher.conftest import serving
from tests.support.delivery.process import Account, Delivery

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_deletion_waits_until_the_pin_is_removed_from_pinterest(
    delivery: Delivery, account: Account, database_url: str
) -> None:
    pin_id = await delivery.queue(account)
    principal = Principal(account.workspace_id, uuid4(), frozenset(Scope))

    async def is_published() -> bool:
        return bool((await delivery.find_pin(pin_id))["state"] == "published")

    async with (
        delivery.running() as process,
        serving(database_url, principal, pinterest_mode="simulated") as http,
    ):
        await process.run_until(is_published)
        (made,) = delivery.list_made(account)
        path = f"/v1/pins/{pin_id}?delete_from_pinterest=true"
        deletion = asyncio.ensure_future(http.delete(path, headers={"X-API-Key": "any"}))

        async def is_answered() -> bool:
            return deletion.done()

        await process.run_until(is_answered)
        answer = (await deletion).json()
    assert answer == {
        "id": str(pin_id),
        "deleted": True,
        "removed_from_pinterest": True,
        "pinterest_pin_id": made["id"],
        "reason": None,
    }
    pin = await delivery.find_pin(pin_id)
    assert None not in (pin["deleted_at"], pin["removed_at"])
