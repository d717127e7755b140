"""Asks ingest whether an import may still be on its way."""

import asyncio
from http import HTTPStatus
from uuid import UUID

import httpcore
import orjson

from shared.http.client import REQUEST_FAILURES

ASK_SECONDS = 1.0


class IngestClient:
    """Asks every replica of ingest: each knows only what it sent itself."""

    def __init__(self, http: httpcore.AsyncConnectionPool, urls: str) -> None:
        self._http = http
        self._urls = urls.split(",")

    async def may_exist(self, job_id: UUID) -> bool:
        """Tells whether an import with this id may stand in Kafka.

        True if a replica does not answer.
        """
        return any(await asyncio.gather(*(self._ask(url, job_id) for url in self._urls)))

    async def _ask(self, url: str, job_id: UUID) -> bool:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                answer = await self._http.request("GET", f"{url}/internal/imports/{job_id}")
            return (
                answer.status != HTTPStatus.OK
                or orjson.loads(answer.content)["may_stand"] is not False
            )
        except (TimeoutError, *REQUEST_FAILURES, ValueError, KeyError, TypeError):
            return True
