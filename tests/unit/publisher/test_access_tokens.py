"""The delivery process's cache of access tokens: one request each, and what failures mean."""

import asyncio
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.publisher.delivery.tokens.client import MAX_CACHED_SECONDS, NEW_SECONDS, AccessTokens
from services.publisher.delivery.tokens.failures import (
    AccessAway,
    AccountGivenUp,
    TokenUnavailable,
)
from shared.contract.errors import ApiError, ErrorCode
from shared.http.internal import NoAnswer
from tests.support.waiting import eventually

NOW = datetime(2026, 9, 1, tzinfo=UTC)
ACCOUNT = uuid4()


class Access:
    """The access service's routes: one account's token, which each refresh replaces."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.version = 1
        self.mode = "simulated"
        self.expires_at = NOW + timedelta(days=30)
        self.error: ApiError | None = None
        self.answer: Any = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def post(self, path: str, document: Any, *, timeout_seconds: float) -> Any:
        assert timeout_seconds > 60
        self.requests.append((path, document))
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        if self.answer is not None:
            return self.answer
        if path == "pinterest/health":
            return {"is_noted": True}
        if document.get("token_version") == self.version:
            self.version += 1
        return {
            "access_token": f"token-{self.version}",
            "token_version": self.version,
            "token_expires_at": self.expires_at.isoformat().replace("+00:00", "Z"),
            "mode": self.mode,
        }


class Time:
    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)


@pytest.fixture
def access() -> Access:
    return Access()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def tokens(access: Access, time: Time) -> AccessTokens:
    return AccessTokens(access, "simulated", max_cached=2, clock=time.monotonic, now=time.now)


async def read(tokens: AccessTokens, account_id: UUID = ACCOUNT) -> str:
    return str((await tokens.get(account_id)).value.get_secret_value())


async def test_a_token_is_cached(tokens: AccessTokens, access: Access) -> None:
    assert [await read(tokens) for _ in range(3)] == ["token-1"] * 3
    assert access.requests == [("pinterest/tokens", {"account_id": str(ACCOUNT)})]


async def test_a_token_is_not_shown(tokens: AccessTokens) -> None:
    assert "token-1" not in repr(await tokens.get(ACCOUNT))


async def test_a_cached_token_is_soon_asked_for_again(
    tokens: AccessTokens, access: Access, time: Time
) -> None:
    await tokens.get(ACCOUNT)
    time.seconds = MAX_CACHED_SECONDS
    access.error = ApiError(ErrorCode.ACCOUNT_NOT_CONNECTED, "gone", HTTPStatus.CONFLICT)
    with pytest.raises(AccountGivenUp):
        await tokens.get(ACCOUNT)


async def test_a_token_is_not_used_in_its_last_minute(
    tokens: AccessTokens, access: Access, time: Time
) -> None:
    access.expires_at = NOW + timedelta(seconds=61)
    await tokens.get(ACCOUNT)
    await tokens.get(ACCOUNT)
    assert len(access.requests) == 1
    time.seconds = 1
    await tokens.get(ACCOUNT)
    assert len(access.requests) == 2


async def test_the_account_that_was_used_least_is_forgotten(
    tokens: AccessTokens, access: Access
) -> None:
    first, second, third = uuid4(), uuid4(), uuid4()
    for account_id in (first, second, first, third):
        await tokens.get(account_id)
    access.requests.clear()
    await tokens.get(first)
    assert not access.requests
    await tokens.get(second)
    assert len(access.requests) == 1


async def test_callers_share_one_request(tokens: AccessTokens, access: Access) -> None:
    access.may_answer.clear()
    waiting = [asyncio.create_task(tokens.get(ACCOUNT)) for _ in range(3)]
    await eventually(lambda: len(access.requests) == 1)
    waiting[0].cancel()
    access.may_answer.set()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result).__name__ for result in ended] == [
        "CancelledError",
        "AccessToken",
        "AccessToken",
    ]
    assert len(access.requests) == 1


async def test_an_account_has_one_request_in_flight(tokens: AccessTokens, access: Access) -> None:
    access.may_answer.clear()
    reading = asyncio.create_task(tokens.get(ACCOUNT))
    await eventually(lambda: len(access.requests) == 1)
    refreshing = asyncio.create_task(tokens.refresh(ACCOUNT, 1))
    other = asyncio.create_task(tokens.get(uuid4()))
    await eventually(lambda: len(access.requests) == 2)
    access.may_answer.set()
    assert (await reading).version == 1
    assert (await refreshing).version == 2
    await other


async def test_a_refused_token_is_replaced(tokens: AccessTokens, access: Access) -> None:
    await tokens.get(ACCOUNT)
    assert (await tokens.refresh(ACCOUNT, 1)).version == 2
    assert await read(tokens) == "token-2"
    assert (await tokens.refresh(ACCOUNT, 1)).version == 2  # another request was refused, too
    assert [path for path, _ in access.requests] == ["pinterest/tokens", "pinterest/tokens/refresh"]
    assert access.requests[1][1] == {
        "account_id": str(ACCOUNT),
        "token_version": 1,
        "is_new": False,
    }


async def test_a_new_token_that_is_refused_is_reported_as_new(
    tokens: AccessTokens, access: Access, time: Time
) -> None:
    await tokens.refresh(ACCOUNT, 1)
    time.seconds = MAX_CACHED_SECONDS
    await tokens.get(ACCOUNT)
    await tokens.refresh(ACCOUNT, 2)
    time.seconds += NEW_SECONDS
    await tokens.refresh(ACCOUNT, 3)
    refreshes = [document for path, document in access.requests if path.endswith("refresh")]
    assert [document["is_new"] for document in refreshes] == [False, True, False]


@pytest.mark.parametrize("code", ["token_revoked", "token_expired", "account_not_connected"])
async def test_an_account_that_was_given_up_is_told_from_a_fault_that_passes(
    tokens: AccessTokens, access: Access, code: str
) -> None:
    access.error = ApiError(ErrorCode(code), "Connect it again.", HTTPStatus.CONFLICT)
    with pytest.raises(AccountGivenUp, match="again") as error:
        await tokens.get(ACCOUNT)
    assert (error.value.code, error.value.message) == (code, "Connect it again.")
    access.error = None
    assert await read(tokens) == "token-1"


async def test_an_account_that_has_to_wait_says_nothing_about_others(
    tokens: AccessTokens, access: Access
) -> None:
    access.error = ApiError(ErrorCode.PINTEREST_UNAVAILABLE, "busy", HTTPStatus.SERVICE_UNAVAILABLE)
    with pytest.raises(TokenUnavailable):
        await tokens.get(ACCOUNT)


@pytest.mark.parametrize(
    "code", ["service_unavailable", "pinterest_off", "internal_access_denied", "too_busy"]
)
async def test_without_access_no_account_has_a_token(
    tokens: AccessTokens, access: Access, code: str
) -> None:
    access.error = ApiError(ErrorCode(code), "away", HTTPStatus.SERVICE_UNAVAILABLE)
    with pytest.raises(AccessAway):
        await tokens.get(ACCOUNT)
    with pytest.raises(AccessAway):
        await tokens.refresh(ACCOUNT, 1)


@pytest.mark.parametrize(
    "error",
    [
        NoAnswer("access"),
        ApiError(ErrorCode.RATE_LIMITED, "odd", HTTPStatus.TOO_MANY_REQUESTS),
        ApiError(ErrorCode.INVALID_PAYLOAD, "odd", HTTPStatus.BAD_REQUEST),
    ],
    ids=["no answer", "another limit", "another version"],
)
async def test_one_accounts_slow_or_odd_answer_says_nothing_about_others(
    tokens: AccessTokens, access: Access, error: ApiError
) -> None:
    access.error = error
    with pytest.raises(TokenUnavailable):
        await tokens.get(ACCOUNT)
    with pytest.raises(TokenUnavailable):
        await tokens.refresh(ACCOUNT, 1)


async def test_an_answer_without_a_token_says_nothing_about_other_accounts(
    tokens: AccessTokens, access: Access
) -> None:
    access.answer = {"mode": "simulated"}
    with pytest.raises(TokenUnavailable):
        await tokens.get(ACCOUNT)


async def test_a_token_of_another_mode_is_not_used(tokens: AccessTokens, access: Access) -> None:
    access.mode = "sandbox"
    with pytest.raises(AccessAway, match="PINFLOW_PINTEREST_MODE"):
        await tokens.get(ACCOUNT)


async def test_a_missing_right_is_reported(tokens: AccessTokens, access: Access) -> None:
    assert await tokens.report_scope_missing(ACCOUNT, 3)
    document = {"account_id": str(ACCOUNT), "token_version": 3, "code": "scope_missing"}
    assert access.requests == [("pinterest/health", document)]
