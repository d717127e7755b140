"""Boards of connected accounts are created, changed and deleted at Pinterest first."""

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from services.access.app import create_app
from services.access.boards.request_repository import BoardClaim, BoardRequestRepository
from services.access.boards.rules import PinterestBoard
from services.access.connections.repository import ConnectionRepository
from shared.contract.errors import DatabaseUnavailable
from shared.postgres.database import Database
from tests.integration.access.boards.conftest import MAX_BOARDS, Connect, ConnectedAccount
from tests.integration.access.test_boards import (
    Headers,
    create_board,
    delete_board,
    list_boards,
    read_error,
    revoke,
    update_board,
)
from tests.integration.conftest import Workspace, make_workspace
from tests.support.connections import make_access_settings
from tests.support.infrastructure import with_role
from tests.support.services import running_app
from tests.support.waiting import eventually

pytestmark = pytest.mark.processes


def is_replay(answer: httpx.Response) -> bool:
    return "idempotent-replayed" in answer.headers


async def create(
    http: httpx.AsyncClient, account: ConnectedAccount, key: str | None = None, **fields: Any
) -> httpx.Response:
    return await create_board(http, account.headers, account.id, key, **fields)


async def test_a_board_is_created_at_pinterest_and_has_its_id(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    answer = await create(http, account, name="Rugs", description="Warm", privacy="PROTECTED")
    board = answer.json()
    assert answer.status_code == 201
    assert board == {
        "id": account.board_ids()[-1],
        "name": "Rugs",
        "description": "Warm",
        "privacy": "PROTECTED",
    }
    assert account.get_at_pinterest(board["id"])["description"] == "Warm"
    assert board in (await list_boards(http, account.headers, account.id)).json()


async def test_one_key_creates_one_board_at_pinterest(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    first = await create(http, account, "k", name="Rugs")
    again = await create(http, account, "k", name="Other")
    assert (first.status_code, is_replay(first)) == (201, False)
    assert (again.status_code, is_replay(again), again.json()) == (201, True, first.json())
    other = await create(http, account, "other", name="Rugs")
    assert other.json()["id"] != first.json()["id"]
    assert len(account.board_ids()) == account.first_boards + 2


async def test_concurrent_requests_with_one_key_create_one_board(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    answers = await asyncio.gather(*(create(http, account, "k") for _ in range(6)))
    created = [answer for answer in answers if answer.status_code == 201]
    assert len({answer.json()["id"] for answer in created}) == 1
    assert sum(not is_replay(answer) for answer in created) == 1
    for answer in answers:
        if answer.status_code != 201:
            assert read_error(answer) == (409, "request_in_progress")
            assert int(answer.headers["retry-after"]) > 0
    assert len(account.board_ids()) == account.first_boards + 1


async def test_a_board_whose_answer_was_lost_is_found_by_the_next_request(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    account.set_faults("cut_after", operation="boards/create", count=1)
    lost = await create(http, account, "k", name="Rugs")
    assert read_error(lost) == (503, "pinterest_unconfirmed")
    assert "with the same Idempotency-Key" in lost.json()["detail"]["message"]
    again = await create(http, account, "k", name="Rugs")
    assert (again.status_code, is_replay(again)) == (201, True)
    assert again.json()["id"] == account.board_ids()[-1]
    assert len(account.board_ids()) == account.first_boards + 1


async def test_a_board_that_was_not_created_is_created_by_the_next_request(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    account.set_faults("cut_before", operation="boards/create", count=2)
    for _ in range(2):
        lost = await create(http, account, "k")
        assert read_error(lost) == (503, "pinterest_unconfirmed")
        assert len(account.board_ids()) == account.first_boards
    again = await create(http, account, "k")
    assert (again.status_code, is_replay(again)) == (201, False)
    assert len(account.board_ids()) == account.first_boards + 1


async def test_another_board_of_the_name_is_not_taken_for_the_lost_one(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    older = await create(http, account, name="Rugs")
    account.set_faults("cut_before", operation="boards/create", count=1)
    await create(http, account, "k", name="Rugs")
    later = await create(http, account, name="Rugs")
    made = await create(http, account, "k", name="Rugs")
    assert not is_replay(made)
    assert len({answer.json()["id"] for answer in (older, later, made)}) == 3
    assert len(account.board_ids()) == account.first_boards + 3


async def test_the_board_of_a_process_that_died_is_found_after_its_claim_has_ended(
    http: httpx.AsyncClient, account: ConnectedAccount, database: Database
) -> None:
    async def insert_request(key: str, seconds: int) -> None:
        async with database.transaction() as connection:
            await connection.execute(
                text("""
                    insert into access.board_requests
                        (account_id, idempotency_key, name, started_at, busy_until)
                    values (:account_id, :key, 'Rugs', now() - interval '5 minutes',
                        now() + make_interval(secs => :seconds))
                """),
                {"account_id": account.id, "key": key, "seconds": seconds},
            )

    await insert_request("running", 60)
    refused = await create(http, account, "running", name="Rugs")
    assert read_error(refused) == (409, "request_in_progress")
    assert 0 < int(refused.headers["retry-after"]) <= 60
    await insert_request("ended", -1)
    board_id = account.create_at_pinterest(name="Rugs")
    found = await create(http, account, "ended", name="Rugs")
    assert (found.status_code, is_replay(found), found.json()["id"]) == (201, True, board_id)


async def test_two_requests_never_take_one_lost_board(
    account: ConnectedAccount, database: Database
) -> None:
    board_id = account.create_at_pinterest(name="Rugs")
    board = PinterestBoard(board_id, "Rugs", None, "PUBLIC", None)
    requests, claims = BoardRequestRepository(database), []
    for key in "ab":
        claim = await requests.claim(
            account.id, key, "Rugs", limit=MAX_BOARDS, lease=timedelta(minutes=1)
        )
        assert isinstance(claim, BoardClaim)
        claims.append(claim)
    found = await asyncio.gather(*(requests.complete(claim, board) for claim in claims))
    assert [row["board_id"] for row in found if row is not None] == [board_id]


async def test_an_outage_of_postgres_does_not_block_the_key(
    http: httpx.AsyncClient, account: ConnectedAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise DatabaseUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(ConnectionRepository, "open", fail)
        failed = await create(http, account, "k")
    assert read_error(failed) == (503, "database_unavailable")
    assert (await create(http, account, "k")).status_code == 201
    assert len(account.board_ids()) == account.first_boards + 1


async def test_a_board_that_could_not_be_stored_is_not_created_again(
    http: httpx.AsyncClient, account: ConnectedAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise DatabaseUnavailable("down")

    with monkeypatch.context() as patch:
        patch.setattr(BoardRequestRepository, "complete", fail)
        answers = [await create(http, account, "k"), await create(http, account, name="Rugs")]
    assert {read_error(answer) for answer in answers} == {(503, "pinterest_unconfirmed")}
    assert "GET /v1/pinterest/boards" in answers[1].json()["detail"]["message"]
    again = await create(http, account, "k")
    assert (again.status_code, is_replay(again)) == (201, True)
    assert len(account.board_ids()) == account.first_boards + 2


@pytest.mark.usefixtures("often_syncing")
async def test_a_lost_board_without_a_key_is_in_the_list_soon(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    account.set_faults("error_after", operation="boards/create", count=1)
    lost = await create(http, account, name="Rugs")
    assert read_error(lost) == (503, "pinterest_unconfirmed")
    assert "GET /v1/pinterest/boards" in lost.json()["detail"]["message"]

    async def is_listed() -> bool:
        boards = (await list_boards(http, account.headers, account.id)).json()
        return "Rugs" in {board["name"] for board in boards}

    await eventually(is_listed, seconds=30)


async def test_a_refused_board_leaves_its_key_free(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    refused = await create(http, account, "k", name="Rugs", privacy="SECRET")
    assert read_error(refused) == (409, "scope_missing")
    detail = refused.json()["detail"]
    assert detail["missing_scopes"] == ["boards:read_secret", "boards:write_secret"]
    assert "adds them to PINFLOW_PINTEREST_SCOPES" in detail["message"]
    created = await create(http, account, "k", name="Rugs")
    assert (created.status_code, is_replay(created)) == (201, False)


async def test_a_deleted_board_is_created_again_by_its_key(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    first = (await create(http, account, "k")).json()["id"]
    await delete_board(http, account.headers, account.id, first)
    again = await create(http, account, "k")
    assert (again.status_code, is_replay(again)) == (201, False)
    assert again.json()["id"] != first


async def test_the_limit_of_boards_is_checked_before_pinterest_is_asked(
    http: httpx.AsyncClient, workspace: Workspace, connect: Connect
) -> None:
    account = await connect(workspace, boards=MAX_BOARDS - 2)
    answers = await asyncio.gather(*(create(http, account, str(n)) for n in range(5)))
    created = [answer for answer in answers if answer.status_code == 201]
    assert len(created) == 2
    assert {read_error(answer) for answer in answers if answer.status_code != 201} == {
        (409, "too_many_boards")
    }
    assert len(account.board_ids()) == MAX_BOARDS
    replayed = await create(http, account, str(answers.index(created[0])))
    assert is_replay(replayed)


async def test_a_change_is_made_at_pinterest(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    board_id = (await create(http, account, description="Warm")).json()["id"]
    changed = await update_board(http, account.headers, account.id, board_id, name="Lights")
    assert changed.json() == {
        "id": board_id,
        "name": "Lights",
        "description": "Warm",
        "privacy": "PUBLIC",
    }
    assert account.get_at_pinterest(board_id)["name"] == "Lights"
    cleared = await update_board(http, account.headers, account.id, board_id, description="")
    assert (cleared.json()["name"], cleared.json()["description"]) == ("Lights", None)
    assert not account.get_at_pinterest(board_id)["description"]
    assert cleared.json() in (await list_boards(http, account.headers, account.id)).json()


async def test_a_board_can_not_become_protected(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    board_id = account.board_ids()[0]
    account.forget_requests()
    answer = await update_board(http, account.headers, account.id, board_id, privacy="PROTECTED")
    assert read_error(answer) == (422, "validation_error")
    assert account.requests() == []


async def test_a_board_that_pinterest_does_not_have_is_removed_by_a_change(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    board_id = account.board_ids()[0]
    account.delete_at_pinterest(board_id)
    for unknown in (board_id, "1" * 18, "board-1", "1" * 40):
        answer = await update_board(http, account.headers, account.id, unknown, name="x")
        assert read_error(answer) == (404, "board_not_found")
    boards = (await list_boards(http, account.headers, account.id)).json()
    assert board_id not in {board["id"] for board in boards}


async def test_a_change_whose_answer_was_lost_can_be_sent_again(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    board_id = account.board_ids()[0]
    account.set_faults("cut_after", operation="boards/update", count=1)
    lost = await update_board(http, account.headers, account.id, board_id, name="Lights")
    assert read_error(lost) == (503, "pinterest_unconfirmed")
    again = await update_board(http, account.headers, account.id, board_id, name="Lights")
    assert again.json()["name"] == "Lights"


async def test_a_deleted_board_is_gone_at_pinterest_and_in_the_store(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    board_id = account.board_ids()[0]
    answer = await delete_board(http, account.headers, account.id, board_id)
    assert (answer.status_code, answer.content) == (204, b"")
    assert board_id not in account.board_ids()
    assert len((await list_boards(http, account.headers, account.id)).json()) == (
        account.first_boards - 1
    )
    for gone in (board_id, "board-1", "%2e%2e"):
        again = await delete_board(http, account.headers, account.id, gone)
        assert read_error(again) == (404, "board_not_found")


async def test_a_board_that_is_gone_at_pinterest_can_be_deleted(
    http: httpx.AsyncClient, account: ConnectedAccount
) -> None:
    elsewhere, lost = account.board_ids()[:2]
    account.delete_at_pinterest(elsewhere)
    answer = await delete_board(http, account.headers, account.id, elsewhere)
    assert answer.status_code == 204
    account.set_faults("cut_after", operation="boards/delete", count=1)
    cut = await delete_board(http, account.headers, account.id, lost)
    assert "deleted or not" in cut.json()["detail"]["message"]
    assert read_error(cut) == (503, "pinterest_unconfirmed")
    assert (await delete_board(http, account.headers, account.id, lost)).status_code == 204


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("board_refused", (409, "board_access_denied")),
        ("rate_limit", (429, "rate_limited")),
        ("spam_block", (429, "rate_limited")),
        ("error_before", (503, "pinterest_unconfirmed")),
    ],
)
async def test_a_refusal_of_pinterest_changes_nothing(
    http: httpx.AsyncClient,
    account: ConnectedAccount,
    kind: str,
    expected: tuple[int, str],
) -> None:
    before = (await list_boards(http, account.headers, account.id)).json()
    board_id = before[0]["id"]
    account.set_faults(kind, operation="boards/*")
    answers = [
        await create(http, account, "k"),
        await update_board(http, account.headers, account.id, board_id, name="x"),
        await delete_board(http, account.headers, account.id, board_id),
    ]
    assert [read_error(answer) for answer in answers] == [expected] * 3
    if expected[0] in {429, 503}:
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
    assert (await list_boards(http, account.headers, account.id)).json() == before
    assert len(account.board_ids()) == account.first_boards


async def test_a_disconnected_account_keeps_its_boards_and_changes_none(
    http: httpx.AsyncClient, account: ConnectedAccount, workspace: Workspace
) -> None:
    board_id = account.board_ids()[0]
    await revoke(http, account.headers, account.id)
    account.forget_requests()
    assert read_error(await create(http, account)) == (409, "token_revoked")
    await workspace.operator.restore_account(workspace.id, account.id)
    answers = [
        await create(http, account, "k"),
        await update_board(http, account.headers, account.id, board_id, name="x"),
        await delete_board(http, account.headers, account.id, board_id),
    ]
    assert {read_error(answer) for answer in answers} == {(409, "account_not_connected")}
    assert account.requests() == []
    boards = (await list_boards(http, account.headers, account.id)).json()
    assert len(boards) == account.first_boards


async def test_without_pinterest_the_boards_of_a_connected_account_do_not_change(
    account: ConnectedAccount, database_url: str
) -> None:
    settings = make_access_settings(
        account.simulator,
        with_role(database_url, "pinflow_access"),
        pinterest_mode="off",
        replica="without-pinterest",
    )
    board_id = account.board_ids()[0]
    account.forget_requests()
    async with running_app(create_app(settings)) as off:
        answers = [
            await create(off, account),
            await update_board(off, account.headers, account.id, board_id, name="x"),
            await delete_board(off, account.headers, account.id, board_id),
        ]
        assert {read_error(answer) for answer in answers} == {(409, "pinterest_off")}
        assert len((await list_boards(off, account.headers, account.id)).json()) == (
            account.first_boards
        )
    assert account.requests() == []


ATTEMPTS: dict[str, Any] = {
    "create": create_board,
    "change": lambda http, headers, account_id: update_board(
        http, headers, account_id, "1" * 18, name="x"
    ),
    "delete": lambda http, headers, account_id: delete_board(http, headers, account_id, "1" * 18),
    "access": lambda http, headers, account_id: http.get(
        f"/v1/pinterest/boards/{'1' * 18}/access?account_id={account_id}", headers=headers
    ),
}


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
async def test_invariant_10_nobody_else_reaches_pinterest_through_a_connected_account(
    http: httpx.AsyncClient,
    account: ConnectedAccount,
    workspace: Workspace,
    database: Database,
    attempt: Any,
) -> None:
    foreign: Headers = (await make_workspace(database)).headers
    narrow = {"X-API-Key": await workspace.create_limited_key(workspace.account_id)}
    account.forget_requests()
    for headers in (foreign, narrow):
        hidden: httpx.Response = await attempt(http, headers, account.id)
        absent: httpx.Response = await attempt(http, headers, uuid4())
        assert hidden.status_code == 404
        assert hidden.json() == absent.json()
    assert account.requests() == []
