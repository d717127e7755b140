"""Which workspace a key belongs to, answered from memory as long as the rules allow."""

import asyncio
import time
from collections import OrderedDict
from http import HTTPStatus
from typing import NamedTuple, Protocol

from shared.access.directories import Clock
from shared.access.keys import hash_api_key
from shared.access.repository import Principal
from shared.errors import DatabaseUnavailable, ErrorCode, RequestRefused
from shared.settings import ServiceSettings

MOST_KEYS = 10_000
PATIENCE_SECONDS = 0.5
"""How long a key that was good before waits for a database that does not answer."""


class PrincipalSource(Protocol):
    async def find_principal(self, key_hash: bytes) -> Principal | None: ...


class _Checked(NamedTuple):
    principal: Principal | None
    at: float


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

    While the database is away, or silent for PATIENCE_SECONDS, a key that was good before is believed for `access_stale_seconds`:
    imports go on. Known and unknown keys are kept apart, so that a stream of garbage can't push good keys out.
    """

    def __init__(self, source: PrincipalSource, settings: ServiceSettings, clock: Clock = time.monotonic) -> None:
        self._source = source
        self._fresh_seconds = settings.access_cache_seconds
        self._stale_seconds = settings.access_stale_seconds
        self._clock = clock
        self._known = _Recent()
        self._unknown = _Recent()
        self._asking: dict[bytes, _Asking] = {}

    async def authenticate(self, plain_key: str | None) -> Principal:
        """Raises RequestRefused (401), or DatabaseUnavailable when it can't be known: never 401 for that."""
        if not plain_key:
            raise _unauthorized("Send an API key in X-API-Key or Authorization: Bearer.")
        key_hash = hash_api_key(plain_key)
        answer = self._known.get(key_hash) or self._unknown.get(key_hash)
        if answer is None or self._clock() - answer.at >= self._fresh_seconds:
            answer = await self._ask(key_hash)
        if answer.principal is None:
            raise _unauthorized("Unknown or revoked API key.")
        return answer.principal

    async def _ask(self, key_hash: bytes) -> _Checked:
        # Many requests with one key that is no longer fresh ask once; a task of its own, as the first of them may be cancelled
        asking = self._asking.get(key_hash)
        if asking is None:
            task = asyncio.create_task(self._look_up(key_hash))
            asking = self._asking[key_hash] = _Asking(task, self._clock())
            task.add_done_callback(lambda _: self._asking.pop(key_hash, None))
        before = self._believed(key_hash)
        if before is None:
            return await asyncio.shield(asking.task)
        done, _ = await asyncio.wait({asking.task}, timeout=max(0.0, asking.since + PATIENCE_SECONDS - self._clock()))
        return asking.task.result() if done else before

    def _believed(self, key_hash: bytes) -> _Checked | None:
        before = self._known.get(key_hash)
        return before if before is not None and self._clock() - before.at <= self._stale_seconds else None

    async def _look_up(self, key_hash: bytes) -> _Checked:
        try:
            principal = await self._source.find_principal(key_hash)
        except DatabaseUnavailable:
            if before := self._believed(key_hash):
                return before
            raise
        answer = _Checked(principal, self._clock())
        if principal is None:
            self._known.forget(key_hash)
            self._unknown.put(key_hash, answer)
        else:
            self._unknown.forget(key_hash)
            self._known.put(key_hash, answer)
        return answer


def _unauthorized(message: str) -> RequestRefused:
    return RequestRefused(ErrorCode.UNAUTHORIZED, message, HTTPStatus.UNAUTHORIZED, headers={"WWW-Authenticate": 'Bearer realm="pinflow"'})
