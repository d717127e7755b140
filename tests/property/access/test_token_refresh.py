"""Refreshes on the real Postgres against a model of Pinterest's tokens.

Several processes refresh one connection while answers are lost or late, processes die, keys are
replaced, the app's secret is wrong and time passes. No account is lost unless Pinterest itself
refuses it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pydantic import SecretStr
from sqlalchemy import text

from services.access.config import AccessSettings
from services.access.connections.link import PinterestLink
from services.access.connections.model import NewConnection, NotConnected, PinterestUser
from services.access.connections.repository import ConnectionRepository
from services.access.connections.service import ConnectionService
from services.access.connections.sweep import ConnectionSweep
from services.access.connections.vault import Tokens, Vault
from services.access.oauth.repository import AttemptRepository
from shared.access.connection_health import GIVEN_UP, HealthCode
from shared.pinterest.failures import PinterestFailure
from shared.postgres.database import Database
from tests.integration.conftest import make_workspace
from tests.property.access.pinterest import DAY, Endpoint, Outcome, Pinterest
from tests.property.conftest import Run
from tests.property.profiles import examples

PROCESSES = 3
LEASE_SECONDS = 60
"""More than a lease."""
SHIFT = (
    text("""
        update access.tokens set refresh_at = refresh_at - make_interval(secs => :seconds),
            lease_until = lease_until - make_interval(secs => :seconds),
            refused_since = refused_since - make_interval(secs => :seconds)
        where account_id = :id
    """),
    text("""
        update access.connections set
            token_expires_at = token_expires_at - make_interval(secs => :seconds),
            refresh_expires_at = refresh_expires_at - make_interval(secs => :seconds),
            checked_at = checked_at - make_interval(secs => :seconds)
        where account_id = :id
    """),
)
READ = text("""
    select t.version, t.secret, t.refresh_at, t.lease_until > now() as is_leased, c.token_version,
        c.health_code
    from access.tokens t join access.connections c on c.account_id = t.account_id
    where t.account_id = :id
""")

_processes = st.integers(0, PROCESSES - 1)
_outcomes = st.sampled_from([Outcome.ANSWERED] * len(Outcome) + list(Outcome))
"""Half of the requests are answered, so that refreshes overtake each other's failures."""


@dataclass
class Process:
    endpoint: Endpoint
    link: PinterestLink
    service: ConnectionService
    sweep: ConnectionSweep
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Stored:
    version: int
    tokens: Tokens
    is_leased: bool
    health_code: HealthCode | None

    @property
    def access_token(self) -> str:
        return self.tokens.access_token.get_secret_value()

    @property
    def refresh_token(self) -> str:
        assert self.tokens.refresh_token is not None
        return self.tokens.refresh_token.get_secret_value()


Start: TypeAlias = Callable[[Process], Coroutine[Any, Any, Any]]
"""Starts work on a process."""


class World:
    """The processes, the database and Pinterest."""

    def __init__(self, pool: Database, workspace_id: UUID, pinterest: Pinterest) -> None:
        self._pool = pool
        self._workspace_id = workspace_id
        self.pinterest = pinterest
        self.keys: tuple[str, ...] = (Fernet.generate_key().decode(),)
        self._processes: dict[int, Process] = {}
        self.late: dict[int, asyncio.Task[Any]] = {}
        """Requests that are late, by process."""
        self.account_id = UUID(int=0)
        self.version = 0

    def process(self, number: int) -> Process:
        """Returns a process with the current keys."""
        known = self._processes.get(number)
        if known is not None and known.keys == self.keys:
            return known
        settings = AccessSettings(
            pinterest_mode="simulated",
            pinterest_app_id="1",
            pinterest_app_secret=SecretStr("s"),
            pinterest_token_keys=SecretStr(",".join(self.keys)),
        )
        endpoint = Endpoint(self.pinterest)
        repository = ConnectionRepository(self._pool, "simulated")
        link = PinterestLink.build(settings, repository, endpoint)
        self._processes[number] = Process(
            endpoint,
            link,
            ConnectionService(repository, settings, link),
            ConnectionSweep(repository, AttemptRepository(self._pool), link),
            self.keys,
        )
        return self._processes[number]

    async def connect(self) -> None:
        """Connects the account, or connects it again."""
        new = NewConnection(
            self._workspace_id,
            None,
            self.pinterest.reconnect(),
            PinterestUser("1", "rosa"),
            "authorization_code",
        )
        free = next(number for number in range(PROCESSES) if number not in self.late)
        self.account_id = await self.process(free).service.connect(new)

    async def reconnect(self) -> None:
        """Disconnects the account and connects it again."""
        await self.process(1).service.disconnect(self._workspace_id, self.account_id)
        await self.connect()

    async def read(self) -> Stored:
        row = await self._pool.fetch_first(READ.bindparams(id=self.account_id))
        assert row is not None
        assert row["version"] == row["token_version"]
        code = row["health_code"]
        return Stored(
            row["version"],
            Vault([key.encode() for key in self.keys]).open(self.account_id, row["secret"]),
            bool(row["is_leased"]),
            None if code is None else HealthCode(code),
        )

    async def advance(self, seconds: float) -> None:
        """Lets time pass, for the database and for Pinterest."""
        self.pinterest.now += seconds
        async with self._pool.transaction() as connection:
            for statement in SHIFT:
                await connection.execute(statement, {"seconds": seconds, "id": self.account_id})

    async def refresh(self, number: int, outcome: Outcome) -> None:
        stored = await self.read()
        await self._perform(
            number,
            outcome,
            lambda process: process.service.refresh(self.account_id, stored.version),
        )

    async def call(self, number: int, outcome: Outcome) -> None:
        await self._perform(
            number,
            outcome,
            lambda process: process.service.list_all(self.account_id, "boards/list", "/boards"),
        )

    async def run_sweep(self, number: int, outcome: Outcome) -> None:
        await self._perform(number, outcome, lambda process: process.sweep.run_once())

    async def release(self, number: int) -> None:
        """Lets the late request of a process arrive, and its work end."""
        self._processes.pop(number).endpoint.release()
        await _end(self.late.pop(number))

    async def rotate_keys(self) -> None:
        """Replaces the key, after all tokens are encrypted with the present one."""
        await self.process(0).sweep.reseal()
        self.keys = (Fernet.generate_key().decode(), self.keys[0])

    async def check(self) -> None:
        """Checks that only Pinterest has ended the stored tokens, if anything has."""
        stored = await self.read()
        assert stored.version >= self.version
        self.version = stored.version
        pinterest = self.pinterest
        if stored.health_code in GIVEN_UP:
            assert stored.refresh_token in pinterest.refused
        is_certain = not (pinterest.single_use or pinterest.replaces)
        if is_certain or not (pinterest.has_lost_answer or self.late):
            token = pinterest.refresh_tokens[stored.refresh_token]
            assert pinterest.is_revoked or not token.is_ended

    async def recover(self) -> None:
        """Ends all faults. Then an account works exactly if Pinterest accepts its tokens."""
        for number in list(self.late):
            await self.release(number)
        await self.advance(LEASE_SECONDS)
        for _ in range(3):
            must_work = self.pinterest.accepts_refresh((await self.read()).refresh_token)
            await self.run_sweep(0, Outcome.ANSWERED)
            if must_work:
                break
            await self.advance(DAY)
        if must_work:
            await self.advance(DAY)
            await self.run_sweep(0, Outcome.ANSWERED)
            service = self.process(0).service
            assert await service.list_all(self.account_id, "boards/list", "/boards") == []
            assert (await self.read()).health_code is None
        else:
            await self.advance(31 * DAY)
            await self.call(0, Outcome.ANSWERED)
            assert (await self.read()).health_code in GIVEN_UP

    async def close(self) -> None:
        for number in list(self.late):
            await self.release(number)
        await self.process(0).service.disconnect(self._workspace_id, self.account_id)

    async def _perform(self, number: int, outcome: Outcome, start: Start) -> None:
        """Starts work on a process, and waits until it ends, is late or the process dies."""
        if number in self.late:
            return
        if (await self.read()).is_leased:  # the work would wait for the end of the lease
            await self.advance(LEASE_SECONDS)
        process = self.process(number)
        process.endpoint.outcome = outcome
        work = asyncio.ensure_future(start(process))
        reached = asyncio.ensure_future(process.endpoint.reached.wait())
        await asyncio.wait({work, reached}, return_when=asyncio.FIRST_COMPLETED)
        reached.cancel()
        if work.done():
            await _end(work)
        elif outcome.is_late:
            self.late[number] = work
        else:
            await self._kill(number, work)

    async def _kill(self, number: int, work: "asyncio.Task[Any]") -> None:
        refreshes = list(self._processes.pop(number).link.refresher._running.values())
        for task in (work, *refreshes):
            task.cancel()
        await asyncio.gather(work, *refreshes, return_exceptions=True)


async def _end(work: "asyncio.Task[Any]") -> None:
    """Waits for work. It may fail, but only in the ways that its callers know."""
    with suppress(PinterestFailure, NotConnected):
        await work


class Refreshes(RuleBasedStateMachine):
    run: Run
    pool: Database
    workspace_id: UUID

    @initialize(
        pinterest=st.builds(
            Pinterest,
            single_use=st.booleans(),
            ends_access=st.booleans(),
            replaces=st.booleans(),
        )
    )
    def connect(self, pinterest: Pinterest) -> None:
        self.world = World(self.pool, self.workspace_id, pinterest)
        self.run(self.world.connect())

    @rule(process=_processes, outcome=_outcomes)
    def refresh(self, process: int, outcome: Outcome) -> None:
        self.run(self.world.refresh(process, outcome))

    @rule(process=_processes, outcome=_outcomes)
    def call(self, process: int, outcome: Outcome) -> None:
        self.run(self.world.call(process, outcome))

    @rule(process=_processes, outcome=_outcomes)
    def run_sweep(self, process: int, outcome: Outcome) -> None:
        self.run(self.world.run_sweep(process, outcome))

    @rule(days=st.sampled_from([0.01, 0.3, 1, 8, 24, 31]))
    def advance(self, days: float) -> None:
        self.run(self.world.advance(days * DAY))

    @precondition(lambda self: self.world.late)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.world.late)))
        self.run(self.world.release(number))

    @precondition(lambda self: not self.world.late)
    @rule()
    def rotate_keys(self) -> None:
        self.run(self.world.rotate_keys())

    @rule(process=_processes)
    def refresh_with_wrong_app_secret(self, process: int) -> None:
        self.world.pinterest.is_secret_right = False
        self.run(self.world.refresh(process, Outcome.ANSWERED))
        self.world.pinterest.is_secret_right = True

    @precondition(lambda self: len(self.world.late) < PROCESSES)
    @rule(is_revoked=st.booleans())
    def connect_again(self, is_revoked: bool) -> None:
        """The user allows the access again, perhaps some time after ending it."""
        if is_revoked:
            self.world.pinterest.revoke()
            self.run(self.world.run_sweep(0, Outcome.ANSWERED))
            self.run(self.world.advance(DAY))
            self.run(self.world.refresh(0, Outcome.ANSWERED))
            self.no_account_is_lost()
        self.run(self.world.connect())

    @precondition(lambda self: 1 not in self.world.late)
    @rule()
    def disconnect(self) -> None:
        self.run(self.world.reconnect())

    @invariant()
    def no_account_is_lost(self) -> None:
        self.run(self.world.check())

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.run(self.world.recover())
        finally:
            self.run(self.world.close())


def test_no_account_is_lost_unless_pinterest_refuses_it(run: Run, pool: Database) -> None:
    Refreshes.run = run
    Refreshes.pool = pool
    Refreshes.workspace_id = run(make_workspace(pool)).id
    run_state_machine_as_test(Refreshes, settings=examples(25))


@pytest.mark.parametrize("single_use", [False, True])
@pytest.mark.parametrize("replaces", [False, True])
def test_a_refresh_that_is_overtaken_loses_no_account(
    run: Run, pool: Database, single_use: bool, replaces: bool
) -> None:
    workspace_id = run(make_workspace(pool)).id
    for late, outcome, is_used in product(
        (Outcome.LATE_BEFORE, Outcome.LATE_AFTER), Outcome, (False, True)
    ):
        pinterest = Pinterest(single_use=single_use, replaces=replaces)
        world = World(pool, workspace_id, pinterest)
        run(overtake(world, late, outcome, is_used=is_used))


async def overtake(world: World, late: Outcome, outcome: Outcome, *, is_used: bool) -> None:
    """A refresh is late, and another one comes between, whose tokens may be used."""
    await world.connect()
    await world.refresh(0, late)
    await world.refresh(1, outcome)
    if is_used:
        await world.call(2, Outcome.ANSWERED)
    for number in list(world.late):
        await world.release(number)
        await world.check()
    await world.recover()
    await world.close()


@pytest.mark.parametrize("late", [Outcome.LATE_BEFORE, Outcome.LATE_AFTER])
def test_a_late_refresh_does_not_replace_the_tokens_of_a_new_connection(
    run: Run, pool: Database, late: Outcome
) -> None:
    async def reconnect(world: World) -> None:
        await world.connect()
        await world.refresh(0, late)
        await world.reconnect()
        await world.refresh(1, Outcome.LATE_BEFORE)  # its lease has the same fence
        connected = await world.read()
        await world.release(0)
        assert (await world.read()).tokens == connected.tokens
        await world.check()
        await world.recover()
        await world.close()

    run(reconnect(World(pool, run(make_workspace(pool)).id, Pinterest())))


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if not outcome.is_late])
def test_an_expired_token_that_could_not_be_refreshed_is_not_given_up(
    run: Run, pool: Database, outcome: Outcome
) -> None:
    async def expire(world: World) -> None:
        await world.connect()
        await world.advance(31 * DAY)
        await world.call(0, outcome)
        assert (await world.read()).health_code not in GIVEN_UP
        await world.recover()
        await world.close()

    run(expire(World(pool, run(make_workspace(pool)).id, Pinterest())))


def test_a_connection_that_was_given_up_for_a_wrong_app_secret_recovers_within_a_day(
    run: Run, pool: Database
) -> None:
    async def misconfigure(world: World) -> None:
        await world.connect()
        await world.advance(31 * DAY)
        world.pinterest.is_secret_right = False
        await world.call(0, Outcome.ANSWERED)
        assert (await world.read()).health_code is HealthCode.TOKEN_REVOKED
        world.pinterest.is_secret_right = True
        await world.recover()
        await world.close()

    run(misconfigure(World(pool, run(make_workspace(pool)).id, Pinterest())))
