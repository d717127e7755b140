"""The simulator issues, refreshes, expires and refuses tokens."""

import sqlite3
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from deploy.local.layout import CHECKOUT
from tests.support.simulator import APP_ID, APP_SECRET, REDIRECT_URI, Simulator, running_simulator
from tests.support.waiting import eventually

pytestmark = pytest.mark.processes


@pytest.fixture(autouse=True)
def _first_settings(simulator: Simulator) -> Iterator[None]:
    """Ends what a test changes in the simulator's settings."""
    yield
    simulator.control("POST", "reset")


def test_a_code_is_exchanged_for_tokens(simulator: Simulator) -> None:
    token = simulator.get_token("tom", scopes="user_accounts:read,boards:read")
    assert token["response_type"] == "authorization_code"
    assert token["token_type"] == "bearer"
    assert token["scope"] == "boards:read user_accounts:read"
    assert token["expires_in"] == 30 * 24 * 60 * 60
    assert token["refresh_token_expires_in"] == 60 * 24 * 60 * 60
    assert token["access_token"].startswith("pina_")
    assert token["refresh_token"].startswith("pinr_")
    assert read_username(simulator, token) == "tom"


def test_a_code_works_once(simulator: Simulator) -> None:
    code = simulator.get_code()
    assert simulator.exchange_code(code).is_success
    assert refusal(simulator.exchange_code(code)) == (401, 283)


def test_a_code_works_only_with_its_redirect_url(simulator: Simulator) -> None:
    code = simulator.get_code()
    other = simulator.exchange_code(code, redirect_uri=f"{REDIRECT_URI}/other")
    assert refusal(other) == (401, 283)
    assert simulator.exchange_code(code).is_success


async def test_a_code_expires(simulator: Simulator) -> None:
    simulator.change_settings(code_seconds=0)
    assert refusal(simulator.exchange_code(simulator.get_code())) == (401, 283)


async def test_an_access_token_expires(simulator: Simulator) -> None:
    simulator.change_settings(access_token_seconds=1)
    token = simulator.get_token()
    answer = await eventually(lambda: read_refusal(simulator, token))
    assert answer == (401, 2)
    simulator.change_settings(access_token_seconds=3600)
    assert read_username(simulator, refresh(simulator, token).json()) == "rosa"


async def test_a_refresh_token_expires(simulator: Simulator) -> None:
    simulator.change_settings(refresh_token_seconds=0)
    token = simulator.get_token()
    assert refusal(refresh(simulator, token)) == (401, 28)
    assert read_username(simulator, token) == "rosa"


def test_a_lost_refresh_can_be_repeated(simulator: Simulator) -> None:
    first = simulator.get_token()
    lost = refresh(simulator, first).json()
    second = refresh(simulator, first).json()
    assert len({first["refresh_token"], lost["refresh_token"], second["refresh_token"]}) == 3
    assert read_username(simulator, second) == "rosa"


def test_a_refresh_token_ends_when_the_new_access_token_is_used(simulator: Simulator) -> None:
    first = simulator.get_token()
    second = refresh(simulator, first).json()
    assert read_username(simulator, second) == "rosa"
    assert refusal(refresh(simulator, first)) == (401, 283)
    assert refresh(simulator, second).is_success


def test_a_refused_use_of_the_new_access_token_ends_the_refresh_token_too(
    simulator: Simulator,
) -> None:
    first = simulator.get_token()
    second = refresh(simulator, first).json()
    assert simulator.call("GET", "/boards/1", second["access_token"]).status_code == 404
    assert refusal(refresh(simulator, first)) == (401, 283)


def test_the_old_access_token_works_after_a_refresh(simulator: Simulator) -> None:
    first = simulator.get_token()
    assert read_username(simulator, refresh(simulator, first).json()) == "rosa"
    assert read_username(simulator, first) == "rosa"


def test_a_refresh_token_is_single_use_if_set_so(simulator: Simulator) -> None:
    simulator.change_settings(single_use=True)
    first = simulator.get_token()
    assert refresh(simulator, first).is_success
    assert refusal(refresh(simulator, first)) == (401, 283)


def test_a_refresh_can_ask_for_fewer_scopes_but_not_for_more(simulator: Simulator) -> None:
    token = simulator.get_token(scopes="boards:read,user_accounts:read")
    fewer = refresh(simulator, token, scope="boards:read")
    assert fewer.json()["scope"] == "boards:read"
    assert refusal(refresh(simulator, token, scope="boards:read pins:write")) == (400, 1)


def test_client_credentials_give_the_app_owner_a_token_without_a_refresh(
    simulator: Simulator,
) -> None:
    token = simulator.request_token(
        grant_type="client_credentials", scope="user_accounts:read"
    ).json()
    assert "refresh_token" not in token
    assert read_username(simulator, token) == "rosa"


@pytest.mark.parametrize(
    ("credentials", "form", "expected"),
    [
        (f"{APP_ID}:wrong", {"grant_type": "client_credentials", "scope": "a"}, (401, 2)),
        (f"1:{APP_SECRET}", {"grant_type": "client_credentials"}, (401, 2)),
        (":", {"grant_type": "client_credentials", "scope": "boards:read"}, (401, 2)),
        (f"{APP_ID}:{APP_SECRET}", {"grant_type": ""}, (400, 1)),
        (f"{APP_ID}:{APP_SECRET}", {"grant_type": "password"}, (400, 1)),
        (f"{APP_ID}:{APP_SECRET}", {"grant_type": "client_credentials"}, (400, 1)),
        (f"{APP_ID}:{APP_SECRET}", {"grant_type": "refresh_token"}, (400, 1)),
        (f"{APP_ID}:{APP_SECRET}", {"grant_type": "authorization_code"}, (400, 1)),
    ],
)
def test_an_invalid_request_of_a_token_is_refused(
    simulator: Simulator,
    credentials: str,
    form: dict[str, str],
    expected: tuple[int, int],
) -> None:
    headers = {"Authorization": f"Basic {b64encode(credentials.encode()).decode()}"}
    answer = simulator.http.post("/v5/oauth/token", data=form, headers=headers)
    assert refusal(answer) == expected


def test_a_token_without_the_scope_is_refused(simulator: Simulator) -> None:
    token = simulator.get_token(scopes="boards:read")
    answer = simulator.call("POST", "/boards", token["access_token"], json={"name": "New"})
    assert refusal(answer) == (401, 3)
    assert "boards:write" in answer.json()["message"]


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer pina_forged", "Basic x", "Bearer \xff"])
def test_a_call_without_a_valid_token_is_refused(simulator: Simulator, header: str) -> None:
    headers = {b"Authorization": header.encode("latin-1")}
    assert refusal(simulator.http.get("/v5/boards", headers=headers)) == (401, 2)


def test_tokens_and_settings_survive_a_kill(tmp_path: Path) -> None:
    with running_simulator(data=tmp_path / "data" / "simulator.sqlite") as simulator:
        simulator.change_settings(access="trial")
        accounts = simulator.list_accounts()
        token = simulator.get_token()
        simulator.restart()
        assert simulator.list_accounts() == accounts
        assert read_username(simulator, token) == "rosa"
        assert refresh(simulator, token).is_success
        assert simulator.change_settings()["access"] == "trial"


def test_a_second_simulator_does_not_use_the_same_file(tmp_path: Path) -> None:
    data = tmp_path / "simulator.sqlite"
    with running_simulator(data=data):
        assert "Perhaps another simulator uses it" in start_in_vain(data)


def test_a_file_of_another_version_is_not_opened(tmp_path: Path) -> None:
    data = tmp_path / "simulator.sqlite"
    with closing(sqlite3.connect(data)) as connection:
        connection.execute("pragma user_version = 99")
    assert "is of another version of the simulator" in start_in_vain(data)


def test_a_file_of_another_kind_is_not_opened(tmp_path: Path) -> None:
    data = tmp_path / "notes.txt"
    data.write_text("Not a database. " * 100, encoding="utf-8")
    assert "it is not a file of the simulator" in start_in_vain(data)
    assert data.read_text(encoding="utf-8").startswith("Not a database.")


def test_an_error_has_a_code_a_message_and_the_request_id(simulator: Simulator) -> None:
    answer = simulator.http.get("/v5/no_such_path")
    assert answer.json() == {"code": 404, "message": "Not Found"}
    assert answer.headers["x-pinterest-rid"].isdigit()


def start_in_vain(data: Path) -> str:
    """Starts a simulator that ends at once, and returns its message."""
    command = [sys.executable, "-m", "deploy.simulator", "--port", "0", "--data", str(data)]
    ended = subprocess.run(command, check=False, cwd=CHECKOUT, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    return ended.stderr


def refresh(simulator: Simulator, token: dict[str, str], **form: str) -> httpx.Response:
    return simulator.request_token(
        grant_type="refresh_token", refresh_token=token["refresh_token"], **form
    )


def read_username(simulator: Simulator, token: dict[str, str]) -> str:
    answer = simulator.call("GET", "/user_account", token["access_token"])
    answer.raise_for_status()
    return str(answer.json()["username"])


def read_refusal(simulator: Simulator, token: dict[str, str]) -> tuple[int, int] | None:
    answer = simulator.call("GET", "/user_account", token["access_token"])
    return None if answer.is_success else refusal(answer)


def refusal(answer: httpx.Response) -> tuple[int, int]:
    """Returns the status and the code of an error."""
    document = answer.json()
    assert document.keys() == {"code", "message"}
    return answer.status_code, document["code"]
