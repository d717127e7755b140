"""Notes when each key was last used, to the minute, and reports it in the background."""

import asyncio
import time
from collections.abc import Collection
from http import HTTPStatus
from typing import Protocol
from uuid import UUID

import orjson
import structlog

from shared.access.cache import Clock, TTLSet
from shared.contract.errors import Unavailable
from shared.http.client import REQUEST_FAILURES, create_http_pool
from shared.runtime.periodic import PeriodicTask

log = structlog.get_logger()

EVERY_SECONDS = 60.0
"""How often one process reports the same key."""
GATHERING_SECONDS = 5.0
"""How long uses are gathered into one report. A process that is killed forgets so much."""
MAX_UNREPORTED_KEYS = 10_000
"""Keys kept while the access service is away, 1 MB. Beyond it, the uses of others are not kept."""
MAX_REPORTED_KEYS = 500
"""Keys in one request to the access service."""
REPORT_SECONDS = 1.0
"""How long one replica of the access service may take to answer."""


class UsedKeys(Protocol):
    """Receives the ids of keys that were used: the access service, or its own repository."""

    async def mark_used(self, key_ids: Collection[UUID]) -> None: ...


class AccessUnavailable(Unavailable):
    """No replica of the access service took a report."""


class KeyUsageClient:
    """Reports used keys to the access service, which alone writes them down."""

    def __init__(self, urls: str) -> None:
        """`urls`: one for each replica, separated by commas; any that answers will do."""
        self._urls = urls.split(",")
        self._http = create_http_pool()

    async def mark_used(self, key_ids: Collection[UUID]) -> None:
        """Reports the keys in portions. Raises AccessUnavailable at the first that is not taken.

        Reports are idempotent, so all keys can be reported again.
        """
        ids = list(key_ids)
        for start in range(0, len(ids), MAX_REPORTED_KEYS):
            await self._report(ids[start : start + MAX_REPORTED_KEYS])

    async def _report(self, key_ids: list[UUID]) -> None:
        body = orjson.dumps({"key_ids": key_ids})
        troubles = []
        for url in self._urls:
            trouble = await self._try(url, body)
            if trouble is None:
                return
            troubles.append(f"{url}: {trouble}")
        raise AccessUnavailable("; ".join(troubles))

    async def _try(self, url: str, body: bytes) -> str | None:
        """Returns None if the replica took the report, else what is wrong with it."""
        headers = [(b"Content-Type", b"application/json")]
        try:
            async with asyncio.timeout(REPORT_SECONDS):
                answer = await self._http.request(
                    "POST", f"{url}/internal/key-usage", headers=headers, content=body
                )
        except (TimeoutError, *REQUEST_FAILURES):
            return "no answer"
        return None if answer.status == HTTPStatus.NO_CONTENT else f"status {answer.status}"

    async def close(self) -> None:
        await self._http.aclose()


class KeyUsage:
    """Notes uses of keys: a request pays one look into a set.

    Keys whose report fails are reported again with the next one, if there are not too many.
    """

    def __init__(self, keys: UsedKeys, clock: Clock = time.monotonic) -> None:
        self._keys = keys
        self._noted: TTLSet[UUID] = TTLSet(seconds=EVERY_SECONDS, clock=clock)
        self._unwritten: set[UUID] = set()

    def note(self, key_id: UUID) -> None:
        if key_id not in self._noted and len(self._unwritten) < MAX_UNREPORTED_KEYS:
            self._noted.add(key_id)
            self._unwritten.add(key_id)

    def periodic_task(self) -> PeriodicTask:
        return PeriodicTask("key usage", self.write, interval_seconds=GATHERING_SECONDS)

    async def write(self) -> int:
        """Reports what was noted. Never fails, and never asks to be called again at once."""
        used, self._unwritten = self._unwritten, set()
        if used:
            try:
                await self._keys.mark_used(used)
            except Unavailable as error:
                log.warning("key_usage_not_reported", keys=len(used), error=str(error))
                self._unwritten |= used
            except Exception:
                log.exception("key_usage_not_reported", keys=len(used))
                self._unwritten |= used
        return 0
