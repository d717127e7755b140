"""The simulator injects faults: its log says what was done, whatever the client was told."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.simulator.test_pins import ids_of, pin_of, read_pages
from tests.support.simulator import APP_ID, APP_SECRET, Simulator

pytestmark = pytest.mark.processes


@pytest.fixture(autouse=True)
def _only_own_faults(simulator: Simulator) -> Iterator[None]:
    yield
    simulator.control("POST", "reset")


@pytest.fixture
def account(simulator: Simulator) -> dict[str, Any]:
    return simulator.create_account(boards=2)


@pytest.fixture
def token(simulator: Simulator, account: dict[str, Any]) -> str:
    return str(simulator.get_token(account["id"])["access_token"])


@pytest.fixture
def board(account: dict[str, Any]) -> str:
    return str(account["boards"][0])


def create_pin(simulator: Simulator, token: str, board: str, **changes: Any) -> httpx.Response:
    return simulator.call("POST", "/pins", token, json=pin_of(board, **changes))


def count_pins(simulator: Simulator, board: str) -> int:
    return len(simulator.control("GET", "pins", board_id=board))


@pytest.mark.parametrize(("kind", "pins"), [("cut_after", 1), ("cut_before", 0)])
def test_a_cut_connection_gives_no_answer(
    simulator: Simulator, token: str, board: str, kind: str, pins: int
) -> None:
    simulator.set_faults(kind, count=1)
    with pytest.raises(httpx.RemoteProtocolError):
        create_pin(simulator, token, board)

    assert count_pins(simulator, board) == pins
    assert create_pin(simulator, token, board).status_code == 201
    assert simulator.control("GET", "requests")[-2]["status"] is None


@pytest.mark.parametrize(("kind", "pins"), [("error_after", 1), ("error_before", 0)])
def test_an_error_hides_whether_the_pin_was_made(
    simulator: Simulator, token: str, board: str, kind: str, pins: int
) -> None:
    simulator.set_faults(kind)
    assert create_pin(simulator, token, board).status_code == 500
    assert count_pins(simulator, board) == pins


def test_the_log_counts_every_pin_under_mixed_faults(
    simulator: Simulator, token: str, board: str
) -> None:
    simulator.change_settings(buckets=False)
    for kind in ("cut_before", "cut_after", "error_before", "error_after"):
        simulator.set_faults(kind, share=0.1)
    created = 0
    for _ in range(200):
        try:
            created += create_pin(simulator, token, board).status_code == 201
        except httpx.RemoteProtocolError:
            continue

    fired = simulator.control("GET", "faults")["fired"]
    assert len(fired) == 4
    assert created + sum(fired.values()) == 200
    assert count_pins(simulator, board) == created + fired["cut_after"] + fired["error_after"]


def test_code_2787_is_met_with_and_without_a_pin(
    simulator: Simulator, token: str, board: str
) -> None:
    simulator.set_faults("internal")
    answers = [create_pin(simulator, token, board) for _ in range(30)]

    assert {answer.json()["code"] for answer in answers} == {2787}
    assert 0 < count_pins(simulator, board) < 30


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("spam_block", 429, 9),
        ("fetch", 400, 1),
        ("image_small", 403, 233),
        ("image_broken", 403, 235),
        ("token", 401, 2),
        ("trial_app", 403, 29),
        ("board_refused", 403, 29),
    ],
)
def test_a_refusal_makes_no_pin(
    simulator: Simulator, token: str, board: str, kind: str, status: int, code: int
) -> None:
    simulator.set_faults(kind)
    answer = create_pin(simulator, token, board)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert count_pins(simulator, board) == 0
    simulator.control("POST", "faults", {"kind": "none"})
    assert create_pin(simulator, token, board).status_code == 201


def test_a_rate_limit_says_how_long_to_wait(simulator: Simulator, token: str, board: str) -> None:
    simulator.set_faults("rate_limit", seconds=90)
    answer = create_pin(simulator, token, board)

    assert (answer.status_code, answer.json()["code"]) == (429, 8)
    assert answer.headers["x-ratelimit-reset"] == "90"
    assert answer.headers["x-ratelimit-remaining"] == "0"


def test_a_board_is_deleted_midway(simulator: Simulator, token: str, board: str) -> None:
    simulator.set_faults("board_deleted")

    assert create_pin(simulator, token, board).json()["code"] == 40
    assert simulator.call("GET", f"/boards/{board}", token).status_code == 404


def test_a_slow_answer_comes_after_the_pin_was_made(
    simulator: Simulator, token: str, board: str
) -> None:
    simulator.set_faults("slow", seconds=60, operation="pins/create")
    with pytest.raises(httpx.ReadTimeout):
        simulator.call("POST", "/pins", token, json=pin_of(board), timeout=0.2)
    simulator.set_faults("slow", seconds=0.2, operation="pins/create")

    assert create_pin(simulator, token, board).status_code == 201


def test_a_lost_answer_of_the_token_endpoint_leaves_the_old_refresh_token_alive(
    simulator: Simulator, account: dict[str, Any]
) -> None:
    refresh_token = simulator.get_token(account["id"])["refresh_token"]
    simulator.set_faults("cut_after", operation="oauth/token", account_id=account["id"], count=1)
    form = {"grant_type": "refresh_token", "refresh_token": refresh_token}

    with pytest.raises(httpx.RemoteProtocolError):
        simulator.request_token(**form)
    assert simulator.request_token(**form).status_code == 200


def test_a_fault_of_one_account_spares_the_others(
    simulator: Simulator, account: dict[str, Any], token: str, board: str
) -> None:
    simulator.set_faults("error_before", account_id=account["id"])
    other = simulator.create_account(boards=1)
    other_token = simulator.get_token(other["id"])["access_token"]

    assert create_pin(simulator, token, board).status_code == 500
    assert create_pin(simulator, other_token, other["boards"][0]).status_code == 201


def test_boards_meet_faults_that_name_their_operation(
    simulator: Simulator, token: str, board: str
) -> None:
    simulator.set_faults("error_after", operation="boards/delete")
    assert simulator.call("DELETE", f"/boards/{board}", token).status_code == 500
    assert simulator.call("GET", f"/boards/{board}", token).status_code == 404


def test_new_pins_are_late_in_lists_but_can_be_read(
    simulator: Simulator, token: str, board: str
) -> None:
    simulator.set_faults("late_list", seconds=3600)
    pin = create_pin(simulator, token, board).json()["id"]

    assert ids_of(read_pages(simulator, token, f"/boards/{board}/pins")) == []
    assert ids_of(read_pages(simulator, token, "/pins")) == []
    assert simulator.call("GET", f"/pins/{pin}", token).status_code == 200
    simulator.control("POST", "faults", {"kind": "none"})
    assert ids_of(read_pages(simulator, token, f"/boards/{board}/pins")) == [pin]


def test_a_shuffled_list_still_has_every_pin_once(
    simulator: Simulator, token: str, board: str
) -> None:
    made = [create_pin(simulator, token, board).json()["id"] for _ in range(30)]
    simulator.set_faults("shuffled_list")
    pages = read_pages(simulator, token, f"/boards/{board}/pins", page_size=5)

    assert ids_of(pages) != made[::-1]
    assert sorted(ids_of(pages)) == sorted(made)
    assert len({len(page) for page in pages}) > 1


def test_the_active_faults_and_their_number_are_shown(
    simulator: Simulator, token: str, board: str
) -> None:
    simulator.set_faults("error_before", share=0.5)
    statuses = [create_pin(simulator, token, board).status_code for _ in range(20)]

    shown = simulator.control("GET", "faults")
    assert shown["active"] == [{"kind": "error_before", "share": 0.5, "fired": statuses.count(500)}]
    assert shown["fired"] == {"error_before": statuses.count(500)}
    assert simulator.control("POST", "faults", {"kind": "none"})["active"] == []


def test_the_app_can_be_refused_at_the_token_endpoint_only_by_its_secret(
    simulator: Simulator, token: str
) -> None:
    """A fault of tokens is none of the token endpoint."""
    simulator.set_faults("token")
    form = {"grant_type": "client_credentials", "scope": "boards:read"}
    answer = simulator.http.post("/v5/oauth/token", data=form, auth=(APP_ID, APP_SECRET))

    assert answer.status_code == 200
    assert simulator.call("GET", "/boards", token).json()["code"] == 2
