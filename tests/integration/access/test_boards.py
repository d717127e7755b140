"""Accounts and boards over HTTP, with the access service's database role.

Clients change them, and publishing follows the changes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import pytest_asyncio
from pinbridge_sdk.models.pinterest import (
    BoardAccessResponse,
    BoardResponse,
    PinterestAccountResponse,
)
from sqlalchemy import select, text

from deploy.administration import OperatorRepository, create_key
from services.access.app import create_app
from services.access.boards.repository import BoardRepository, TooManyBoards
from services.access.config import AccessSettings
from shared.access.keys import Scope
from shared.access.tables import accounts as accounts_table
from shared.postgres.database import Database
from tests.integration.conftest import Workspace, make_workspace
from tests.integration.publisher.conftest import serving
from tests.support.factories import BOARD, submitted_row
from tests.support.infrastructure import with_role
from tests.support.services import running_app
from tests.support.waiting import eventually

MAX_BOARDS = 4
WAITING = text(
    "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type "
    "= 'Lock'"
)
Headers = dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    settings = AccessSettings(
        database_url=with_role(database_url, "pinflow_access"),
        max_boards_per_account=MAX_BOARDS,
    )
    async with running_app(create_app(settings)) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def publisher(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(with_role(database_url, "pinflow_publisher")) as client:
        yield client


async def create_key_headers(
    database: Database, workspace: Workspace, *scopes: Scope, account_ids: list[UUID] | None = None
) -> Headers:
    _, plain = await create_key(
        OperatorRepository(database),
        workspace.id,
        name="test",
        scopes=scopes or list(Scope),
        account_ids=account_ids or (),
    )
    return {"X-API-Key": plain}


async def create_board(
    http: httpx.AsyncClient,
    headers: Headers,
    account_id: UUID,
    key: str | None = None,
    **fields: Any,
) -> httpx.Response:
    body = {"account_id": str(account_id), "name": "Lamps", **fields}
    sent = httpx.Headers(headers | ({"Idempotency-Key": key} if key else {}), encoding="utf-8")
    return await http.post("/v1/pinterest/boards", json=body, headers=sent)


async def update_board(
    http: httpx.AsyncClient, headers: Headers, account_id: UUID, board_id: str, **fields: Any
) -> httpx.Response:
    return await http.patch(
        f"/v1/pinterest/boards/{board_id}",
        json={"account_id": str(account_id), **fields},
        headers=headers,
    )


async def delete_board(
    http: httpx.AsyncClient, headers: Headers, account_id: object, board_id: str
) -> httpx.Response:
    return await http.delete(
        f"/v1/pinterest/boards/{board_id}?account_id={account_id}", headers=headers
    )


async def check_access(
    http: httpx.AsyncClient, headers: Headers, account_id: object, board_id: str = BOARD
) -> httpx.Response:
    return await http.get(
        f"/v1/pinterest/boards/{board_id}/access?account_id={account_id}&fresh=true",
        headers=headers,
    )


async def list_boards(
    http: httpx.AsyncClient, headers: Headers, account_id: object
) -> httpx.Response:
    return await http.get(f"/v1/pinterest/boards?account_id={account_id}", headers=headers)


async def revoke(http: httpx.AsyncClient, headers: Headers, account_id: object) -> httpx.Response:
    return await http.delete(f"/v1/pinterest/accounts/{account_id}", headers=headers)


async def list_accounts(
    http: httpx.AsyncClient, headers: Headers
) -> list[PinterestAccountResponse]:
    answer = await http.get("/v1/pinterest/accounts", headers=headers)
    return [PinterestAccountResponse.model_validate(account) for account in answer.json()]


async def publish(
    publisher: httpx.AsyncClient, workspace: Workspace, board_id: str
) -> httpx.Response:
    body = submitted_row(account_id=str(workspace.account_id), board_id=board_id)
    return await publisher.post("/v1/pins", json=body, headers=workspace.headers)


def read_error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"]["code"]


async def test_a_new_board_can_be_published_to_at_once(
    http: httpx.AsyncClient, publisher: httpx.AsyncClient, workspace: Workspace
) -> None:
    answer = await create_board(
        http,
        workspace.headers,
        workspace.account_id,
        name="Rugs",
        description="Warm",
        privacy="SECRET",
    )
    board = BoardResponse.model_validate(answer.json())
    assert (answer.status_code, board.name, board.description, board.privacy) == (
        201,
        "Rugs",
        "Warm",
        "SECRET",
    )
    assert (len(board.id), board.id.isdigit()) == (18, True)
    assert (await publish(publisher, workspace, board.id)).status_code == 201
    assert (
        answer.json() in (await list_boards(http, workspace.headers, workspace.account_id)).json()
    )
    plain = (
        await create_board(
            http, workspace.headers, workspace.account_id, description="", privacy=None
        )
    ).json()
    assert (plain["description"], plain["privacy"]) == (None, "PUBLIC")


@pytest.mark.parametrize(
    "fields",
    [
        {"account_id": None},
        {"account_id": "one"},
        {"name": None},
        {"name": ""},
        {"name": "  "},
        {"name": "x" * 181},
        {"name": "a\0"},
        {"description": "x" * 501},
        {"description": "\0"},
        {"privacy": "public"},
        {"privacy": "FRIENDS"},
    ],
    ids=str,
)
async def test_invalid_fields_of_a_new_board_are_422(
    http: httpx.AsyncClient, workspace: Workspace, fields: dict[str, Any]
) -> None:
    body = {"account_id": str(workspace.account_id), "name": "Lamps", **fields}
    assert read_error(
        await http.post("/v1/pinterest/boards", json=body, headers=workspace.headers)
    ) == (422, "validation_error")
    assert len((await list_boards(http, workspace.headers, workspace.account_id)).json()) == 1


async def test_repeated_requests_with_one_idempotency_key_create_one_board(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    answers = await asyncio.gather(
        *(create_board(http, workspace.headers, workspace.account_id, "k") for _ in range(5))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.headers.get("idempotent-replayed") for answer in answers].count("true") == 4
    assert len((await list_boards(http, workspace.headers, workspace.account_id)).json()) == 2
    other = await workspace.add_account()
    assert (await create_board(http, workspace.headers, other, "k")).json()["id"] != answers[
        0
    ].json()["id"]
    assert read_error(await create_board(http, workspace.headers, other, "k" * 256)) == (
        422,
        "invalid_parameter",
    )


async def test_an_idempotency_key_is_utf8_without_surrounding_space(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    first, again = [
        await create_board(http, workspace.headers, workspace.account_id, key)
        for key in ("é" * 255, "\u00a0" + "é" * 255)
    ]
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")


async def test_an_idempotency_key_creates_a_deleted_board_again(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    first = (await create_board(http, workspace.headers, workspace.account_id, "k")).json()
    await delete_board(http, workspace.headers, workspace.account_id, first["id"])
    again = await create_board(http, workspace.headers, workspace.account_id, "k")
    assert (again.json(), "idempotent-replayed" in again.headers) == (first, False)


async def test_the_number_of_boards_is_limited(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    answers = await asyncio.gather(
        *(
            create_board(http, workspace.headers, workspace.account_id, str(number))
            for number in range(8)
        )
    )
    created = [number for number, answer in enumerate(answers) if answer.status_code == 201]
    assert len(created) == MAX_BOARDS - 1
    assert {read_error(answer) for answer in answers if answer.status_code != 201} == {
        (409, "too_many_boards")
    }
    assert (
        len((await list_boards(http, workspace.headers, workspace.account_id)).json()) == MAX_BOARDS
    )
    replayed = await create_board(http, workspace.headers, workspace.account_id, str(created[0]))
    assert replayed.headers["idempotent-replayed"] == "true"  # not counted again


async def test_boards_that_are_created_concurrently_do_not_exceed_the_limit(
    database: Database, workspace: Workspace
) -> None:
    repository = BoardRepository(database)

    async def try_to_create(number: int) -> bool:
        try:
            await repository.create_board(
                workspace.id, workspace.account_id, str(number), {"name": "x"}, limit=2
            )
        except TooManyBoards:
            return False
        return True

    async with database.transaction() as connection:
        await connection.execute(
            select(accounts_table)
            .where(accounts_table.c.id == workspace.account_id)
            .with_for_update()
        )
        requests = [asyncio.create_task(try_to_create(number)) for number in range(5)]

        async def are_all_waiting() -> bool:
            return await database.fetch_first(WAITING) == {"count": len(requests)}

        await eventually(are_all_waiting)
    assert sum(await asyncio.gather(*requests)) == 1  # besides the existing one


async def test_a_change_of_a_board_affects_only_the_fields_that_are_sent(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    board = (
        await create_board(http, workspace.headers, workspace.account_id, description="Warm")
    ).json()
    change = {"name": "Lights", "description": None, "privacy": None}
    for _ in range(2):  # a repetition has the same answer
        changed = (
            await update_board(http, workspace.headers, workspace.account_id, board["id"], **change)
        ).json()
        assert changed == {**board, "name": "Lights"}
    cleared = await update_board(
        http,
        workspace.headers,
        workspace.account_id,
        board["id"],
        description="",
        privacy="PROTECTED",
    )
    assert cleared.json() == {
        **board,
        "name": "Lights",
        "description": None,
        "privacy": "PROTECTED",
    }


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"name": None},
        {"unknown": 1},
        {"name": ""},
        {"privacy": ""},
        {"name": "x", "account_id": None},
    ],
    ids=str,
)
async def test_an_empty_or_invalid_change_is_422(
    http: httpx.AsyncClient, workspace: Workspace, fields: dict[str, Any]
) -> None:
    body = {"account_id": str(workspace.account_id), **fields}
    answer = await http.patch(f"/v1/pinterest/boards/{BOARD}", json=body, headers=workspace.headers)
    assert read_error(answer) == (422, "validation_error")


async def test_a_deleted_board_accepts_no_pins_and_existing_pins_keep_it(
    http: httpx.AsyncClient, publisher: httpx.AsyncClient, workspace: Workspace
) -> None:
    board_id = (await create_board(http, workspace.headers, workspace.account_id)).json()["id"]
    unused = (await create_board(http, workspace.headers, workspace.account_id)).json()["id"]
    pin = (await publish(publisher, workspace, board_id)).json()
    for gone in (board_id, unused):
        answer = await delete_board(http, workspace.headers, workspace.account_id, gone)
        assert (answer.status_code, answer.content) == (204, b"")
        assert read_error(
            await delete_board(http, workspace.headers, workspace.account_id, gone)
        ) == (
            404,
            "board_not_found",
        )
    assert (await publisher.get(f"/v1/pins/{pin['id']}", headers=workspace.headers)).json()[
        "board_id"
    ] == board_id
    assert read_error(await publish(publisher, workspace, unused)) == (
        422,
        "board_not_found",
    )  # the other board is cached for 30 seconds
    assert [
        board["id"]
        for board in (await list_boards(http, workspace.headers, workspace.account_id)).json()
    ] == [BOARD]


async def test_the_access_check_returns_the_reason(
    http: httpx.AsyncClient, workspace: Workspace
) -> None:
    good = BoardAccessResponse.model_validate(
        (await check_access(http, workspace.headers, workspace.account_id)).json()
    )
    assert (good.publishable, good.status, good.code, good.remediation, good.source) == (
        True,
        "ok",
        None,
        None,
        "store",
    )
    assert good.board is not None
    assert good.account_health is not None
    assert (good.account_id, good.board["id"], good.account_health["health_status"]) == (
        workspace.account_id,
        BOARD,
        "healthy",
    )
    for unknown in ("board-9", "%00", "x" * 300):
        bad = BoardAccessResponse.model_validate(
            (await check_access(http, workspace.headers, workspace.account_id, unknown)).json()
        )
        assert (bad.publishable, bad.status, bad.code, bad.board) == (
            False,
            "failed",
            "board_not_found",
            None,
        )
        assert bad.message
        assert bad.remediation
    await revoke(http, workspace.headers, workspace.account_id)
    revoked = BoardAccessResponse.model_validate(
        (await check_access(http, workspace.headers, workspace.account_id)).json()
    )
    assert (revoked.publishable, revoked.code) == (False, "token_revoked")
    assert revoked.account_health is not None
    assert revoked.account_health["reconnect_required"] is True


async def test_a_revoked_account_accepts_nothing_and_stays_in_the_list(
    http: httpx.AsyncClient, publisher: httpx.AsyncClient, workspace: Workspace, database: Database
) -> None:
    for _ in range(2):  # a repetition changes nothing
        answer = await revoke(http, workspace.headers, workspace.account_id)
        assert (answer.status_code, answer.content) == (204, b"")
        (account,) = await list_accounts(http, workspace.headers)
        assert account.revoked_at is not None
        assert (account.health_status, account.reconnect_required, account.updated_at) == (
            "revoked",
            True,
            account.revoked_at,
        )
    assert read_error(await publish(publisher, workspace, BOARD)) == (422, "account_not_found")
    assert read_error(await create_board(http, workspace.headers, workspace.account_id)) == (
        409,
        "token_revoked",
    )
    assert [
        board["id"]
        for board in (await list_boards(http, workspace.headers, workspace.account_id)).json()
    ] == [BOARD]
    assert await workspace.operator.restore_account(workspace.id, workspace.account_id)
    assert (await publish(publisher, workspace, BOARD)).status_code == 201


Attempt = Callable[[httpx.AsyncClient, Headers, UUID], Awaitable[httpx.Response]]

ATTEMPTS: dict[str, tuple[Attempt, tuple[int, str]]] = {
    "list boards": (list_boards, (404, "not_found")),
    "create a board": (create_board, (404, "not_found")),
    "change a board": (
        lambda http, headers, account: update_board(http, headers, account, BOARD, name="x"),
        (404, "board_not_found"),
    ),
    "delete a board": (
        lambda http, headers, account: delete_board(http, headers, account, BOARD),
        (404, "board_not_found"),
    ),
    "access": (check_access, (404, "not_found")),
    "revoke": (revoke, (404, "not_found")),
}


@pytest.mark.parametrize(("attempt", "expected"), ATTEMPTS.values(), ids=ATTEMPTS)
async def test_invariant_10_another_workspaces_account_does_not_exist(
    http: httpx.AsyncClient,
    workspace: Workspace,
    database: Database,
    attempt: Attempt,
    expected: tuple[int, str],
) -> None:
    owner = await make_workspace(database)
    foreign, absent = (
        await attempt(http, workspace.headers, owner.account_id),
        await attempt(http, workspace.headers, uuid4()),
    )
    assert read_error(foreign) == expected
    assert foreign.json() == absent.json()
    assert [
        (account.id, account.revoked_at) for account in await list_accounts(http, owner.headers)
    ] == [(owner.account_id, None)]
    (board,) = (await list_boards(http, owner.headers, owner.account_id)).json()
    assert (board["id"], board["name"]) == (BOARD, "Lamps")


@pytest.mark.parametrize(("attempt", "expected"), ATTEMPTS.values(), ids=ATTEMPTS)
async def test_an_account_that_is_not_on_a_keys_list_does_not_exist_for_it(
    http: httpx.AsyncClient,
    workspace: Workspace,
    database: Database,
    attempt: Attempt,
    expected: tuple[int, str],
) -> None:
    other = await workspace.add_account(BOARD)
    narrow = await create_key_headers(database, workspace, account_ids=[workspace.account_id])
    assert [account.id for account in await list_accounts(http, narrow)] == [workspace.account_id]
    hidden, absent = await attempt(http, narrow, other), await attempt(http, narrow, uuid4())
    assert read_error(hidden) == expected
    assert hidden.json() == absent.json()
    assert (await attempt(http, narrow, workspace.account_id)).is_success


@pytest.mark.parametrize("path", ["accounts/nothing", f"boards/{BOARD}?account_id=nothing"])
async def test_an_invalid_account_id_is_404(
    http: httpx.AsyncClient, workspace: Workspace, path: str
) -> None:
    assert read_error(await http.delete(f"/v1/pinterest/{path}", headers=workspace.headers)) == (
        404,
        "not_found",
    )


@pytest.mark.parametrize(
    ("name", "scopes"),
    [
        ("create a board", {Scope.WRITE}),
        ("change a board", {Scope.WRITE}),
        ("delete a board", {Scope.DESTRUCTIVE}),
        ("revoke", {Scope.DESTRUCTIVE}),
        ("access", {Scope.READ}),
    ],
)
async def test_each_operation_requires_its_scope(
    http: httpx.AsyncClient, workspace: Workspace, database: Database, name: str, scopes: set[Scope]
) -> None:
    attempt, _ = ATTEMPTS[name]
    for scope in Scope:
        answer = await attempt(
            http, await create_key_headers(database, workspace, scope), workspace.account_id
        )
        if scope in scopes:
            assert answer.is_success
        else:
            assert read_error(answer) == (403, "insufficient_scope")
