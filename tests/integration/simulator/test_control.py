"""Tests look into the simulator and change it through /_simulator."""

from typing import Any

import httpx
import pytest

from tests.integration.simulator.test_pins import pin_of
from tests.support.simulator import Simulator

pytestmark = pytest.mark.processes


def refuse(simulator: Simulator, path: str, document: Any) -> httpx.Response:
    answer = simulator.http.post(f"/_simulator/{path}", json=document)
    assert 400 <= answer.status_code < 500
    assert answer.json()["message"]
    return answer


def test_an_account_is_created_with_boards(simulator: Simulator) -> None:
    account = simulator.create_account(boards=3, username="mara")

    assert account["username"] == "mara"
    assert len(account["boards"]) == 3
    assert simulator.list_accounts()[-1] == account
    assert refuse(simulator, "accounts", {"username": "mara"}).status_code == 409


def test_the_tokens_of_a_user_end(simulator: Simulator) -> None:
    account = simulator.create_account()
    tokens = simulator.get_token(account["id"])
    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}

    simulator.break_tokens(account["username"], "expire_access")
    assert simulator.call("GET", "/boards", tokens["access_token"]).json()["code"] == 2
    assert simulator.request_token(**form).status_code == 200
    simulator.break_tokens(account["id"], "revoke")
    assert simulator.request_token(**form).status_code == 401


def test_a_refresh_token_ends_before_its_access_token(simulator: Simulator) -> None:
    account = simulator.create_account()
    tokens = simulator.get_token(account["id"])
    simulator.break_tokens(account["id"], "expire_refresh")

    form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    assert simulator.request_token(**form).status_code == 401
    assert simulator.call("GET", "/boards", tokens["access_token"]).status_code == 200


def test_every_token_that_was_issued_is_listed(simulator: Simulator) -> None:
    tokens = simulator.get_token()
    assert {tokens["access_token"], tokens["refresh_token"]} <= set(
        simulator.control("GET", "tokens")
    )


def test_requests_are_remembered_without_secrets(simulator: Simulator) -> None:
    tokens = simulator.get_token()
    simulator.call("POST", "/boards?x=1", tokens["access_token"], json={"name": "Lamps"})
    simulator.http.get("/v5/unknown")

    exchange, board, unknown = simulator.control("GET", "requests")[-3:]
    assert exchange["body"]["code"] == "hidden"
    assert (board["method"], board["path"], board["operation"]) == (
        "POST",
        "/v5/boards",
        "boards/create",
    )
    assert (board["query"], board["body"], board["status"]) == ({"x": "1"}, {"name": "Lamps"}, 201)
    assert (unknown["operation"], unknown["status"]) == (None, 404)
    text = simulator.http.get("/_simulator/requests").text
    assert not [secret for secret in simulator.control("GET", "tokens") if secret in text]


def test_a_request_with_half_of_a_surrogate_pair_is_remembered(simulator: Simulator) -> None:
    token = simulator.get_token()["access_token"]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    simulator.http.post("/v5/boards", headers=headers, content=b'{"name": "\\ud800"}')

    assert simulator.control("GET", "requests")[-1]["body"] == {"name": "\ud800"}


def test_a_reset_forgets_pins_and_faults_but_no_tokens(simulator: Simulator) -> None:
    account = simulator.create_account(boards=1)
    token = simulator.get_token(account["id"])["access_token"]
    simulator.call("POST", "/pins", token, json=pin_of(account["boards"][0])).raise_for_status()
    simulator.set_faults("error_before")
    simulator.change_settings(single_use=True)
    simulator.control("POST", "reset")

    assert simulator.control("GET", "pins") == []
    assert simulator.control("GET", "requests") == []
    assert simulator.control("GET", "faults") == {"active": [], "fired": {}}
    assert simulator.control("GET", "settings")["single_use"] is False
    assert simulator.call("GET", "/boards", token).json()["items"][0]["id"] == account["boards"][0]


def test_a_reset_of_everything_starts_with_two_new_users(simulator: Simulator) -> None:
    token = simulator.get_token()["access_token"]
    simulator.control("POST", "reset", {"everything": True})

    assert [account["username"] for account in simulator.list_accounts()] == ["rosa", "tom"]
    assert simulator.call("GET", "/boards", token).status_code == 401
    assert simulator.control("GET", "tokens") == []


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("faults", {"kind": "unknown"}),
        ("faults", {"kind": "cut_after", "share": 2}),
        ("faults", []),
        ("settings", {"color": "red"}),
        ("settings", {"access": "full"}),
        ("settings", {"access_token_seconds": "30"}),
        ("tokens", {"user": "nobody", "action": "revoke"}),
        ("tokens", {"user": "rosa", "action": "steal"}),
        ("accounts", {"boards": -1}),
        ("reset", {"pins": True}),
    ],
)
def test_what_means_nothing_is_refused(simulator: Simulator, path: str, document: Any) -> None:
    refuse(simulator, path, document)
    assert refuse(simulator, path, document).headers["content-type"] == "application/json"
