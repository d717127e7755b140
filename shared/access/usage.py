"""Collects the ids of used keys and reports them to the access service in the background.

The access service stores the time of the report, so `last_used_at` is accurate to a minute or two.
"""

import asyncio
import time
from collections.abc import Collection
from http import HTTPStatus
from typing import Protocol
from uuid import UUID

import orjson
import structlog

from shared.contract.errors import Unavailable
from shared.http.client import REQUEST_FAILURES, create_http_pool
from shared.runtime.clock import Clock
from shared.runtime.periodic import PeriodicTask
from shared.runtime.ttl_set import TTLSet

log = structlog.get_logger()

REPORT_INTERVAL_SECONDS = 60.0
"""Minimum time between two reports of the same key by one process."""
FLUSH_INTERVAL_SECONDS = 5.0
"""Time between two reports. A process that is killed loses the uses since its last report."""
MAX_UNREPORTED_KEYS = 10_000
"""Keys that are kept while the access service is down: 1 MB. Uses of further keys are lost."""
MAX_REPORTED_KEYS = 500
"""Keys in one request to the access service."""
REPORT_TIMEOUT_SECONDS = 1.0
"""Maximum time that one replica of the access service may take to answer."""


class KeyUsageStore(Protocol):
    """Records that keys were used now. Implemented by KeyUsageClient and KeyRepository."""

    async def mark_used(self, key_ids: Collection[UUID]) -> None: ...


class AccessUnavailable(Unavailable):
    """No replica of the access service accepted a report."""


class KeyUsageClient:
    """Reports used keys to the access service, the only service that writes the schema `access`."""

    def __init__(self, urls: str) -> None:
        """Takes the replicas' URLs, separated by commas. Any replica can accept a report."""
        self._urls = urls.split(",")
        self._http = create_http_pool()

    async def mark_used(self, key_ids: Collection[UUID]) -> None:
        """Reports the keys in chunks. Raises AccessUnavailable at the first chunk that fails.

        Reports are idempotent, so all keys can be reported again.
        """
        ids = list(key_ids)
        for start in range(0, len(ids), MAX_REPORTED_KEYS):
            await self._report(ids[start : start + MAX_REPORTED_KEYS])

    async def _report(self, key_ids: list[UUID]) -> None:
        body = orjson.dumps({"key_ids": key_ids})
        problems = []
        for url in self._urls:
            problem = await self._try(url, body)
            if problem is None:
                return
            problems.append(f"{url}: {problem}")
        raise AccessUnavailable("; ".join(problems))

    async def _try(self, url: str, body: bytes) -> str | None:
        """Reports to one replica. Returns None if it accepted the report, else the problem."""
        headers = [(b"Content-Type", b"application/json")]
        try:
            async with asyncio.timeout(REPORT_TIMEOUT_SECONDS):
                answer = await self._http.request(
                    "POST", f"{url}/internal/key-usage", headers=headers, content=body
                )
        except (TimeoutError, *REQUEST_FAILURES):
            return "no answer"
        return None if answer.status == HTTPStatus.NO_CONTENT else f"status {answer.status}"

    async def close(self) -> None:
        await self._http.aclose()


class KeyUsageRecorder:
    """Records the uses of keys. A request pays for one set lookup.

    If a report fails, its keys are reported again with the next one, at most MAX_UNREPORTED_KEYS.
    """

    def __init__(self, keys: KeyUsageStore, clock: Clock = time.monotonic) -> None:
        self._keys = keys
        self._recorded: TTLSet[UUID] = TTLSet(seconds=REPORT_INTERVAL_SECONDS, clock=clock)
        self._unreported: set[UUID] = set()
        self._in_report: set[UUID] = set()

    def record(self, key_id: UUID) -> None:
        unreported = len(self._unreported) + len(self._in_report)  # a report may fail
        if key_id not in self._recorded and unreported < MAX_UNREPORTED_KEYS:
            self._recorded.add(key_id)
            self._unreported.add(key_id)

    def periodic_task(self) -> PeriodicTask:
        return PeriodicTask("key usage", self.report, interval_seconds=FLUSH_INTERVAL_SECONDS)

    async def report(self) -> int:
        """Reports the recorded keys. Never raises.

        Returns 0, so that PeriodicTask waits for the next interval.
        """
        self._in_report, self._unreported = self._unreported, set()
        used = self._in_report
        if used:
            try:
                await self._keys.mark_used(used)
            except Unavailable as error:
                log.warning("key_usage_not_reported", keys=len(used), error=str(error))
                self._unreported |= used
            except Exception:
                log.exception("key_usage_not_reported", keys=len(used))
                self._unreported |= used
            finally:
                self._in_report = set()
        return 0
