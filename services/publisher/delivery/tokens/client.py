"""Gets access tokens of accounts from the access service, and keeps them in memory only."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from pydantic import SecretStr

from services.publisher.delivery.model import AccessToken
from services.publisher.delivery.tokens.failures import (
    AccessAway,
    AccountGivenUp,
    TokenUnavailable,
)
from shared.access.connection_health import GIVEN_UP
from shared.contract.errors import ApiError, ErrorCode
from shared.http.internal import NoAnswer
from shared.http.internal_calls import InternalCalls
from shared.runtime.clock import Clock
from shared.runtime.tasks import retrieve_exception

REQUEST_SECONDS = 65.0
"""Timeout of a request. Access may wait for two leases of a refresh, each 30 s by default."""
EARLY = timedelta(seconds=60)
"""A token is not used if it expires sooner: the request with it must arrive in time."""
MAX_CACHED = 10_000
MAX_CACHED_SECONDS = 10.0
"""Seconds for which a token is used without another request. A disconnected account is used for at
most this time."""
NEW_SECONDS = 120.0
"""A token that Pinterest refuses within this time of its refresh is reported as new: then another
refresh at once would not help."""
AWAY_CODES = {
    ErrorCode.SERVICE_UNAVAILABLE,
    ErrorCode.TOO_BUSY,
    ErrorCode.PINTEREST_OFF,
    ErrorCode.INTERNAL_ACCESS_DENIED,
}
"""The codes of an access service that hands out no tokens at all."""
GIVEN_UP_CODES = {*map(ErrorCode, GIVEN_UP), ErrorCode.ACCOUNT_NOT_CONNECTED}

T = TypeVar("T")


class _Key(NamedTuple):
    """Identifies a request: equal requests of one account share an answer."""

    account_id: UUID
    refused_version: int | None
    """The answer must be a later version than this one. None: any token."""


class _Cached(NamedTuple):
    token: AccessToken
    asked_at: float
    """The monotonic time before the request."""


class _Refreshed(NamedTuple):
    version: int
    at: float
    """The monotonic time of the answer."""


class AccessTokens:
    """Provides tokens for one mode (ports.TokenSource).

    Raises AccountGivenUp, TokenUnavailable or AccessAway. Each account has at most one
    request in flight.
    """

    def __init__(
        self,
        access: InternalCalls,
        mode: str,
        *,
        max_cached: int = MAX_CACHED,
        clock: Clock = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._access = access
        self._mode = mode
        self._max_cached = max_cached
        self._clock = clock
        self._now = now
        self._cached: OrderedDict[UUID, _Cached] = OrderedDict()
        self._refreshed: OrderedDict[UUID, _Refreshed] = OrderedDict()
        self._running: dict[UUID, tuple[_Key, asyncio.Task[AccessToken]]] = {}

    async def get(self, account_id: UUID) -> AccessToken:
        return await self._obtain(_Key(account_id, None))

    async def refresh(self, account_id: UUID, refused_version: int) -> AccessToken:
        """Returns another token than the one that Pinterest refused."""
        return await self._obtain(_Key(account_id, refused_version))

    async def report_scope_missing(self, account_id: UUID, version: int) -> bool:
        """Has access note that the account's user did not allow everything.

        Returns False if it noted nothing, because the app lacks the right.
        """
        report = {
            "account_id": str(account_id),
            "token_version": version,
            "code": ErrorCode.SCOPE_MISSING.value,
        }
        answer = await self._post("pinterest/health", report)
        return bool(answer["is_noted"])

    async def _obtain(self, key: _Key) -> AccessToken:
        while True:
            if (token := self._find_cached(key)) is not None:
                return token
            running = self._running.get(key.account_id)
            if running is None:
                # A task, because a caller that is canceled must not cancel the others' request
                task = asyncio.create_task(self._request(key))
                self._running[key.account_id] = (key, task)
                task.add_done_callback(retrieve_exception)
                task.add_done_callback(lambda _ended: self._running.pop(key.account_id))
                return await asyncio.shield(task)
            running_key, task = running
            if running_key == key:
                return await asyncio.shield(task)
            await asyncio.wait({task})

    def _find_cached(self, key: _Key) -> AccessToken | None:
        cached = self._cached.get(key.account_id)
        if cached is None or self._clock() - cached.asked_at >= MAX_CACHED_SECONDS:
            return None
        if cached.token.expires_at - EARLY <= self._now():
            return None
        if key.refused_version is not None and cached.token.version <= key.refused_version:
            return None
        self._cached.move_to_end(key.account_id)
        return cached.token

    async def _request(self, key: _Key) -> AccessToken:
        account_id, refused_version = key
        self._cached.pop(account_id, None)
        asked_at = self._clock()
        if refused_version is None:
            document: dict[str, Any] = {"account_id": str(account_id)}
            token = self._read(await self._post("pinterest/tokens", document))
        else:
            document = {
                "account_id": str(account_id),
                "token_version": refused_version,
                "is_new": self._is_new(account_id, refused_version),
            }
            token = self._read(await self._post("pinterest/tokens/refresh", document))
            self._keep(self._refreshed, account_id, _Refreshed(token.version, self._clock()))
        self._keep(self._cached, account_id, _Cached(token, asked_at))
        return token

    def _is_new(self, account_id: UUID, version: int) -> bool:
        last = self._refreshed.get(account_id)
        return (
            last is not None and last.version == version and self._clock() - last.at < NEW_SECONDS
        )

    def _keep(self, kept: OrderedDict[UUID, T], account_id: UUID, value: T) -> None:
        """Keeps a value of an account, and forgets that of the account that was used least."""
        kept[account_id] = value
        kept.move_to_end(account_id)
        if len(kept) > self._max_cached:
            kept.popitem(last=False)

    async def _post(self, path: str, document: dict[str, Any]) -> Any:
        try:
            return await self._access.post(path, document, timeout_seconds=REQUEST_SECONDS)
        except ApiError as error:
            raise _translate(error) from error

    def _read(self, answer: Any) -> AccessToken:
        try:
            mode, token = answer["mode"], _read_token(answer)
        except (KeyError, TypeError, ValueError):
            raise TokenUnavailable(
                "The access service's answer has no token. Run both processes in the same version."
            ) from None
        if mode != self._mode:
            raise AccessAway(
                f"The access service is in the mode {mode}, and this process in the mode "
                f"{self._mode}. Give both the same PINFLOW_PINTEREST_MODE."
            )
        return token


def _read_token(answer: Any) -> AccessToken:
    """Reads the token of an answer. Raises KeyError, TypeError or ValueError if it has none."""
    return AccessToken(
        SecretStr(answer["access_token"]),
        answer["token_version"],
        datetime.fromisoformat(answer["token_expires_at"]),
    )


def _translate(error: ApiError) -> AccountGivenUp | TokenUnavailable | AccessAway:
    """Says what is away: this account for good, this account for a while, or the access service."""
    if error.code in GIVEN_UP_CODES:
        return AccountGivenUp(error.code, error.message, error.status)
    # One account's request may be slow or fail alone: that must not pause the others
    if error.code in AWAY_CODES and not isinstance(error, NoAnswer):
        return AccessAway(error.message)
    return TokenUnavailable(error.message)
