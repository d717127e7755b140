"""Failures of connections become errors of the API: one status and one code each."""

from http import HTTPStatus
from uuid import UUID

import pytest

from services.access.connections.errors import Failure, answer_failures, build_api_error, quote
from services.access.connections.model import AccountMismatch, NotConnected, PinterestOff
from services.access.connections.vault import TokenKeyMissing
from shared.contract.errors import ApiError
from shared.pinterest.failures import AnswerLost, Cause, NotSent, Refused

BOARD = "123456789012345678"


def refused(cause: Cause, message: str = "Sorry.", retry_after: int | None = None) -> Refused:
    return Refused(
        "boards/get",
        message,
        status=400,
        code=1,
        cause=cause,
        retry_after_seconds=retry_after,
    )


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (NotSent("boards/list", "no connection"), 503, "pinterest_unavailable"),
        (AnswerLost("boards/list", "timeout"), 503, "pinterest_unavailable"),
        (TokenKeyMissing("key 0a1b2c3d"), 503, "pinterest_unavailable"),
        (NotConnected(UUID(int=1)), 409, "account_not_connected"),
        (PinterestOff("off"), 409, "pinterest_off"),
        (AccountMismatch("rosa, tom"), 409, "account_mismatch"),
        (refused(Cause.TOKEN), 409, "token_expired"),
        (refused(Cause.SCOPE), 409, "scope_missing"),
        (refused(Cause.APP), 409, "app_not_approved"),
        (refused(Cause.PERMISSION), 409, "board_access_denied"),
        (refused(Cause.NOT_FOUND), 404, "board_not_found"),
        (refused(Cause.RATE_LIMIT), 429, "rate_limited"),
        (refused(Cause.SPAM_BLOCK), 429, "rate_limited"),
        (refused(Cause.CONTENT), 422, "pinterest_refused"),
        (refused(Cause.FETCH), 422, "pinterest_refused"),
    ],
)
def test_a_failure_has_one_status_and_code(failure: Failure, status: int, code: str) -> None:
    error = build_api_error(failure)
    assert (error.status, error.code) == (status, code)
    must_wait = status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}
    assert ("Retry-After" in error.headers) == must_wait


def test_every_cause_of_a_refusal_has_an_error() -> None:
    for cause in Cause:
        assert isinstance(build_api_error(refused(cause)), ApiError)


def test_the_wait_is_the_one_that_pinterest_asks_for() -> None:
    waits = [
        build_api_error(refused(cause, retry_after=seconds)).headers["Retry-After"]
        for cause, seconds in (
            (Cause.RATE_LIMIT, 37),
            (Cause.RATE_LIMIT, None),
            (Cause.SPAM_BLOCK, None),
        )
    ]
    assert waits == ["37", "60", "3600"]


def test_the_message_names_the_board_and_the_missing_rights() -> None:
    denied = build_api_error(refused(Cause.PERMISSION), board_id=BOARD)
    assert denied.message == (
        f"Pinterest does not let this account use board {BOARD}. Ask its owner for access, or use "
        "another board."
    )
    missing = build_api_error(refused(Cause.SCOPE), missing_scopes=["pins:write", "boards:write"])
    assert "the rights boards:write and pins:write at Pinterest" in missing.message
    assert missing.details == {"missing_scopes": ["boards:write", "pins:write"]}


def test_rights_that_are_not_asked_for_are_the_operators_to_add() -> None:
    error = build_api_error(
        refused(Cause.SCOPE),
        missing_scopes=["boards:write_secret", "boards:read_secret"],
        asked_scopes=["boards:read", "boards:write"],
    )
    assert error.message == (
        "Secret boards need the rights boards:read_secret and boards:write_secret, which this "
        "installation does not ask for. The operator adds them to PINFLOW_PINTEREST_SCOPES; then "
        "connect the account again."
    )
    assert "Connect it again" not in build_api_error(refused(Cause.SCOPE)).message


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (60, "of this account for 60 s."),
        (3600, "of this account for 60 min."),
        (86_381, "of this installation's app for 24 h."),
    ],
)
def test_a_limit_of_a_day_is_the_apps(seconds: int, words: str) -> None:
    error = build_api_error(refused(Cause.RATE_LIMIT, retry_after=seconds))
    assert words in error.message
    assert error.headers["Retry-After"] == str(seconds)


def test_an_account_without_a_connection_names_the_next_step() -> None:
    message = build_api_error(NotConnected(UUID(int=1))).message
    assert message.endswith(f"GET /v1/pinterest/oauth/start?account_id={UUID(int=1)}.")


def test_pinterests_message_is_kept_and_made_printable() -> None:
    short = build_api_error(refused(Cause.CONTENT, "The name is taken."))
    assert short.message == (
        "Pinterest refused the request: The name is taken. Correct it, then send it again."
    )
    error = build_api_error(
        refused(Cause.CONTENT, "Board name\r\nmust be \0unique.\ud800" + "x" * 999)
    )
    assert error.message.startswith("Pinterest refused the request: Board name must be ")
    assert error.message.isprintable()
    assert len(quote("x" * 5000)) == 300


def test_failures_inside_the_block_are_translated_and_other_exceptions_are_not() -> None:
    with pytest.raises(ApiError, match="Pinterest does not answer"), answer_failures():
        raise NotSent("boards/list", "no connection")
    with pytest.raises(ZeroDivisionError), answer_failures():
        raise ZeroDivisionError
