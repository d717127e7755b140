"""The lease on a replica's name, on a real Postgres."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from shared.postgres import lease as lease_module
from shared.postgres.database import Database
from shared.postgres.lease import ReplicaLease, ReplicaNameTaken
from shared.runtime.settings import ServiceSettings
from tests.support.waiting import eventually


@pytest.fixture
def settings(environment: dict[str, Any]) -> ServiceSettings:
    return ServiceSettings(**environment)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "TAKEOVER_SECONDS", 1.0)
    monkeypatch.setattr(lease_module, "CHECK_SECONDS", 0.1)


async def test_a_second_process_with_the_same_name_is_refused(settings: ServiceSettings) -> None:
    first, second = ReplicaLease("publisher", settings), ReplicaLease("publisher", settings)
    await first.acquire()
    with pytest.raises(ReplicaNameTaken, match="PINFLOW_REPLICA"):
        await second.acquire()
    await first.release()


async def test_another_name_another_service_and_another_installation_are_free(
    settings: ServiceSettings,
) -> None:
    leases = [
        ReplicaLease("publisher", settings),
        ReplicaLease("publisher", settings.model_copy(update={"replica": "1"})),
        ReplicaLease("status", settings),
        ReplicaLease("publisher", settings.model_copy(update={"topic_prefix": "another"})),
    ]
    for lease in leases:
        await lease.acquire()
    for lease in leases:
        await lease.release()


async def test_a_released_name_is_free(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "TAKEOVER_SECONDS", 30.0)
    first, second = ReplicaLease("publisher", settings), ReplicaLease("publisher", settings)
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await first.release()
    await waiting
    await second.release()


async def test_a_lost_session_is_replaced(settings: ServiceSettings, database: Database) -> None:
    lease, second = ReplicaLease("publisher", settings), ReplicaLease("publisher", settings)
    await lease.acquire()
    before = lease._connection
    keeping = asyncio.create_task(lease.keep())
    await terminate(database, lease.name)
    await eventually(
        lambda: (
            lease._connection is not None
            and lease._connection is not before
            and not lease._connection.closed
        )
    )
    with pytest.raises(ReplicaNameTaken):
        await second.acquire()
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await lease.release()


async def test_a_name_lost_to_another_process_ends_the_process(
    settings: ServiceSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease, thief = ReplicaLease("publisher", settings), ReplicaLease("publisher", settings)
    await lease.acquire()
    with monkeypatch.context() as patch:
        patch.setattr(lease_module, "TAKEOVER_SECONDS", 30.0)
        taking = asyncio.create_task(thief.acquire())
        await terminate(database, lease.name)
        await taking
    with pytest.raises(ReplicaNameTaken):
        await asyncio.wait_for(lease.keep(), 20)
    await thief.release()


async def terminate(database: Database, name: str) -> None:
    """Ends the session that holds the lease, as a lost connection does. Keeps a waiting session."""
    statement = text("""
        select pg_terminate_backend(a.pid) from pg_stat_activity a join pg_locks l on l.pid = a.pid
        where a.application_name = left(:name, 63) and l.locktype = 'advisory' and l.granted
    """)
    async with database.transaction() as connection:
        await connection.execute(statement, {"name": f"pinflow-lease {name}"})


async def test_a_lost_machines_lease_is_free_within_a_minute(settings: ServiceSettings) -> None:
    """A lost machine closes no connection. By default, TCP sends a keepalive after two hours."""
    lease = ReplicaLease("publisher", settings)
    await lease.acquire()
    assert lease._connection is not None
    shown = await (
        await lease._connection.execute("select current_setting('tcp_keepalives_idle')")
    ).fetchone()
    assert shown is not None
    assert int(str(shown[0])) <= 30
    await lease.release()


async def test_invariant_9_a_silent_postgres_is_asked_again_after_a_timeout(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "ATTEMPT_SECONDS", 1)
    lease = ReplicaLease("publisher", settings)
    silent = [True]

    async def attempt() -> bool:
        if silent:
            silent.clear()
            await asyncio.Event().wait()
        return await ReplicaLease._try_lock(lease)

    monkeypatch.setattr(lease, "_try_lock", attempt)
    async with asyncio.timeout(30):
        await lease.acquire()
    await lease.release()
