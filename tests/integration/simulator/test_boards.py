"""The simulator keeps boards and sections, and lists them in pages."""

from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.simulator import Simulator

pytestmark = pytest.mark.processes

ALL_SCOPES = "boards:read,boards:write,boards:read_secret,boards:write_secret,user_accounts:read"


@pytest.fixture(scope="module")
def token(simulator: Simulator) -> str:
    return str(simulator.get_token()["access_token"])


def test_first_users_have_boards(simulator: Simulator) -> None:
    assert [account["username"] for account in simulator.list_accounts()] == ["rosa", "tom"]
    boards = [board for account in simulator.list_accounts() for board in account["boards"]]
    assert len(set(boards)) == 10
    assert all(len(board) == 18 and board.isdigit() for board in boards)


def test_a_list_of_boards_has_pages(simulator: Simulator) -> None:
    account = simulator.create_account(boards=7)
    token = simulator.get_token(account["id"])["access_token"]
    pages: list[list[str]] = []
    query: dict[str, Any] = {"page_size": 3}
    while True:
        page = simulator.call("GET", "/boards", token, params=query).json()
        pages.append([board["id"] for board in page["items"]])
        if page["bookmark"] is None:
            break
        query["bookmark"] = page["bookmark"]
    assert [len(page) for page in pages] == [3, 3, 1]
    assert [board for page in pages for board in page] == account["boards"]


@pytest.mark.parametrize(
    "query",
    [
        {"page_size": "0"},
        {"page_size": "251"},
        {"page_size": "9" * 30},
        {"page_size": "x"},
        {"bookmark": "x"},
        {"bookmark": "\xe4"},
        {"bookmark": "YWZ0ZXI6OTk5OTk5OTk5OTk5OTk5OTk5OTk5OQ=="},
        {"privacy": "OPEN"},
    ],
)
def test_an_invalid_parameter_is_refused(
    simulator: Simulator, token: str, query: Mapping[str, str]
) -> None:
    answer = simulator.call("GET", "/boards", token, params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, 1)


def test_a_board_is_created_changed_and_deleted(simulator: Simulator, token: str) -> None:
    created = simulator.call("POST", "/boards", token, json={"name": "Ideas"})
    assert created.status_code == 201
    board = created.json()
    assert board["owner"] == {"username": "rosa"}
    assert board["privacy"] == "PUBLIC"
    path = f"/boards/{board['id']}"
    changes = {"name": "More ideas", "description": "d"}
    changed = simulator.call("PATCH", path, token, json=changes).json()
    assert changed == {**board, **changes}
    assert simulator.call("GET", path, token).json() == changed
    assert simulator.call("DELETE", path, token).status_code == 204
    for method in ("GET", "DELETE"):
        answer = simulator.call(method, path, token)
        assert (answer.status_code, answer.json()["code"]) == (404, 40)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b'{"name": null}',
        b'{"name": 1}',
        b'{"name": ""}',
        b'{"name": "\\ud800"}',
        b'{"name": "n", "privacy": "OPEN"}',
        b'{"name": "n", "privacy": ["PUBLIC"]}',
        b'{"name": "n", "is_ads_only": 1}',
        b'{"name": "\xff"}',
        b'{"name": "' + b"n" * 181 + b'"}',
    ],
)
def test_an_invalid_body_is_refused(simulator: Simulator, token: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answer = simulator.http.post("/v5/boards", headers=headers, content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, 1)


@pytest.mark.parametrize("board_id", ["abc", "1a", "%20", "١"])
def test_a_board_id_has_digits_only(simulator: Simulator, token: str, board_id: str) -> None:
    answer = simulator.call("GET", f"/boards/{board_id}", token)
    assert answer.status_code == 400
    assert r"^\d+$" in answer.json()["message"]


def test_another_users_board_is_refused(simulator: Simulator) -> None:
    rosa, _ = simulator.list_accounts()[:2]
    token = simulator.get_token("tom")["access_token"]
    for method in ("GET", "DELETE"):
        answer = simulator.call(method, f"/boards/{rosa['boards'][0]}", token)
        assert (answer.status_code, answer.json()["code"]) == (403, 29)


def test_a_secret_board_needs_its_scopes(simulator: Simulator) -> None:
    account = simulator.create_account(boards=1)
    everything = simulator.get_token(account["id"], scopes=ALL_SCOPES)["access_token"]
    public = simulator.get_token(account["id"])["access_token"]
    document = {"name": "Secret", "privacy": "SECRET"}
    refused = simulator.call("POST", "/boards", public, json=document)
    assert (refused.status_code, refused.json()["code"]) == (401, 3)
    secret = simulator.call("POST", "/boards", everything, json=document).json()["id"]
    assert simulator.call("GET", f"/boards/{secret}", public).status_code == 404
    assert list_ids(simulator, public) == account["boards"]
    assert list_ids(simulator, everything) == [*account["boards"], secret]
    assert list_ids(simulator, everything, privacy="SECRET") == [secret]


def test_a_board_has_sections(simulator: Simulator, token: str) -> None:
    board = simulator.call("POST", "/boards", token, json={"name": "With sections"}).json()["id"]
    path = f"/boards/{board}/sections"
    created = [
        simulator.call("POST", path, token, json={"name": name}).json() for name in ("A", "B")
    ]
    page = simulator.call("GET", path, token, params={"page_size": 1}).json()
    assert page["items"] == created[:1]
    rest = simulator.call("GET", path, token, params={"bookmark": page["bookmark"]}).json()
    assert rest == {"items": created[1:], "bookmark": None}


def test_boards_and_users_count_their_pins(simulator: Simulator) -> None:
    account = simulator.create_account(boards=1)
    token = simulator.get_token(account["id"])["access_token"]
    media = {"source_type": "image_url", "url": "https://images.example/1.jpg"}
    document = {"board_id": account["boards"][0], "media_source": media}
    pins = [simulator.call("POST", "/pins", token, json=document).json() for _ in range(2)]
    assert count_pins(simulator, token) == (2, 2)
    simulator.call("DELETE", f"/pins/{pins[0]['id']}", token)
    assert count_pins(simulator, token) == (1, 1)
    simulator.call("DELETE", f"/boards/{account['boards'][0]}", token)
    assert simulator.call("GET", "/user_account", token).json()["pin_count"] == 0


def count_pins(simulator: Simulator, token: str) -> tuple[int, int]:
    """Returns the number of pins of the user's only board, and of the user."""
    (board,) = simulator.call("GET", "/boards", token).json()["items"]
    return board["pin_count"], simulator.call("GET", "/user_account", token).json()["pin_count"]


def list_ids(simulator: Simulator, token: str, **query: str) -> list[str]:
    page = simulator.call("GET", "/boards", token, params=query).json()
    return [board["id"] for board in page["items"]]
