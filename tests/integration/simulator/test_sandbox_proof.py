"""`make pinterest-sandbox` proves the client, deletes what it made, and spares other hosts."""

from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from tests.support.simulator import SCOPES, Simulator
from tests.tools.sandbox.__main__ import TOKEN_VARIABLE, main

pytestmark = pytest.mark.processes

SECRET_SCOPES = (
    f"{SCOPES},boards:read_secret,boards:write_secret,pins:read_secret,pins:write_secret"
)
IMAGE = "https://cdn.shop.example/lamp.jpg"


class Operator:
    """Runs the command with the token of a new user of the simulator."""

    def __init__(self, simulator: Simulator, *, scopes: str = SECRET_SCOPES) -> None:
        self._simulator = simulator
        self.user = simulator.create_account(boards=1)
        self.token = simulator.get_token(self.user["id"], scopes)["access_token"]

    def run(self, *options: str) -> Result:
        fixed = ("--api-url", self._simulator.api_url, "--image-url", IMAGE, "--list-seconds", "5")
        return run_command(*fixed, *options, token=self.token)

    @property
    def pins(self) -> list[dict[str, Any]]:
        """Every pin that was ever made for the user."""
        pins = self._simulator.control("GET", "pins")
        return [pin for pin in pins if pin["account_id"] == self.user["id"]]

    @property
    def boards(self) -> list[str]:
        users = {user["id"]: user for user in self._simulator.list_accounts()}
        return list(users[self.user["id"]]["boards"])


def run_command(*options: str, token: str) -> Result:
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, options, env={TOKEN_VARIABLE: token})


@pytest.fixture
def operator(simulator: Simulator) -> Operator:
    return Operator(simulator)


def test_a_proof_passes_shows_the_limits_and_leaves_nothing_behind(operator: Operator) -> None:
    result = operator.run()
    assert result.exit_code == 0, result.output
    assert "Creates a board (SECRET)" in result.output
    assert "ok     the link's fragment is kept" in result.output
    assert "ok     found by its mark" in result.output
    assert "ok     found by its texts" in result.output
    assert "pins/create 201" in result.output
    assert "x-ratelimit-remaining=" in result.output
    assert "Nothing was left behind." in result.output
    (pin,) = operator.pins
    assert pin["deleted_at"] is not None
    assert operator.boards == operator.user["boards"]
    assert operator.token not in result.output


def test_a_pin_whose_answer_was_lost_is_found_and_deleted(
    simulator: Simulator, operator: Operator
) -> None:
    (board,) = operator.user["boards"]
    simulator.set_faults("error_after", account_id=operator.user["id"], count=1)
    result = operator.run("--board", board)
    assert result.exit_code == 1
    assert "FAILED: pins/create answered" in result.output
    assert "ok     found by its mark" in result.output
    (pin,) = operator.pins
    assert pin["deleted_at"] is not None
    assert operator.boards == [board]


def test_a_refused_pin_ends_the_proof_and_its_board_is_deleted(
    simulator: Simulator, operator: Operator
) -> None:
    simulator.set_faults("image_broken", account_id=operator.user["id"], count=1)
    result = operator.run()
    assert result.exit_code == 1
    assert "The proof ended early" in result.output
    assert operator.pins == []
    assert operator.boards == operator.user["boards"]


def test_a_token_without_rights_for_secret_boards_can_use_a_public_one(
    simulator: Simulator,
) -> None:
    operator = Operator(simulator, scopes=SCOPES)
    assert operator.run().exit_code == 1
    result = operator.run("--public")
    assert result.exit_code == 0, result.output
    assert operator.boards == operator.user["boards"]


@pytest.mark.parametrize(
    ("url", "token", "reason"),
    [
        ("https://api.pinterest.com/v5", "secret", "is not Pinterest's sandbox"),
        ("https://api-sandbox.pinterest.com/v5", "", f"Set {TOKEN_VARIABLE}"),
    ],
)
def test_another_host_or_a_missing_token_is_refused(url: str, token: str, reason: str) -> None:
    result = run_command("--api-url", url, token=token)
    assert result.exit_code == 2
    assert reason in result.output
    assert "Nothing was sent." in result.output
