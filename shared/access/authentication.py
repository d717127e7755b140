"""Which workspace a key belongs to, answered from memory as long as the rules allow."""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple, Protocol
from uuid import UUID

import structlog

from shared.access.cache import Clock
from shared.access.keys import hash_api_key
from shared.access.model import Principal
from shared.access.network import find_network
from shared.access.refusals import unauthorized
from shared.contract.errors import ApiError, DatabaseUnavailable, ErrorCode
from shared.runtime.limits.token_buckets import TokenBuckets
from shared.runtime.settings import ServiceSettings

log = structlog.get_logger()

MOST_KEYS = 10_000
MAX_ADDRESSES = 10_000
"""Whose failed attempts are remembered. Each process counts for itself: five services with R
replicas each allow 5 R times as many.
"""
PATIENCE_SECONDS = 0.5
"""How long a key that was good before waits for a database that does not answer, and any other for
its turn after too many failures.
"""


class PrincipalSource(Protocol):
    async def find_principal(self, key_hash: bytes) -> Principal | None: ...


class _Checked(NamedTuple):
    principal: Principal | None
    at: float


_NOBODY = _Checked(None, 0.0)


class _Asking(NamedTuple):
    task: "asyncio.Task[_Checked]"
    since: float


class _Recent:
    """The latest answers, by the key's hash; the oldest make room."""

    def __init__(self) -> None:
        self._answers: OrderedDict[bytes, _Checked] = OrderedDict()

    def get(self, key_hash: bytes) -> _Checked | None:
        return self._answers.get(key_hash)

    def put(self, key_hash: bytes, answer: _Checked) -> None:
        self._answers[key_hash] = answer
        self._answers.move_to_end(key_hash)
        if len(self._answers) > MOST_KEYS:
            self._answers.popitem(last=False)

    def forget(self, key_hash: bytes) -> None:
        self._answers.pop(key_hash, None)


class Authenticator:
    """Checks keys against the database, at most once in `access_cache_seconds` for each.

    While the database is away, or silent for PATIENCE_SECONDS, a key that was good before is
    believed for `access_stale_seconds` after its last check: imports go on. So a revocation holds
    everywhere within `access_cache_seconds` while the database answers; a service that saw it never
    believes the key again; one that did not see it before an outage does, for no longer than that.

    Known and unknown keys are kept apart, so that a stream of garbage can't push good keys out.
    Only what is not known to be good is counted by its sender's address, and there is always a way
    in for a good key: behind one address may be a whole office.
    """

    def __init__(
        self,
        source: PrincipalSource,
        settings: ServiceSettings,
        clock: Clock = time.monotonic,
        *,
        used: Callable[[UUID], None] = lambda _: None,
    ) -> None:
        """`used` is told the id of each good key, each time."""
        self._source = source
        self._used = used
        self._fresh_seconds = settings.access_cache_seconds
        self._stale_seconds = settings.access_stale_seconds
        self._clock = clock
        self._known = _Recent()
        self._unknown = _Recent()
        self._asking: dict[bytes, _Asking] = {}
        self._failed_attempts: TokenBuckets[str] = TokenBuckets(
            settings.access_failed_tries,
            settings.access_failed_seconds,
            max_keys=MAX_ADDRESSES,
            clock=clock,
        )
        self._turn = asyncio.Lock()

    async def authenticate(self, plain_key: str | None, address: str = "") -> Principal:
        """Raises ApiError (401, or 429 after too many failures from `address`),
        DatabaseUnavailable when it can't be known.
        """
        if not plain_key:
            raise unauthorized("Send an API key in X-API-Key or Authorization: Bearer.")
        key_hash = hash_api_key(plain_key)
        answer = self._known.get(key_hash)
        if answer is None:
            answer = await self._try(key_hash, address)
        elif not self._is_fresh(answer):
            answer = await self._ask(key_hash)
        if answer.principal is None:
            raise unauthorized("Unknown or revoked API key.")
        self._used(answer.principal.key_id)
        return answer.principal

    def _is_fresh(self, answer: _Checked) -> bool:
        return self._clock() - answer.at < self._fresh_seconds

    async def _try(self, key_hash: bytes, address: str) -> _Checked:
        """What a key is that was not good before. It costs a try unless it turns out to be good."""
        if (asking := self._asking.get(key_hash)) is not None:
            # Of a hundred requests at once with a key that is good but new here, those after the
            # first would use up the tries
            told = await asyncio.shield(asking.task)
            if told.principal is not None:
                return told
        client = find_network(address)
        wait = self._failed_attempts.try_acquire(client)
        answer = self._unknown.get(key_hash)
        if answer is None or not self._is_fresh(answer):
            answer = await (
                self._ask_in_turn(key_hash) if wait else self._ask_on_credit(key_hash, client)
            )
        if answer is not None and answer.principal is not None:
            return answer
        if wait:
            raise _too_many(wait)
        if self._failed_attempts.seconds_until_token(client):
            log.warning("failed_tries_spent", address=address)
        return answer or _NOBODY

    async def _ask_on_credit(self, key_hash: bytes, client: str) -> _Checked:
        try:
            answer = await self._ask(key_hash)
        except DatabaseUnavailable:
            self._failed_attempts.refund(client)
            raise
        if answer.principal is not None:
            self._failed_attempts.refund(client)
        return answer

    async def _ask_in_turn(self, key_hash: bytes) -> _Checked | None:
        """For addresses with too many failures: one question at a time among all of them. A good
        key gets in, a flood takes no more than one of the pool's connections. None when its turn,
        or the answer, did not come soon enough.
        """
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._turn.acquire()
                if (known := self._known.get(key_hash)) is not None and self._is_fresh(
                    known
                ):  # asked meanwhile
                    self._turn.release()
                    return known
                asking = asyncio.create_task(self._ask(key_hash))
                asking.add_done_callback(
                    lambda _: self._turn.release()
                )  # not before: nobody may wait for it any more
                return await asyncio.shield(asking)
        except TimeoutError:
            return None

    async def _ask(self, key_hash: bytes) -> _Checked:
        # Many requests with one key that is no longer fresh ask once; a task of its own, as the
        # first of them may be cancelled
        asking = self._asking.get(key_hash)
        if asking is None:
            task = asyncio.create_task(self._look_up(key_hash))
            asking = self._asking[key_hash] = _Asking(task, self._clock())
            task.add_done_callback(lambda _: self._asking.pop(key_hash, None))
        before = self._believed(key_hash)
        if before is None:
            return await asyncio.shield(asking.task)
        done, _ = await asyncio.wait(
            {asking.task}, timeout=max(0.0, asking.since + PATIENCE_SECONDS - self._clock())
        )
        return asking.task.result() if done else before

    def _believed(self, key_hash: bytes) -> _Checked | None:
        before = self._known.get(key_hash)
        return (
            before
            if before is not None and self._clock() - before.at <= self._stale_seconds
            else None
        )

    async def _look_up(self, key_hash: bytes) -> _Checked:
        asked = (
            self._clock()
        )  # the answer is as old as the question: a revocation may have come in between
        try:
            principal = await self._source.find_principal(key_hash)
        except DatabaseUnavailable:
            if before := self._believed(key_hash):
                return before
            raise
        answer = _Checked(principal, asked)
        if principal is None:
            self._known.forget(key_hash)
            self._unknown.put(key_hash, answer)
        else:
            self._unknown.forget(key_hash)
            self._known.put(key_hash, answer)
        return answer


def _too_many(wait: float) -> ApiError:
    seconds = math.ceil(wait)
    message = (
        f"Too many tries with a wrong key from your address: try this one again in {seconds} s. "
        "Good keys go on working."
    )
    return ApiError(
        ErrorCode.TOO_MANY_ATTEMPTS,
        message,
        HTTPStatus.TOO_MANY_REQUESTS,
        headers={"Retry-After": str(seconds)},
    )
