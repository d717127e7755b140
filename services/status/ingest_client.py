"""Asks ingest whether an import may still arrive."""

import asyncio
from http import HTTPStatus
from uuid import UUID

import httpcore
import orjson

from shared.http.client import REQUEST_FAILURES

REQUEST_TIMEOUT_SECONDS = 1.0


class IngestClient:
    """Queries all replicas of ingest. Each replica knows only the imports that it sent itself."""

    def __init__(self, http: httpcore.AsyncConnectionPool, urls: str) -> None:
        self._http = http
        self._urls = urls.split(",")

    async def may_exist(self, job_id: UUID) -> bool:
        """Returns whether Kafka may have, or may still get, an import with this id.

        Returns True if a replica does not answer.
        """
        return any(await asyncio.gather(*(self._query_replica(url, job_id) for url in self._urls)))

    async def _query_replica(self, url: str, job_id: UUID) -> bool:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_SECONDS):
                answer = await self._http.request("GET", f"{url}/internal/imports/{job_id}")
            return (
                answer.status != HTTPStatus.OK
                or orjson.loads(answer.content)["may_exist"] is not False
            )
        except (TimeoutError, *REQUEST_FAILURES, ValueError, KeyError, TypeError):
            return True
