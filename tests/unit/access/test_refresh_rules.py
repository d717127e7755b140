"""When tokens are refreshed, and what a failed refresh means for the connection."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from services.access.connections.rules import (
    RefreshState,
    build_refresh_form,
    compute_refresh_delay,
    is_verdict,
    judge_refused_refresh,
    judge_refused_token,
    merge_tokens,
    plan_retry,
)
from services.access.connections.vault import Tokens
from shared.access.connection_health import HealthCode
from shared.pinterest.failures import Cause, Refused
from shared.pinterest.model import TokenGrant

DAY = 86_400
NOW = datetime(2026, 11, 30, tzinfo=UTC)
TOKENS = Tokens(SecretStr("a"), SecretStr("r"))


def make_state(
    *,
    expires_in: float = DAY,
    refresh_expires_in: float | None = 30 * DAY,
    health_code: HealthCode | None = None,
    failures: int = 0,
) -> RefreshState:
    return RefreshState(
        now=NOW,
        token_expires_at=NOW + timedelta(seconds=expires_in),
        refresh_expires_at=(
            None if refresh_expires_in is None else NOW + timedelta(seconds=refresh_expires_in)
        ),
        health_code=health_code,
        failures=failures,
    )


def make_refusal(cause: Cause, code: int | None) -> Refused:
    return Refused("oauth/token", "no", status=400, code=code, cause=cause)


@pytest.mark.parametrize(
    ("lifetime", "ahead", "delay"),
    [(30 * DAY, 7 * DAY, 23 * DAY), (30 * DAY, 25 * DAY, 5 * DAY), (10, 7 * DAY, 1), (100, 0, 100)],
)
def test_a_token_is_refreshed_ahead_of_its_expiry(
    lifetime: float, ahead: float, delay: float
) -> None:
    assert compute_refresh_delay(lifetime, ahead) == pytest.approx(delay)


def test_the_waits_between_retries_grow_to_six_hours() -> None:
    assert [plan_retry(failures) for failures in range(3)] == [60, 120, 240]
    assert plan_retry(10_000) == 6 * 3600


def test_a_retry_waits_as_long_as_pinterest_asks() -> None:
    assert plan_retry(0, 300) == 300
    assert plan_retry(3, 300) == 480


def test_a_refused_refresh_of_a_good_token_is_tried_again() -> None:
    failed = judge_refused_refresh(make_state())
    assert (failed.health_code, failed.retry_seconds) == (HealthCode.REFRESH_FAILED, 60)
    failed = judge_refused_refresh(make_state(failures=100))
    assert (failed.health_code, failed.retry_seconds) == (HealthCode.REFRESH_FAILED, DAY)


@pytest.mark.parametrize("expires_in", [0, -1])
def test_a_refused_refresh_of_an_expired_token_needs_its_user_and_is_tried_daily(
    expires_in: float,
) -> None:
    failed = judge_refused_refresh(make_state(expires_in=expires_in))
    assert (failed.health_code, failed.retry_seconds) == (HealthCode.TOKEN_REVOKED, DAY)


@pytest.mark.parametrize("code", [HealthCode.TOKEN_REVOKED, HealthCode.TOKEN_EXPIRED])
def test_a_connection_that_was_given_up_stays_so(code: HealthCode) -> None:
    failed = judge_refused_refresh(make_state(health_code=code))
    assert (failed.health_code, failed.retry_seconds) == (HealthCode.TOKEN_REVOKED, DAY)


def test_an_expired_refresh_token_is_not_tried_again() -> None:
    failed = judge_refused_refresh(make_state(expires_in=0, refresh_expires_in=0))
    assert (failed.health_code, failed.retry_seconds) == (HealthCode.TOKEN_EXPIRED, None)


@pytest.mark.parametrize(
    ("minutes", "tries", "code", "retry"),
    [
        (None, 0, HealthCode.REFRESH_FAILED, 60),
        (5, 2, HealthCode.REFRESH_FAILED, 240),
        (59, 20, HealthCode.REFRESH_FAILED, 6 * 3600),
        (600, 1, HealthCode.REFRESH_FAILED, 120),
        (60, 4, HealthCode.TOKEN_REVOKED, DAY),
    ],
)
def test_new_tokens_are_given_up_only_after_many_refusals_over_an_hour(
    minutes: int | None, tries: int, code: HealthCode, retry: float
) -> None:
    since = None if minutes is None else NOW - timedelta(minutes=minutes)
    failed = judge_refused_token(NOW, since, tries, NOW + timedelta(days=30))
    assert (failed.health_code, failed.retry_seconds) == (code, retry)


def test_an_account_of_the_apps_owner_is_tried_daily() -> None:
    failed = judge_refused_refresh(make_state(expires_in=0, refresh_expires_in=None))
    assert (failed.health_code, failed.retry_seconds) == (HealthCode.TOKEN_REVOKED, DAY)


@pytest.mark.parametrize(
    ("cause", "code", "expected"),
    [
        (Cause.TOKEN, 2, True),
        (Cause.CONTENT, 283, True),
        (Cause.PERMISSION, 29, True),
        (Cause.TOKEN, None, False),
        (Cause.PERMISSION, None, False),
        (Cause.RATE_LIMIT, 8, False),
        (Cause.SPAM_BLOCK, 9, False),
    ],
)
def test_only_pinterest_itself_refuses_tokens(
    cause: Cause, code: int | None, *, expected: bool
) -> None:
    assert is_verdict(make_refusal(cause, code)) is expected


def test_the_form_of_a_refresh() -> None:
    assert build_refresh_form("authorization_code", TOKENS, "") == {
        "grant_type": "refresh_token",
        "refresh_token": "r",
    }
    no_refresh_token = Tokens(SecretStr("a"), None)
    assert build_refresh_form("authorization_code", no_refresh_token, "") is None
    assert build_refresh_form("client_credentials", no_refresh_token, "boards:read") == {
        "grant_type": "client_credentials",
        "scope": "boards:read",
    }


def test_a_refresh_token_is_kept_if_there_is_no_new_one() -> None:
    new = TokenGrant(SecretStr("b"), 60, ())
    assert merge_tokens(TOKENS, new) == Tokens(SecretStr("b"), SecretStr("r"))
    both = TokenGrant(SecretStr("b"), 60, (), SecretStr("s"), 60)
    assert merge_tokens(TOKENS, both) == Tokens(SecretStr("b"), SecretStr("s"))
