"""Connections to the simulator of Pinterest: tokens are refreshed, and none is lost.

Each test has a workspace and a Pinterest user of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
import structlog
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import text
from structlog.testing import capture_logs

from services.access.connections.handout import TokenHandout
from services.access.connections.model import (
    AccountMismatch,
    NewConnection,
    NotConnected,
    PinterestOff,
    PinterestUser,
)
from services.access.connections.service import ConnectionService
from services.access.connections.stored import RefreshClaim
from services.access.connections.usable import UsableConnections
from services.access.connections.vault import TokenKeyMissing
from shared.access.connection_health import HealthCode
from shared.contract.errors import DatabaseUnavailable
from shared.pinterest.failures import AnswerLost, Cause, NotSent, Refused
from shared.postgres.database import Database
from tests.integration.access.connected_processes import (
    BOARDS,
    Process,
    execute,
    make_due,
    make_expired,
    make_settings,
    running_process,
)
from tests.integration.conftest import Workspace
from tests.support.simulator import Simulator
from tests.support.waiting import eventually

TOKEN_REQUESTS = "oauth/token"


@pytest.fixture
def user(simulator: Simulator) -> Iterator[str]:
    """The name of a new Pinterest user with 3 boards. Faults and settings end with the test."""
    username = f"user-{uuid4().hex[:8]}"
    simulator.create_account(username=username, boards=3)
    yield username
    simulator.control("POST", "reset")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def other_process(database_url: str, simulator: Simulator) -> AsyncIterator[Process]:
    async with running_process(database_url, make_settings(simulator)) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def account(process: Process, simulator: Simulator, workspace: Workspace, user: str) -> UUID:
    return await process.connect(simulator, workspace.id, user)


def count_refreshes(simulator: Simulator) -> int:
    return sum(
        request["operation"] == TOKEN_REQUESTS for request in simulator.control("GET", "requests")
    )


async def is_being_refreshed(process: Process, account_id: UUID) -> bool:
    lease = await process.repository.read_lease(account_id)
    return lease is not None and lease.is_taken


async def read_row(database: Database, account_id: UUID) -> dict[str, Any]:
    query = text("""
        select c.*, t.*, t.refresh_at > now() as is_planned, t.secret,
            extract(epoch from t.refresh_at - now())::float8 as seconds_to_refresh, a.revoked_at
        from access.connections c
        join access.accounts a on a.id = c.account_id
        left join access.tokens t on t.account_id = c.account_id
        where c.account_id = :id
    """)
    row = await database.fetch_first(query.bindparams(id=account_id))
    assert row is not None
    return dict(row)


async def test_a_new_pinterest_user_gets_an_account_of_the_workspace(
    process: Process, simulator: Simulator, workspace: Workspace, user: str, database: Database
) -> None:
    account_id = await process.connect(simulator, workspace.id, user)
    rows = await workspace.operator.list_accounts(workspace.id)
    assert [row["username"] for row in rows if row["id"] == account_id] == [user]
    assert len(await process.call(account_id)) == 3
    stored = await read_row(database, account_id)
    assert 22.9 < stored["seconds_to_refresh"] / 86_400 <= 23
    assert stored["secret"].startswith(b"gAAAA")


async def test_the_same_user_is_the_same_account_of_a_workspace(
    process: Process, simulator: Simulator, workspace: Workspace, user: str, account: UUID
) -> None:
    assert await process.connect(simulator, workspace.id, user) == account
    assert (await process.find(account)).token_version == 2


async def test_two_callbacks_of_one_user_make_one_account(
    process: Process,
    other_process: Process,
    simulator: Simulator,
    workspace: Workspace,
    user: str,
) -> None:
    first, second = await asyncio.gather(
        process.connect(simulator, workspace.id, user),
        other_process.connect(simulator, workspace.id, user),
    )
    assert first == second


async def test_an_unconnected_account_can_be_connected(
    process: Process, simulator: Simulator, workspace: Workspace, user: str
) -> None:
    account_id = workspace.account_id
    assert await process.connect(simulator, workspace.id, user, account_id) == account_id
    assert len(await process.call(account_id)) == 3


async def test_an_account_is_never_connected_to_another_user(
    process: Process, simulator: Simulator, workspace: Workspace, account: UUID
) -> None:
    with pytest.raises(AccountMismatch, match="another user of Pinterest"):
        await process.connect(simulator, workspace.id, "tom", account)
    with pytest.raises(AccountMismatch, match="no account"):
        await process.connect(simulator, workspace.id, "tom", uuid4())


async def test_a_user_is_not_connected_as_two_accounts_of_a_workspace(
    process: Process, simulator: Simulator, workspace: Workspace, user: str, account: UUID
) -> None:
    with pytest.raises(AccountMismatch, match=str(account)):
        await process.connect(simulator, workspace.id, user, workspace.account_id)


async def test_a_disconnected_account_has_no_tokens_until_it_is_connected_again(
    process: Process,
    simulator: Simulator,
    workspace: Workspace,
    user: str,
    account: UUID,
    database: Database,
) -> None:
    assert await process.service.disconnect(workspace.id, account)
    assert await process.service.disconnect(workspace.id, account)
    row = await read_row(database, account)
    assert row["revoked_at"] is not None
    assert row["disconnected_at"] is not None
    assert row["secret"] is None
    with pytest.raises(NotConnected):
        await process.call(account)
    with pytest.raises(NotConnected):
        await process.service.refresh(account, 1)
    await workspace.operator.restore_account(workspace.id, account)
    with pytest.raises(NotConnected):
        await process.call(account)

    assert await process.connect(simulator, workspace.id, user) == account
    row = await read_row(database, account)
    assert row["revoked_at"] is None
    assert row["disconnected_at"] is None
    assert row["token_version"] == 2
    assert len(await process.call(account)) == 3


async def test_another_workspaces_account_is_not_disconnected(
    process: Process, account: UUID
) -> None:
    assert not await process.service.disconnect(uuid4(), account)
    assert len(await process.call(account)) == 3


async def test_a_call_with_an_expired_token_refreshes_it_first(
    process: Process, simulator: Simulator, user: str, account: UUID, database: Database
) -> None:
    simulator.break_tokens(user, "expire_access")
    await make_expired(database, account)
    assert len(await process.call(account)) == 3
    assert (await process.find(account)).token_version == 2


async def test_a_refused_token_is_refreshed_once_and_the_call_repeated(
    process: Process, simulator: Simulator, user: str, account: UUID
) -> None:
    simulator.break_tokens(user, "expire_access")
    assert len(await process.call(account)) == 3
    connection = await process.find(account)
    assert (connection.token_version, connection.health_code) == (2, None)


async def test_a_new_token_that_is_refused_costs_no_account(
    process: Process, simulator: Simulator, account: UUID, database: Database
) -> None:
    simulator.set_faults("token", operation="boards/list", count=2)
    with pytest.raises(NotSent):
        await process.call(account)
    row = await read_row(database, account)
    assert (row["health_code"], row["version"]) == (HealthCode.REFRESH_FAILED, 2)
    assert 50 < row["seconds_to_refresh"] <= 60
    assert len(await process.call(account)) == 3
    row = await read_row(database, account)
    assert (row["health_code"], row["refused_since"], row["refused_tries"]) == (None, None, 0)


async def test_a_token_that_was_refused_just_now_is_not_refreshed_by_each_call(
    process: Process, simulator: Simulator, account: UUID, database: Database
) -> None:
    simulator.set_faults("token", operation="boards/list")
    before = count_refreshes(simulator)
    for _ in range(3):
        with pytest.raises(NotSent):
            await process.call(account)
    assert count_refreshes(simulator) == before + 1
    await make_due(database, account)
    await process.sweep.run_once()
    row = await read_row(database, account)
    assert (row["version"], row["health_code"]) == (3, None)
    with pytest.raises(NotSent):
        await process.call(account)
    row = await read_row(database, account)
    assert (row["health_code"], row["refused_tries"]) == (HealthCode.REFRESH_FAILED, 2)
    assert 110 < row["seconds_to_refresh"] <= 120


async def test_new_tokens_that_are_refused_for_an_hour_are_given_up_and_not_sent_again(
    process: Process, simulator: Simulator, account: UUID, database: Database
) -> None:
    simulator.set_faults("token", operation="boards/list")
    for _ in range(4):
        await make_due(database, account)
        with pytest.raises(NotSent):
            await process.call(account)
    await execute(
        database,
        "update access.tokens set refused_since = now() - interval '1 hour', refresh_at = now()"
        " where account_id = :id",
        account,
    )
    with pytest.raises(Refused) as refused:
        await process.call(account)
    assert refused.value.cause is Cause.TOKEN
    assert (await process.find(account)).health_code is HealthCode.TOKEN_REVOKED
    before = len(simulator.control("GET", "requests"))
    with pytest.raises(Refused) as refused:
        await process.call(account)
    assert refused.value.cause is Cause.TOKEN
    assert len(simulator.control("GET", "requests")) == before

    simulator.control("POST", "faults", {"kind": "none"})
    await process.refresh(account)
    assert (await process.find(account)).health_code is None
    assert len(await process.call(account)) == 3


async def test_processes_that_refresh_at_once_ask_pinterest_once(
    process: Process, other_process: Process, simulator: Simulator, account: UUID
) -> None:
    simulator.change_settings(single_use=True)
    simulator.set_faults("slow", operation=TOKEN_REQUESTS, seconds=0.5)
    before = count_refreshes(simulator)
    versions = await asyncio.gather(
        *(running.service.refresh(account, 1) for running in (process, other_process) * 5)
    )
    assert versions == [2] * 10
    assert count_refreshes(simulator) == before + 1
    assert len(await process.call(account)) == 3


async def test_those_who_waited_for_a_failed_refresh_share_its_failure(
    process: Process, other_process: Process, simulator: Simulator, account: UUID
) -> None:
    simulator.set_faults("slow", operation=TOKEN_REQUESTS, seconds=2)
    simulator.set_faults("error_before", operation=TOKEN_REQUESTS)
    before = count_refreshes(simulator)
    ended = await asyncio.gather(
        *(running.service.refresh(account, 1) for running in (process, other_process) * 5),
        return_exceptions=True,
    )
    assert {type(failure) for failure in ended} == {AnswerLost, NotSent}
    assert count_refreshes(simulator) == before + 1


async def test_a_refresh_whose_answer_is_cut_succeeds_with_the_old_token_later(
    process: Process, simulator: Simulator, account: UUID, database: Database
) -> None:
    simulator.set_faults("cut_after", operation=TOKEN_REQUESTS, count=1)
    with pytest.raises(AnswerLost):
        await process.refresh(account)
    row = await read_row(database, account)
    assert (row["version"], row["refresh_failures"], row["lease_until"]) == (1, 1, None)
    assert row["health_code"] == HealthCode.REFRESH_FAILED
    assert 50 < row["seconds_to_refresh"] <= 60
    assert len(await process.call(account)) == 3  # the old access token is good

    await make_due(database, account)
    await process.sweep.run_once()
    connection = await process.find(account)
    assert (connection.token_version, connection.health_code) == (2, None)
    assert len(await process.call(account)) == 3


async def test_operators_see_which_connections_need_their_user(
    process: Process, simulator: Simulator, workspace: Workspace, user: str, account: UUID
) -> None:
    async def read_state() -> tuple[str, str]:
        rows = await workspace.operator.list_accounts(workspace.id)
        (row,) = (row for row in rows if row["id"] == account)
        return row["connection"], row["health_code"]

    simulator.set_faults("error_before", operation=TOKEN_REQUESTS, count=1)
    with pytest.raises(AnswerLost):
        await process.refresh(account)
    assert await read_state() == ("connected", HealthCode.REFRESH_FAILED)
    simulator.break_tokens(user, "revoke")
    with pytest.raises(Refused):
        await process.call(account)
    assert await read_state() == ("reconnect_required", HealthCode.TOKEN_REVOKED)


async def test_a_lost_answer_of_a_single_use_token_costs_the_account_only_at_its_expiry(
    process: Process, simulator: Simulator, user: str, account: UUID, database: Database
) -> None:
    simulator.change_settings(single_use=True)
    simulator.set_faults("cut_after", operation=TOKEN_REQUESTS, count=1)
    with pytest.raises(AnswerLost):
        await process.refresh(account)
    with pytest.raises(Refused):
        await process.refresh(account)
    assert (await process.find(account)).health_code is HealthCode.REFRESH_FAILED
    assert len(await process.call(account)) == 3

    simulator.break_tokens(user, "expire_access")
    await make_expired(database, account)
    with pytest.raises(Refused):
        await process.call(account)
    row = await read_row(database, account)
    assert row["health_code"] == HealthCode.TOKEN_REVOKED
    assert 23.9 < row["seconds_to_refresh"] / 3600 <= 24  # the app may be to blame


@pytest.mark.parametrize("kind", ["cut_before", "cut_after", "error_before", "error_after"])
async def test_a_call_whose_token_could_not_be_refreshed_was_not_sent(
    process: Process, simulator: Simulator, user: str, account: UUID, kind: str
) -> None:
    simulator.break_tokens(user, "expire_access")
    simulator.set_faults(kind, operation=TOKEN_REQUESTS, count=1)
    with pytest.raises(NotSent):
        await process.call(account)
    assert (await process.find(account)).health_code is HealthCode.REFRESH_FAILED
    assert len(await process.call(account)) == 3


async def test_a_revoked_account_is_given_up_until_its_user_connects_it_again(
    process: Process,
    simulator: Simulator,
    workspace: Workspace,
    user: str,
    account: UUID,
    database: Database,
) -> None:
    simulator.break_tokens(user, "revoke")
    with pytest.raises(Refused) as refused:
        await process.call(account)
    assert refused.value.cause is Cause.TOKEN
    assert (await process.find(account)).health_code is HealthCode.TOKEN_REVOKED
    await make_due(database, account)
    await process.sweep.run_once()
    row = await read_row(database, account)
    assert row["health_code"] == HealthCode.TOKEN_REVOKED
    assert 23.9 < row["seconds_to_refresh"] / 3600 <= 24

    await process.connect(simulator, workspace.id, user, account)
    assert (await process.find(account)).health_code is None
    assert len(await process.call(account)) == 3


async def test_an_expired_refresh_token_is_not_tried_for_ever(
    process: Process, simulator: Simulator, user: str, account: UUID, database: Database
) -> None:
    simulator.break_tokens(user, "expire_refresh")
    await execute(
        database,
        "update access.connections set token_expires_at = now(), refresh_expires_at = now()"
        " where account_id = :id",
        account,
    )
    await make_due(database, account)
    await process.sweep.run_once()
    row = await read_row(database, account)
    assert row["health_code"] == HealthCode.TOKEN_EXPIRED
    assert row["refresh_at"] is None


async def test_a_wrong_app_secret_loses_no_account(
    process: Process,
    simulator: Simulator,
    account: UUID,
    database: Database,
    database_url: str,
) -> None:
    wrong = make_settings(simulator, pinterest_app_secret=SecretStr("wrong"))
    async with running_process(database_url, wrong) as misconfigured:
        await make_expired(database, account)
        with pytest.raises(Refused):
            await misconfigured.call(account)
    assert (await process.find(account)).health_code is HealthCode.TOKEN_REVOKED
    await make_due(database, account)  # a day later
    await process.sweep.run_once()
    assert (await process.find(account)).health_code is None
    assert len(await process.call(account)) == 3


@pytest.mark.parametrize("kind", ["error_before", "cut_after", "rate_limit"])
async def test_a_passing_fault_of_a_refresh_does_not_say_that_the_account_was_revoked(
    process: Process, simulator: Simulator, account: UUID, database: Database, kind: str
) -> None:
    handout = TokenHandout(
        UsableConnections(process.repository, make_settings(simulator), process.link)
    )
    await make_expired(database, account)
    simulator.set_faults(kind, operation=TOKEN_REQUESTS)
    with pytest.raises(NotSent):
        await handout.get(account)
    assert (await process.find(account)).health_code is HealthCode.REFRESH_FAILED


async def test_a_refusal_of_tokens_that_were_replaced_does_not_say_that_the_account_was_revoked(
    process: Process, simulator: Simulator, account: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    usable = UsableConnections(process.repository, make_settings(simulator), process.link)

    async def refuse(*_: object) -> None:
        """Stands for a check right before the user connected the account again."""
        raise Refused("tokens", "no", status=401, code=None, cause=Cause.TOKEN)

    monkeypatch.setattr(usable, "open", refuse)
    with pytest.raises(NotSent):
        await TokenHandout(usable).get(account)


async def test_a_rate_limit_of_the_token_endpoint_is_waited_out(
    process: Process, simulator: Simulator, account: UUID, database: Database
) -> None:
    simulator.set_faults("rate_limit", operation=TOKEN_REQUESTS, seconds=300)
    with pytest.raises(NotSent):
        await process.refresh(account)
    row = await read_row(database, account)
    assert row["health_code"] == HealthCode.REFRESH_FAILED
    assert 60 < row["seconds_to_refresh"] <= 300


async def test_tokens_are_encrypted_again_after_a_change_of_keys(
    process: Process,
    simulator: Simulator,
    account: UUID,
    database: Database,
    database_url: str,
) -> None:
    old, new = simulator.token_key, Fernet.generate_key().decode()
    requests = len(simulator.control("GET", "requests"))
    both = make_settings(simulator, pinterest_token_keys=SecretStr(f"{new},{old}"))
    async with running_process(database_url, both) as rotating:
        while await rotating.sweep.reseal():
            pass
    assert len(simulator.control("GET", "requests")) == requests
    with pytest.raises(TokenKeyMissing):
        await process.call(account)
    only_new = make_settings(simulator, pinterest_token_keys=SecretStr(new))
    async with running_process(database_url, only_new) as rotated:
        assert len(await rotated.call(account)) == 3
        assert (await rotated.find(account)).token_version == 1
    back = make_settings(simulator, pinterest_token_keys=SecretStr(f"{old},{new}"))
    async with running_process(database_url, back) as rotating:
        while await rotating.sweep.reseal():
            pass


async def test_a_missing_key_is_no_fault_of_the_account(
    process: Process,
    simulator: Simulator,
    account: UUID,
    database: Database,
    database_url: str,
) -> None:
    other = SecretStr(Fernet.generate_key().decode())
    settings = make_settings(simulator, pinterest_token_keys=other)
    async with running_process(database_url, settings) as without_key:
        with pytest.raises(TokenKeyMissing):
            await without_key.call(account)
        await make_due(database, account)
        await without_key.sweep.run_once()
        with pytest.raises(TokenKeyMissing):
            await without_key.refresh(account)
    row = await read_row(database, account)
    assert (row["health_code"], row["refresh_failures"], row["lease_until"]) == (None, 0, None)
    assert len(await process.call(account)) == 3


async def test_tokens_of_another_account_are_not_used(
    process: Process,
    simulator: Simulator,
    workspace: Workspace,
    account: UUID,
    database: Database,
) -> None:
    other = await process.connect(simulator, workspace.id, "tom")
    copy = text("""
        update access.tokens t set secret = o.secret from access.tokens o
        where t.account_id = :id and o.account_id = :other
    """)
    async with database.transaction() as connection:
        await connection.execute(copy, {"id": account, "other": other})
    with pytest.raises(TokenKeyMissing, match="another account"):
        await process.call(account)


async def test_a_lease_of_a_dead_process_ends(
    process: Process, account: UUID, database: Database
) -> None:
    assert await process.repository.claim(account, 1, lease_seconds=1) is not None
    assert await process.repository.claim(account, 1, lease_seconds=1) is None
    assert await process.service.refresh(account, 1) == 2


async def test_a_late_answer_does_not_replace_the_tokens_of_a_later_refresh(
    process: Process, simulator: Simulator, workspace: Workspace, user: str, account: UUID
) -> None:
    late = await process.repository.claim(account, 1, lease_seconds=0)
    assert late is not None
    assert await process.service.refresh(account, 1) == 2
    assert await process.link.refresher.complete(late) == 2
    assert (await process.find(account)).token_version == 2
    assert len(await process.call(account)) == 3


async def test_a_late_answer_is_stored_if_the_later_refresh_failed(
    process: Process, simulator: Simulator, account: UUID, database: Database
) -> None:
    late = await process.repository.claim(account, 1, lease_seconds=0)
    assert late is not None
    simulator.set_faults("cut_before", operation=TOKEN_REQUESTS, count=1)
    with pytest.raises(AnswerLost):
        await process.service.refresh(account, 1)
    assert await process.link.refresher.complete(late) == 2
    connection = await process.find(account)
    assert (connection.token_version, connection.health_code) == (2, None)
    assert (await read_row(database, account))["refresh_failures"] == 0


async def test_a_late_answer_does_not_replace_the_tokens_of_a_new_connection(
    process: Process, simulator: Simulator, workspace: Workspace, user: str, account: UUID
) -> None:
    late = await process.repository.claim(account, 1, lease_seconds=30)
    assert late is not None
    await process.service.disconnect(workspace.id, account)
    await process.connect(simulator, workspace.id, user)
    assert await process.repository.claim(account, 2, lease_seconds=0) is not None  # fence 1, too
    assert await process.link.refresher.complete(late) == 2
    assert len(await process.call(account)) == 3


async def test_a_caller_that_is_canceled_does_not_lose_the_new_tokens(
    process: Process, simulator: Simulator, account: UUID
) -> None:
    simulator.set_faults("slow", operation=TOKEN_REQUESTS, seconds=2)
    before = count_refreshes(simulator)
    canceled = asyncio.create_task(process.service.refresh(account, 1))
    await eventually(lambda: is_being_refreshed(process, account))
    canceled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await canceled
    await process.link.refresher.close()  # as at a stop of the process
    assert (await process.find(account)).token_version == 2
    assert await process.service.refresh(account, 1) == 2
    assert count_refreshes(simulator) == before + 1


async def test_the_app_owners_account_asks_for_a_new_token_with_the_apps_secret(
    process: Process, simulator: Simulator, workspace: Workspace, database: Database
) -> None:
    scope = "boards:read,boards:write,pins:read,pins:write,user_accounts:read"
    grant = await process.link.api.request_tokens(
        {"grant_type": "client_credentials", "scope": scope}
    )
    assert grant.refresh_token is None
    answer = simulator.call("GET", "/user_account", grant.access_token.get_secret_value()).json()
    owner = PinterestUser(answer["id"], answer["username"])
    account_id = await process.service.connect(
        NewConnection(workspace.id, None, grant, owner, "client_credentials")
    )
    assert await process.refresh(account_id) == 2
    assert len(await process.call(account_id)) > 0


async def test_a_missing_right_is_noted_if_the_user_did_not_allow_it(
    process: Process, simulator: Simulator, workspace: Workspace, user: str
) -> None:
    account_id = await process.connect(
        simulator, workspace.id, user, scopes="boards:read,user_accounts:read"
    )
    assert len(await process.call(account_id)) == 3
    with pytest.raises(Refused) as refused:
        await process.service.call(
            account_id, "boards/create", "POST", "/boards", document={"name": "Lamps"}
        )
    assert refused.value.cause is Cause.SCOPE
    assert (await process.find(account_id)).health_code is HealthCode.SCOPE_MISSING
    assert len(await process.call(account_id)) == 3
    assert (await process.find(account_id)).health_code is HealthCode.SCOPE_MISSING


async def test_an_account_of_another_mode_is_not_used(
    process: Process, simulator: Simulator, account: UUID, database_url: str
) -> None:
    sandbox = make_settings(
        simulator, pinterest_mode="sandbox", pinterest_api_url=f"{simulator.url}/v5"
    )
    before = len(simulator.control("GET", "requests"))
    async with running_process(database_url, sandbox) as other_mode:
        with pytest.raises(NotConnected, match="mode simulated"):
            await other_mode.call(account)
    assert len(simulator.control("GET", "requests")) == before
    assert (await process.find(account)).health_code is None


async def test_without_a_mode_nothing_is_sent(process: Process, simulator: Simulator) -> None:
    off = ConnectionService(
        process.repository, make_settings(simulator, pinterest_mode="off"), None
    )
    with pytest.raises(PinterestOff):
        await off.list_all(uuid4(), *BOARDS)


async def test_no_token_is_stored_in_clear(
    process: Process, simulator: Simulator, account: UUID, database: Database
) -> None:
    secrets: list[str] = simulator.control("GET", "tokens")
    row = await read_row(database, account)
    assert not [secret for secret in secrets if secret.encode() in row["secret"]]
    columns = str({name: value for name, value in row.items() if name != "secret"})
    assert not [secret for secret in secrets if secret in columns]


async def test_the_sweep_refreshes_what_is_due_and_counts_what_needs_a_person(
    process: Process, simulator: Simulator, account: UUID, database: Database
) -> None:
    await make_due(database, account)
    while await process.sweep.run_once():
        pass
    assert (await process.find(account)).token_version == 2
    counts = await process.repository.count(process.link.vault.key_ids)
    await execute(
        database,
        "update access.connections set health_code = 'token_revoked' where account_id = :id",
        account,
    )
    await execute(
        database, "update access.tokens set key_id = 'unknown' where account_id = :id", account
    )
    later = await process.repository.count(process.link.vault.key_ids)
    assert later.reconnect_required == counts.reconnect_required + 1
    assert later.unreadable == counts.unreadable + 1


async def test_accounts_of_another_mode_and_restored_ones_are_counted_too(
    process: Process,
    simulator: Simulator,
    workspace: Workspace,
    account: UUID,
    user: str,
    database: Database,
) -> None:
    async def count() -> int:
        counts = await process.repository.count(process.link.vault.key_ids)
        return counts.reconnect_required

    before = await count()
    change = "update access.connections set mode = '{}' where account_id = :id"
    await execute(database, change.format("sandbox"), account)
    assert await count() == before + 1
    await execute(database, change.format("simulated"), account)
    await process.service.disconnect(workspace.id, account)
    assert await count() == before
    await workspace.operator.restore_account(workspace.id, account)
    assert await count() == before + 1
    await process.connect(simulator, workspace.id, user)
    assert await count() == before


async def test_the_log_of_a_refusal_names_the_account(
    process: Process, simulator: Simulator, account: UUID
) -> None:
    simulator.set_faults("token", operation="boards/list", count=2)
    with capture_logs([structlog.contextvars.merge_contextvars]) as logs, pytest.raises(NotSent):
        await process.call(account)
    named = {entry["event"] for entry in logs if entry.get("account_id") == str(account)}
    assert {"pinterest_refused", "tokens_refreshed", "new_token_refused"} <= named


async def test_replicas_share_what_is_due(
    process: Process,
    other_process: Process,
    simulator: Simulator,
    workspace: Workspace,
    database: Database,
) -> None:
    accounts = []
    for _ in range(6):
        user = f"user-{uuid4().hex[:8]}"
        simulator.create_account(username=user, boards=1)
        accounts.append(await process.connect(simulator, workspace.id, user))
    before = count_refreshes(simulator)
    for account_id in accounts:
        await make_due(database, account_id)
    await asyncio.gather(process.sweep.run_once(), other_process.sweep.run_once())
    assert {(await process.find(account_id)).token_version for account_id in accounts} == {2}
    assert count_refreshes(simulator) == before + 6


async def test_a_process_that_was_frozen_sends_no_refresh(
    process: Process, simulator: Simulator, account: UUID
) -> None:
    claim = await process.repository.claim(account, 1, lease_seconds=30)
    assert claim is not None
    before = count_refreshes(simulator)
    frozen = replace(claim, claimed_at=claim.claimed_at - 6)
    with pytest.raises(NotSent, match="late"):
        await process.link.refresher.complete(frozen)
    assert count_refreshes(simulator) == before
    assert await process.service.refresh(account, 1) == 2


async def test_new_tokens_are_kept_while_postgres_is_down(
    process: Process,
    simulator: Simulator,
    account: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator.change_settings(single_use=True)
    claim = await process.repository.claim(account, 1, lease_seconds=30)
    assert claim is not None
    lock, failures = process.repository.lock, iter(range(3))

    def fail_first(claimed: RefreshClaim) -> Any:
        if next(failures, None) is not None:
            raise DatabaseUnavailable("down")
        return lock(claimed)

    monkeypatch.setattr(process.repository, "lock", fail_first)
    assert await process.link.refresher.complete(claim) == 2
    assert len(await process.call(account)) == 3


async def test_damaged_tokens_do_not_stop_the_sweep(
    process: Process,
    simulator: Simulator,
    workspace: Workspace,
    account: UUID,
    user: str,
    database: Database,
    database_url: str,
) -> None:
    new = Fernet.generate_key().decode()
    await execute(
        database, "update access.tokens set secret = 'damaged' where account_id = :id", account
    )
    await make_due(database, account)
    both = make_settings(simulator, pinterest_token_keys=SecretStr(f"{new},{simulator.token_key}"))
    async with running_process(database_url, both) as rotating:
        while await rotating.sweep.run_once():
            pass
        await process.service.disconnect(workspace.id, account)
    back = make_settings(simulator, pinterest_token_keys=SecretStr(f"{simulator.token_key},{new}"))
    async with running_process(database_url, back) as rotating:
        while await rotating.sweep.reseal():
            pass


async def test_old_attempts_to_connect_are_deleted(
    process: Process, workspace: Workspace, database: Database
) -> None:
    old, recent = uuid4(), uuid4()
    insert = text("""
        insert into access.oauth_attempts (id, workspace_id, expires_at)
        values (:old, :workspace_id, now() - interval '25 hours'),
            (:recent, :workspace_id, now() - interval '23 hours')
    """)
    values = {"old": old, "recent": recent, "workspace_id": workspace.id}
    async with database.transaction() as connection:
        await connection.execute(insert, values)
    while await process.sweep.run_once():
        pass
    query = text("select id from access.oauth_attempts where workspace_id = :id")
    rows = await database.fetch_all(query.bindparams(id=workspace.id))
    assert [row["id"] for row in rows] == [recent]
