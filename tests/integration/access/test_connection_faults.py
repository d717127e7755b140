"""Faults of connections outside Pinterest: migrations under a running service, and Postgres."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from sqlalchemy import text

from services.access.connections.service import MAX_CALLS_PER_ACCOUNT
from services.access.connections.stored import RefreshClaim
from services.access.connections.transactions import LockedConnection
from shared.contract.errors import DatabaseUnavailable
from shared.pinterest.failures import NotSent
from shared.postgres.database import Database
from tests.integration.access.connected_processes import (
    Process,
    make_settings,
    running_process,
)
from tests.integration.conftest import Workspace
from tests.support.simulator import Simulator
from tests.support.waiting import eventually


@pytest_asyncio.fixture(loop_scope="module")
async def process(database_url: str, simulator: Simulator) -> AsyncIterator[Process]:
    """A process for each test, because a test closes it."""
    async with running_process(database_url, make_settings(simulator)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def account(process: Process, simulator: Simulator, workspace: Workspace) -> UUID:
    simulator.control("POST", "reset")
    username = f"user-{uuid4().hex[:8]}"
    simulator.create_account(username=username, boards=3)
    return await process.connect(simulator, workspace.id, username)


async def test_a_column_that_a_migration_adds_does_not_disturb_a_refresh(
    process: Process, simulator: Simulator, account: UUID, database: Database
) -> None:
    for _ in range(3):
        await process.refresh(account)
        await process.call(account)
    async with database.transaction() as connection:
        await connection.execute(text("alter table access.connections add column added int"))
    try:
        for _ in range(3):
            await process.refresh(account)
            await process.call(account)
    finally:
        async with database.transaction() as connection:
            await connection.execute(text("alter table access.connections drop column added"))


async def test_a_refresh_that_waits_for_a_lease_does_not_keep_the_sweep_from_it(
    process: Process, account: UUID
) -> None:
    claim = await process.repository.claim(account, 1, lease_seconds=3600)
    assert claim is not None
    waiting = asyncio.create_task(process.service.refresh(account, 1))
    await eventually(lambda: bool(process.link.refresher._running))
    assert await process.link.refresher.complete(claim) == 2
    assert await waiting == 2


@pytest.mark.parametrize("error", [DatabaseUnavailable("down"), LookupError("a fault of Pinflow")])
async def test_new_tokens_are_stored_later_even_if_nobody_waits_any_more(
    process: Process,
    simulator: Simulator,
    account: UUID,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    simulator.change_settings(single_use=True)
    lock, is_down = process.repository.lock, True

    def fail_while_down(
        claim: RefreshClaim,
    ) -> AbstractAsyncContextManager[LockedConnection | None]:
        if is_down:
            raise error
        return lock(claim)

    monkeypatch.setattr(process.repository, "lock", fail_while_down)
    monkeypatch.setattr(process.link.refresher, "max_wait_seconds", 0.5)
    with pytest.raises(NotSent, match="not stored yet"):
        await process.service.refresh(account, 1)
    is_down = False
    await process.link.refresher.close()
    assert (await process.find(account)).token_version == 2
    assert len(await process.call(account)) == 3


async def test_calls_of_one_account_that_pinterest_does_not_answer_are_limited(
    process: Process, simulator: Simulator, account: UUID, workspace: Workspace
) -> None:
    username = f"user-{uuid4().hex[:8]}"
    created = simulator.create_account(username=username, boards=1)
    other = await process.connect(simulator, workspace.id, username)
    user = (await process.find(account)).pinterest_user_id
    simulator.set_faults("slow", account_id=user, seconds=2)
    calls = [asyncio.create_task(process.call(account)) for _ in range(MAX_CALLS_PER_ACCOUNT + 5)]
    assert len(await process.call(other)) == len(created["boards"])
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, list) for result in results) == MAX_CALLS_PER_ACCOUNT
    assert all(isinstance(result, NotSent) for result in results[MAX_CALLS_PER_ACCOUNT:])
    simulator.control("POST", "faults", {"kind": "none"})
    assert len(await process.call(account)) == 3
