"""An account's health says whether its connection works, and who can mend it."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.access.accounts.health import ConnectionPolicy, judge_health
from services.access.accounts.schemas import AccountResponse

NOW = datetime(2026, 11, 30, tzinfo=UTC)
START = "/v1/pinterest/oauth/start?account_id="
SCOPES = ("boards:read", "pins:write")
POLICY = ConnectionPolicy("simulated", SCOPES)


def account(connection: dict[str, Any] | None, **values: Any) -> dict[str, Any]:
    return {
        "id": UUID(int=1),
        "workspace_id": uuid4(),
        "display_name": "Rosa",
        "username": "rosa",
        "created_at": NOW,
        "updated_at": NOW,
        "revoked_at": None,
        "connection": connection,
        **values,
    }


def connection(**values: Any) -> dict[str, Any]:
    return {
        "mode": "simulated",
        "pinterest_user_id": "885",
        "scopes": list(SCOPES),
        "token_expires_at": NOW,
        "checked_at": NOW,
        "disconnected_at": None,
        "health_code": None,
        "health_message": None,
        "boards_message": None,
        **values,
    }


@pytest.mark.parametrize(
    ("row", "status", "is_reconnect_required", "words"),
    [
        (account(None), "healthy", False, None),
        (account(None, revoked_at=NOW), "revoked", True, None),
        (account(connection()), "healthy", False, None),
        (account(connection(), revoked_at=NOW), "revoked", True, "is disconnected"),
        (
            account(connection(disconnected_at=NOW)),
            "reconnect_required",
            True,
            f"is disconnected. Connect it again: GET {START}{UUID(int=1)}",
        ),
        (
            account(connection(mode="production")),
            "reconnect_required",
            True,
            "connected in the mode production, but this installation is in the mode simulated",
        ),
        (
            account(connection(health_code="token_revoked", health_message="Revoked.")),
            "reconnect_required",
            True,
            "Revoked.",
        ),
        (
            account(connection(health_code="token_expired", health_message="It expired.")),
            "reconnect_required",
            True,
            "It expired.",
        ),
        (
            account(connection(health_code="scope_missing", health_message="A right.")),
            "reconnect_required",
            True,
            "A right.",
        ),
        (
            account(connection(health_code="refresh_failed", health_message="Try later.")),
            "degraded",
            False,
            "Try later.",
        ),
        (account(connection(boards_message="No boards.")), "degraded", False, "No boards."),
        (
            account(connection(scopes=["boards:read"])),
            "healthy",
            False,
            "The account lacks these rights: pins:write. Connect it again to allow them.",
        ),
    ],
)
def test_the_health_of_an_account(
    row: dict[str, Any], status: str, is_reconnect_required: bool, words: str | None
) -> None:
    health = judge_health(row, POLICY)
    assert (health.status, health.is_reconnect_required) == (status, is_reconnect_required)
    assert health.message is None if words is None else words in str(health.message)


def test_an_account_without_a_connection_shows_its_own_id_and_default_scopes() -> None:
    answer = AccountResponse.from_row(account(None), POLICY)
    assert answer.pinterest_user_id == str(answer.id)
    assert answer.scopes == "boards:read,pins:read,pins:write"
    assert (answer.token_expires_at, answer.health_checked_at, answer.missing_scopes) == (
        None,
        None,
        [],
    )


def test_a_connected_account_shows_its_connection() -> None:
    answer = AccountResponse.from_row(account(connection(scopes=["boards:read"])), POLICY)
    assert (answer.pinterest_user_id, answer.scopes) == ("885", "boards:read")
    assert answer.missing_scopes == ["pins:write"]
    assert (answer.token_expires_at, answer.health_checked_at) == (NOW, NOW)


def test_a_disconnected_account_has_no_token() -> None:
    answer = AccountResponse.from_row(account(connection(disconnected_at=NOW)), POLICY)
    assert answer.token_expires_at is None
