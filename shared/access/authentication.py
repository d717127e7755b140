"""Authenticates API keys. Results are cached as long as the settings allow."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, Protocol
from uuid import UUID

import structlog

from shared.access.errors import unauthorized
from shared.access.keys import hash_api_key
from shared.access.model import Principal
from shared.access.network import find_network
from shared.contract.errors import ApiError, DatabaseUnavailable, ErrorCode
from shared.runtime.clock import Clock
from shared.runtime.limits.token_buckets import TokenBuckets
from shared.runtime.settings import ServiceSettings

log = structlog.get_logger()

MAX_CACHED_KEYS = 10_000
MAX_ADDRESSES = 10_000
"""Maximum addresses whose failed attempts are counted.

Each process counts separately. So five services, each with R replicas, allow 5 × R times as many
attempts.
"""
MAX_WAIT_SECONDS = 0.5
"""Maximum wait of a request in two cases.

If the key has a cached result that is too old, that result is used after this time. If the key is
not known to be valid and its address has too many failed attempts, the request is rejected then.
"""


class PrincipalSource(Protocol):
    async def find_principal(self, key_hash: bytes) -> Principal | None: ...


class _LookupResult(NamedTuple):
    principal: Principal | None
    looked_up_at: float


_UNKNOWN = _LookupResult(None, 0.0)


class _PendingLookup(NamedTuple):
    task: "asyncio.Task[_LookupResult]"
    started_at: float


class _ResultCache:
    """The latest results by key hash. When the cache is full, the oldest result is removed."""

    def __init__(self) -> None:
        self._results: OrderedDict[bytes, _LookupResult] = OrderedDict()

    def get(self, key_hash: bytes) -> _LookupResult | None:
        return self._results.get(key_hash)

    def put(self, key_hash: bytes, result: _LookupResult) -> None:
        self._results[key_hash] = result
        self._results.move_to_end(key_hash)
        if len(self._results) > MAX_CACHED_KEYS:
            self._results.popitem(last=False)

    def remove(self, key_hash: bytes) -> None:
        self._results.pop(key_hash, None)


class Authenticator:
    """Looks keys up in the database, and caches each result for `access_cache_seconds`.

    If the database is down or does not answer within MAX_WAIT_SECONDS, a key that was valid before
    is accepted for `access_stale_seconds` after its last successful lookup, so imports continue. A
    revocation takes effect everywhere within `access_cache_seconds` while the database answers. A
    process that has seen the revocation never accepts the key again. A process that had not seen it
    before an outage accepts the key until `access_stale_seconds` have passed.

    Valid and unknown keys have separate caches, so that a stream of random keys can't evict valid
    ones. Attempts are counted by the sender's address, except those with a key that is known to be
    valid. Valid keys are accepted even from an address with too many failures: a whole office may
    share one address.
    """

    def __init__(
        self,
        source: PrincipalSource,
        settings: ServiceSettings,
        clock: Clock = time.monotonic,
        *,
        on_use: Callable[[UUID], None] = lambda _: None,
    ) -> None:
        """Takes `on_use`, which is called with the id of a valid key each time the key is used."""
        self._source = source
        self._on_use = on_use
        self._fresh_seconds = settings.access_cache_seconds
        self._stale_seconds = settings.access_stale_seconds
        self._clock = clock
        self._valid = _ResultCache()
        self._unknown = _ResultCache()
        self._pending: dict[bytes, _PendingLookup] = {}
        self._failed_attempts: TokenBuckets[str] = TokenBuckets(
            settings.access_failed_tries,
            settings.access_failed_seconds,
            max_keys=MAX_ADDRESSES,
            clock=clock,
        )
        self._lookup_lock = asyncio.Lock()

    async def authenticate(self, plain_key: str | None, address: str = "") -> Principal:
        """Returns the principal of a key.

        Raises ApiError (401, or 429 after too many failures from `address`). Raises
        DatabaseUnavailable if there is neither an answer nor a usable cached result.
        """
        if not plain_key:
            raise unauthorized(
                "The request has no API key. Send one in the header X-API-Key or Authorization: "
                "Bearer."
            )
        key_hash = hash_api_key(plain_key)
        result = self._valid.get(key_hash)
        if result is None:
            result = await self._attempt(key_hash, address)
        elif not self._is_fresh(result):
            result = await self._look_up_or_use_cached(key_hash)
        if result.principal is None:
            raise unauthorized("The API key is unknown or revoked. Use an active key.")
        self._on_use(result.principal.key_id)
        return result.principal

    def _is_fresh(self, result: _LookupResult) -> bool:
        return self._clock() - result.looked_up_at < self._fresh_seconds

    async def _attempt(self, key_hash: bytes, address: str) -> _LookupResult:
        """Looks up a key that is not known to be valid.

        Counts an attempt, unless the key turns out to be valid or the database is down.
        """
        if (pending := self._pending.get(key_hash)) is not None:
            # Without this wait, a hundred simultaneous requests with a valid key that is new to
            # this process would use up the attempts
            result = await asyncio.shield(pending.task)
            if result.principal is not None:
                return result
        network = find_network(address)
        wait = self._failed_attempts.try_acquire(network)
        cached = self._unknown.get(key_hash)
        found: _LookupResult | None
        if cached is not None and self._is_fresh(cached):
            found = cached
        elif wait:
            found = await self._look_up_serially(key_hash)
        else:
            found = await self._look_up_with_refund(key_hash, network)
        if found is not None and found.principal is not None:
            return found
        if wait:
            raise _too_many_attempts(wait)
        if self._failed_attempts.seconds_until_token(network):
            log.warning("too_many_failed_attempts", address=address)
        return found or _UNKNOWN

    async def _look_up_with_refund(self, key_hash: bytes, network: str) -> _LookupResult:
        """Looks up a key. Refunds the attempt if the key is valid or the database is down."""
        try:
            result = await self._look_up_or_use_cached(key_hash)
        except DatabaseUnavailable:
            self._failed_attempts.refund(network)
            raise
        if result.principal is not None:
            self._failed_attempts.refund(network)
        return result

    async def _look_up_serially(self, key_hash: bytes) -> _LookupResult | None:
        """Looks up a key from an address with too many failures.

        All these addresses share one lookup at a time. So a valid key is still accepted, and a
        flood of wrong keys uses at most one database connection. Returns None if the wait for the
        turn and the lookup together exceed MAX_WAIT_SECONDS.
        """
        try:
            async with asyncio.timeout(MAX_WAIT_SECONDS):
                await self._lookup_lock.acquire()
                cached = self._valid.get(key_hash)
                if cached is not None and self._is_fresh(cached):
                    # Another request looked it up during the wait
                    self._lookup_lock.release()
                    return cached
                lookup = asyncio.create_task(self._look_up_or_use_cached(key_hash))
                # The lock is held until the lookup ends, even if this request stops waiting for it
                lookup.add_done_callback(lambda _: self._lookup_lock.release())
                return await asyncio.shield(lookup)
        except TimeoutError:
            return None

    async def _look_up_or_use_cached(self, key_hash: bytes) -> _LookupResult:
        # Requests with the same key share one lookup. It is a task of its own, because the request
        # that started it may be canceled
        pending = self._pending.get(key_hash)
        if pending is None:
            task = asyncio.create_task(self._look_up(key_hash))
            pending = self._pending[key_hash] = _PendingLookup(task, self._clock())
            task.add_done_callback(lambda _: self._pending.pop(key_hash, None))
        cached = self._find_usable(key_hash)
        if cached is None:
            return await asyncio.shield(pending.task)
        timeout = max(0.0, pending.started_at + MAX_WAIT_SECONDS - self._clock())
        done, _ = await asyncio.wait({pending.task}, timeout=timeout)
        return pending.task.result() if done else cached

    def _find_usable(self, key_hash: bytes) -> _LookupResult | None:
        """Returns the cached result of a key that was valid at most `access_stale_seconds` ago."""
        cached = self._valid.get(key_hash)
        if cached is None or self._clock() - cached.looked_up_at > self._stale_seconds:
            return None
        return cached

    async def _look_up(self, key_hash: bytes) -> _LookupResult:
        # The time before the query: the key may be revoked while the query runs
        looked_up_at = self._clock()
        try:
            principal = await self._source.find_principal(key_hash)
        except DatabaseUnavailable:
            if cached := self._find_usable(key_hash):
                return cached
            raise
        result = _LookupResult(principal, looked_up_at)
        if principal is None:
            self._valid.remove(key_hash)
            self._unknown.put(key_hash, result)
        else:
            self._unknown.remove(key_hash)
            self._valid.put(key_hash, result)
        return result


def _too_many_attempts(wait: float) -> ApiError:
    seconds = math.ceil(wait)
    message = (
        f"Your address sent too many wrong API keys. Try this key again in {seconds} s. Valid keys "
        "continue to work."
    )
    return ApiError(
        ErrorCode.TOO_MANY_ATTEMPTS,
        message,
        HTTPStatus.TOO_MANY_REQUESTS,
        headers={"Retry-After": str(seconds)},
    )
