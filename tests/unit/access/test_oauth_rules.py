"""An attempt to connect an account has one result, which every further callback gets."""

from typing import Any
from uuid import uuid4

import pytest

from services.access.connections.users import parse_user
from services.access.oauth.rules import (
    AttemptStatus,
    answer_again,
    find_status,
    permits_attempt,
    require_permitted_target,
)
from shared.access.model import Principal
from shared.contract.errors import ApiError
from shared.pinterest.failures import AnswerLost

ACCOUNT, OTHER = uuid4(), uuid4()


def attempt(**values: Any) -> dict[str, Any]:
    return {
        "id": uuid4(),
        "account_id": None,
        "connected_account_id": None,
        "error_code": None,
        "error_message": None,
        "is_expired": False,
        **values,
    }


def principal(*account_ids: Any) -> Principal:
    return Principal(uuid4(), uuid4(), frozenset(), frozenset(account_ids) or None)


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({}, AttemptStatus.PENDING),
        ({"is_expired": True}, AttemptStatus.EXPIRED),
        ({"connected_account_id": ACCOUNT, "is_expired": True}, AttemptStatus.CONNECTED),
        ({"error_code": "oauth_denied", "is_expired": True}, AttemptStatus.FAILED),
    ],
)
def test_a_result_outlasts_the_expiry(values: dict[str, Any], status: AttemptStatus) -> None:
    assert find_status(attempt(**values)) is status


def test_a_connected_attempt_answers_its_account_again() -> None:
    assert answer_again(attempt(connected_account_id=ACCOUNT)) == ACCOUNT


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("oauth_denied", 400),
        ("account_mismatch", 409),
        ("scope_missing", 409),
        ("pinterest_unavailable", 503),
        ("rate_limited", 429),
    ],
)
def test_a_failed_attempt_answers_its_error_again(code: str, status: int) -> None:
    with pytest.raises(ApiError) as error:
        answer_again(attempt(error_code=code, error_message="No."))
    assert (error.value.code, error.value.status, error.value.message) == (code, status, "No.")


@pytest.mark.parametrize(
    ("is_expired", "words"), [(True, "has expired"), (False, "is being processed right now")]
)
def test_an_attempt_without_a_result_is_used(is_expired: bool, words: str) -> None:
    with pytest.raises(ApiError, match=words) as error:
        answer_again(attempt(is_expired=is_expired))
    assert (error.value.code, error.value.status) == ("oauth_state_used", 409)


def test_a_key_for_some_accounts_must_name_the_account_to_connect() -> None:
    require_permitted_target(principal(), None)
    require_permitted_target(principal(ACCOUNT), ACCOUNT)
    with pytest.raises(ApiError) as error:
        require_permitted_target(principal(ACCOUNT), None)
    assert (error.value.code, error.value.status) == ("account_not_permitted", 403)


def test_a_key_for_some_accounts_sees_their_attempts_only() -> None:
    assert permits_attempt(principal(), attempt())
    assert permits_attempt(principal(ACCOUNT), attempt(account_id=ACCOUNT))
    assert not permits_attempt(principal(ACCOUNT), attempt(account_id=OTHER))
    assert not permits_attempt(principal(ACCOUNT), attempt(connected_account_id=ACCOUNT))


def test_a_user_has_an_id_and_a_printable_name() -> None:
    user = parse_user({"id": "885", "username": "ro\0sa", "account_type": "BUSINESS"})
    assert (user.id, user.username) == ("885", "ro\ufffdsa")
    assert parse_user({"id": "885"}).username == "885"


@pytest.mark.parametrize(
    "document", [None, [], {}, {"id": None}, {"id": 885}, {"id": ""}, {"id": "8" * 65}, {"id": "é"}]
)
def test_an_answer_without_a_user_proves_nothing(document: Any) -> None:
    with pytest.raises(AnswerLost):
        parse_user(document)
