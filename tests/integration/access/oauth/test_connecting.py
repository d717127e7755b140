"""Accounts are connected by OAuth, each attempt once, whatever is lost on the way."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from services.access.app import create_app
from services.access.oauth.rules import START_AGAIN
from services.access.oauth.service import MAX_ATTEMPTS_IN_PROGRESS
from shared.postgres.database import Database
from tests.integration.access.oauth.conftest import CALLBACK, TOKEN, Pinflow, read_error
from tests.integration.conftest import Workspace, make_workspace
from tests.support.connections import make_access_settings
from tests.support.infrastructure import with_role
from tests.support.services import running_app
from tests.support.simulator import Simulator

pytestmark = pytest.mark.asyncio(loop_scope="module")

TOKEN_PATH, USER_PATH = "/v5/oauth/token", "/v5/user_account"
CLOSED = "http://127.0.0.1:1/v5"
"""No program listens there."""


async def read_connection(database: Database, account_id: str) -> dict[str, Any]:
    query = text("select * from access.connections where account_id = :id").bindparams(
        id=UUID(account_id)
    )
    row = await database.fetch_first(query)
    assert row is not None
    return dict(row)


async def execute(database: Database, statement: str, **values: Any) -> None:
    async with database.transaction() as connection:
        await connection.execute(text(statement), values)


async def test_a_new_account_is_connected_and_has_the_boards_of_its_user(pinflow: Pinflow) -> None:
    consent = await pinflow.consent("rosa")
    pending = (await pinflow.get_attempt(consent.attempt_id)).json()
    assert (pending["status"], pending["account_id"]) == ("pending", None)
    answer = await pinflow.call_back(consent)
    account_id = answer.json()["account_id"]
    assert answer.json() == {
        "status": "connected",
        "message": "The account is connected to Pinterest.",
        "account_id": account_id,
    }
    account = (await pinflow.list_accounts())[account_id]
    rosa = next(user for user in pinflow.simulator.list_accounts() if user["username"] == "rosa")
    assert (account["pinterest_user_id"], account["username"]) == (rosa["id"], "rosa")
    assert (account["health_status"], account["missing_scopes"]) == ("healthy", [])
    assert account["token_expires_at"] is not None
    boards = await pinflow.http.get(
        f"/v1/pinterest/boards?account_id={account_id}", headers=pinflow.headers
    )
    assert {board["id"] for board in boards.json()} == set(rosa["boards"])
    connected = (await pinflow.get_attempt(consent.attempt_id)).json()
    assert (connected["status"], connected["account_id"]) == ("connected", account_id)


async def test_a_user_is_one_account_of_a_workspace_and_may_be_in_several(
    pinflow: Pinflow, database: Database
) -> None:
    first = await pinflow.connect("rosa")
    assert await pinflow.connect("rosa") == first
    assert await pinflow.connect("tom") != first
    other = Pinflow(pinflow.http, pinflow.simulator, await make_workspace(database))
    elsewhere = await other.connect("rosa")
    assert elsewhere != first
    assert elsewhere not in await pinflow.list_accounts()


async def test_an_account_that_exists_is_connected_under_its_id(
    pinflow: Pinflow, workspace: Workspace
) -> None:
    before = (await pinflow.list_accounts())[str(workspace.account_id)]
    assert before["token_expires_at"] is None
    account_id = await pinflow.connect("rosa", account_id=workspace.account_id)
    assert account_id == str(workspace.account_id)
    assert list(await pinflow.list_accounts()) == [account_id]


async def test_another_user_cannot_take_over_an_account(
    pinflow: Pinflow, database: Database
) -> None:
    account_id = await pinflow.connect("rosa")
    before = await read_connection(database, account_id)
    consent = await pinflow.consent("tom", account_id=account_id)
    refused = await pinflow.call_back(consent)
    assert read_error(refused) == (409, "account_mismatch")
    assert read_error(await pinflow.call_back(consent)) == (409, "account_mismatch")
    assert await read_connection(database, account_id) == before
    attempt = (await pinflow.get_attempt(consent.attempt_id)).json()
    assert (attempt["status"], attempt["code"]) == ("failed", "account_mismatch")
    assert attempt["message"] == refused.json()["detail"]["message"]


async def test_a_user_who_denies_the_access_connects_nothing(pinflow: Pinflow) -> None:
    before = await pinflow.list_accounts()
    consent = await pinflow.consent("rosa", allow=False)
    answer = await pinflow.call_back(consent)
    assert read_error(answer) == (400, "oauth_denied")
    assert "access_denied" in answer.json()["detail"]["message"]
    assert (await pinflow.get_attempt(consent.attempt_id)).json()["status"] == "failed"
    allowed = await pinflow.http.get(
        CALLBACK, params={"state": consent.parameters["state"], "code": "now-it-is-allowed"}
    )
    assert read_error(allowed) == (400, "oauth_denied")
    assert await pinflow.list_accounts() == before


async def test_a_repeated_callback_gets_the_same_answer_and_does_nothing(
    pinflow: Pinflow, database: Database
) -> None:
    consent = await pinflow.consent("rosa")
    first = await pinflow.call_back(consent)
    exchanges = pinflow.count_requests(TOKEN_PATH)
    before = await read_connection(database, first.json()["account_id"])
    for parameters in (
        consent.parameters,
        {**consent.parameters, "code": "another"},
        {"state": consent.parameters["state"], "error": "access_denied"},
    ):
        again = await pinflow.http.get(CALLBACK, params=parameters)
        assert (again.status_code, again.json()) == (200, first.json())
    assert pinflow.count_requests(TOKEN_PATH) == exchanges
    assert await read_connection(database, first.json()["account_id"]) == before


async def test_of_callbacks_at_the_same_time_one_exchanges_the_code(pinflow: Pinflow) -> None:
    exchanges = pinflow.count_requests(TOKEN_PATH)
    consent = await pinflow.consent("tom")
    answers = await asyncio.gather(*(pinflow.call_back(consent) for _ in range(8)))
    assert pinflow.count_requests(TOKEN_PATH) == exchanges + 1
    connected = {answer.json()["account_id"] for answer in answers if answer.is_success}
    assert len(connected) == 1
    assert {read_error(answer) for answer in answers if not answer.is_success} <= {
        (409, "oauth_state_used")
    }


async def test_an_expired_attempt_connects_nothing(pinflow: Pinflow, database: Database) -> None:
    consent = await pinflow.consent("rosa")
    exchanges = pinflow.count_requests(TOKEN_PATH)
    await execute(
        database,
        "update access.oauth_attempts set expires_at = now() where id = :id",
        id=UUID(consent.attempt_id),
    )
    answer = await pinflow.call_back(consent)
    assert read_error(answer) == (409, "oauth_state_used")
    assert "has expired" in answer.json()["detail"]["message"]
    assert (await pinflow.get_attempt(consent.attempt_id)).json()["status"] == "expired"
    assert pinflow.count_requests(TOKEN_PATH) == exchanges


@pytest.mark.parametrize("kind", ["cut_before", "cut_after", "error_before", "error_after"])
async def test_after_a_lost_exchange_the_user_starts_again(pinflow: Pinflow, kind: str) -> None:
    consent = await pinflow.consent("rosa")
    pinflow.simulator.set_faults(kind, operation="oauth/token")
    answer = await pinflow.call_back(consent)
    assert read_error(answer) == (503, "pinterest_unavailable")
    assert START_AGAIN in answer.json()["detail"]["message"]
    pinflow.simulator.control("POST", "faults", {"kind": "none"})
    assert read_error(await pinflow.call_back(consent)) == (503, "pinterest_unavailable")
    assert (await pinflow.get_attempt(consent.attempt_id)).json()["status"] == "failed"
    await pinflow.connect("rosa")


async def test_a_code_that_was_not_sent_can_be_sent_later(
    pinflow: Pinflow, simulator: Simulator, database_url: str
) -> None:
    consent = await pinflow.consent("rosa")
    settings = make_access_settings(
        simulator,
        with_role(database_url, "pinflow_access"),
        pinterest_api_url=CLOSED,
        replica="1",
    )
    async with running_app(create_app(settings)) as unreachable:
        answer = await unreachable.get(CALLBACK, params=consent.parameters)
    assert read_error(answer) == (503, "pinterest_unavailable")
    assert answer.headers["retry-after"]
    assert (await pinflow.get_attempt(consent.attempt_id)).json()["status"] == "pending"
    assert (await pinflow.call_back(consent)).status_code == 200


async def test_the_question_who_the_user_is_survives_a_lost_answer(pinflow: Pinflow) -> None:
    consent = await pinflow.consent("rosa")
    pinflow.simulator.set_faults("cut_after", operation="user_account/get", count=2)
    assert (await pinflow.call_back(consent)).status_code == 200


async def test_without_an_answer_who_the_user_is_nothing_is_connected(pinflow: Pinflow) -> None:
    before = await pinflow.list_accounts()
    consent = await pinflow.consent("rosa")
    pinflow.simulator.set_faults("cut_after", operation="user_account/get")
    answer = await pinflow.call_back(consent)
    assert read_error(answer) == (503, "pinterest_unavailable")
    assert START_AGAIN in answer.json()["detail"]["message"]
    assert await pinflow.list_accounts() == before


async def test_boards_that_cannot_be_read_do_not_prevent_a_connection(pinflow: Pinflow) -> None:
    consent = await pinflow.consent("rosa")
    pinflow.simulator.set_faults("error_before", operation="boards/list")
    account_id = (await pinflow.call_back(consent)).json()["account_id"]
    account = (await pinflow.list_accounts())[account_id]
    assert (account["health_status"], account["reconnect_required"]) == ("degraded", False)


async def test_rights_that_the_user_did_not_allow_are_named(pinflow: Pinflow) -> None:
    consent = await pinflow.consent("rosa", scope="boards:read,user_accounts:read")
    account_id = (await pinflow.call_back(consent)).json()["account_id"]
    account = (await pinflow.list_accounts())[account_id]
    assert account["missing_scopes"] == ["boards:write", "pins:read", "pins:write"]
    assert account["health_message"] == (
        "The account lacks these rights: boards:write, pins:read, pins:write. Connect it again to "
        "allow them."
    )


async def test_without_the_right_to_see_the_user_nothing_is_connected(pinflow: Pinflow) -> None:
    before = await pinflow.list_accounts()
    answer = await pinflow.call_back(await pinflow.consent("rosa", scope="boards:read"))
    assert read_error(answer) == (409, "scope_missing")
    assert "user_accounts:read" in answer.json()["detail"]["missing_scopes"]
    assert await pinflow.list_accounts() == before


async def test_a_key_for_one_account_connects_only_this_account(
    pinflow: Pinflow, workspace: Workspace
) -> None:
    mine, other = workspace.account_id, await workspace.add_account()
    limited = Pinflow(pinflow.http, pinflow.simulator, workspace)
    limited.headers = {"X-API-Key": await workspace.create_limited_key(mine)}
    assert read_error(await limited.start()) == (403, "account_not_permitted")
    assert read_error(await limited.start(account_id=other)) == (404, "not_found")
    assert await limited.connect("rosa", account_id=mine) == str(mine)
    of_all = await pinflow.consent("rosa")
    of_other = await pinflow.consent("rosa", account_id=other)
    for consent in (of_all, of_other):
        assert read_error(await limited.get_attempt(consent.attempt_id)) == (404, "not_found")


async def test_an_attempt_of_another_workspace_does_not_exist(
    pinflow: Pinflow, database: Database
) -> None:
    other = Pinflow(pinflow.http, pinflow.simulator, await make_workspace(database))
    consent = await other.consent("rosa")
    foreign = await pinflow.get_attempt(consent.attempt_id)
    absent = await pinflow.get_attempt(str(uuid4()))
    assert read_error(foreign) == (404, "not_found")
    assert foreign.json() == absent.json()
    assert read_error(await pinflow.start(account_id=other.workspace.account_id)) == (
        404,
        "not_found",
    )


async def test_unknown_and_repeated_parameters_of_a_start_are_refused(pinflow: Pinflow) -> None:
    assert read_error(await pinflow.start(acount_id=uuid4())) == (422, "unknown_parameter")
    account_id = str(pinflow.workspace.account_id)
    twice = await pinflow.start(account_id=[account_id, account_id])
    assert read_error(twice) == (422, "invalid_parameter")
    assert read_error(await pinflow.start(account_id="x")) == (404, "not_found")


async def test_attempts_in_progress_are_limited(pinflow: Pinflow, database: Database) -> None:
    await execute(
        database,
        "insert into access.oauth_attempts (id, workspace_id, expires_at)"
        " select gen_random_uuid(), :id, now() + interval '5 minutes'"
        " from generate_series(1, :count)",
        id=pinflow.workspace.id,
        count=MAX_ATTEMPTS_IN_PROGRESS - 1,
    )
    assert (await pinflow.start()).status_code == 200
    refused = await pinflow.start()
    assert read_error(refused) == (429, "overloaded")
    assert refused.headers["retry-after"]


async def test_without_an_app_nothing_can_be_connected(
    workspace: Workspace, database_url: str, pinflow: Pinflow
) -> None:
    state = (await pinflow.consent()).parameters["state"]
    settings = make_access_settings(
        pinflow.simulator,
        with_role(database_url, "pinflow_access"),
        pinterest_mode="off",
        replica="2",
    )
    async with running_app(create_app(settings)) as http:
        answers = [
            await http.get("/v1/pinterest/oauth/start", headers=workspace.headers),
            await http.get(CALLBACK, params={"state": state, "code": "x"}),
        ]
    assert [read_error(answer) for answer in answers] == [(409, "pinterest_off")] * 2


async def connect_owner(http: httpx.AsyncClient, token: str = TOKEN, **body: Any) -> httpx.Response:
    return await http.post(
        "/internal/pinterest/accounts", json=body, headers={"Authorization": f"Bearer {token}"}
    )


async def test_an_operator_connects_the_app_owners_account_without_a_redirect(
    pinflow: Pinflow, database: Database
) -> None:
    answer = await connect_owner(pinflow.http, workspace_id=str(pinflow.workspace.id))
    account_id = answer.raise_for_status().json()["account_id"]
    account = (await pinflow.list_accounts())[account_id]
    assert (account["health_status"], account["missing_scopes"]) == ("healthy", [])
    connection = await read_connection(database, account_id)
    assert (connection["grant_type"], connection["refresh_expires_at"]) == (
        "client_credentials",
        None,
    )
    again = await connect_owner(
        pinflow.http, workspace_id=str(pinflow.workspace.id), account_id=account_id
    )
    assert again.json() == {"account_id": account_id}


async def test_only_an_operator_connects_the_app_owners_account(pinflow: Pinflow) -> None:
    workspace_id = str(pinflow.workspace.id)
    assert read_error(await connect_owner(pinflow.http, "wrong", workspace_id=workspace_id)) == (
        403,
        "internal_access_denied",
    )
    assert read_error(await connect_owner(pinflow.http, workspace_id=str(uuid4()))) == (
        404,
        "not_found",
    )
    assert read_error(
        await connect_owner(pinflow.http, workspace_id=workspace_id, account_id=str(uuid4()))
    ) == (404, "not_found")


async def test_a_wrong_secret_of_the_app_is_not_blamed_on_the_user(
    pinflow: Pinflow, database_url: str
) -> None:
    before = await pinflow.list_accounts()
    settings = make_access_settings(
        pinflow.simulator,
        with_role(database_url, "pinflow_access"),
        internal_token=TOKEN,
        pinterest_app_secret=SecretStr("wrong"),
        replica="5",
    )
    consent = await pinflow.consent("rosa")
    async with running_app(create_app(settings)) as http:
        answer = await http.get(CALLBACK, params=consent.parameters)
        owner = await connect_owner(http, workspace_id=str(pinflow.workspace.id))
    for refused in (answer, owner, await pinflow.call_back(consent)):
        assert read_error(refused) == (409, "app_not_accepted")
        assert refused.json()["detail"]["message"] == (
            "Pinterest does not accept this installation's app. Nothing was connected. Ask the "
            "operator to check the app's id and secret."
        )
    assert await pinflow.list_accounts() == before
