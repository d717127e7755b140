"""Jobs as clients ask for them: at once, right after the 202, or when they have ended."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Protocol, TypeVar
from uuid import UUID

from shared.errors import ErrorCode, RequestRefused, not_found

Row = Mapping[str, Any]
T = TypeVar("T")

YOUNG = timedelta(minutes=5)
"""A job id of this age may belong to an import whose fold is still to come. Either way: clocks differ."""
APPEARANCE_SECONDS = 2.0
"""How long such a job is waited for, foreign and absent ones alike, so that the time an answer takes tells nothing."""
PROGRESS_SECONDS = 1.0
"""How much longer it may take to learn that all which stood in Kafka is folded. A look at that takes a second (progress.py)."""
FIRST_POLL_SECONDS = 0.02
LONGEST_POLL_SECONDS = 0.25
UUID_VERSION_WITH_TIME = 7


class Jobs(Protocol):
    async def job(self, workspace_id: UUID, job_id: UUID, *, with_results: bool = True) -> Row | None: ...


class FoldsSeen(Protocol):
    async def now(self) -> datetime: ...
    async def has_folded(self, job_id: UUID, moment: datetime) -> bool: ...


class JobQueries:
    """Reads of one job. Polls Postgres, so that any replica can answer for what any other folded; holds no connection meanwhile."""

    def __init__(self, jobs: Jobs, folds: FoldsSeen) -> None:
        self._jobs = jobs
        self._folds = folds

    async def get(self, workspace_id: UUID, job_id: UUID, *, wait_seconds: float = 0) -> Row:
        """The job with its results; with `wait_seconds`, when it has ended or that time has passed. Raises RequestRefused."""
        job = await self._jobs.job(workspace_id, job_id)
        if job is None and is_young(job_id, datetime.now(UTC)):
            job = await self._appearance(workspace_id, job_id)
        if job is None:
            raise not_found("Import job")
        if wait_seconds and job["completed_at"] is None:
            job = await self._wait(workspace_id, job_id, wait_seconds) or job
        return job

    async def _wait(self, workspace_id: UUID, job_id: UUID, seconds: float) -> Row | None:
        async def ended() -> Row | None:
            job = await self._jobs.job(workspace_id, job_id, with_results=False)
            return job if job is not None and job["completed_at"] is not None else None

        await _poll(ended, seconds)
        return await self._jobs.job(workspace_id, job_id)

    async def _appearance(self, workspace_id: UUID, job_id: UUID) -> Row | None:
        """Wait for a job that may just have been accepted. None only when all that stood in Kafka when it was asked for is folded.

        Raises RequestRefused (503) when that can't be told: folds are behind, Kafka is silent, or an import's transaction is still open.
        """
        asked_at = await self._folds.now()
        job = await _poll(lambda: self._jobs.job(workspace_id, job_id), APPEARANCE_SECONDS)
        if job is not None:
            return job

        async def has_folded() -> bool | None:
            return await self._folds.has_folded(job_id, asked_at) or None

        if not (await has_folded() or await _poll(has_folded, PROGRESS_SECONDS)):
            raise _behind(job_id)
        return await self._jobs.job(workspace_id, job_id)


def _behind(job_id: UUID) -> RequestRefused:
    message = "Results are running late; whether this job exists can't be told yet. Ask again."
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return RequestRefused(ErrorCode.STATUS_BEHIND, message, status, headers={"Retry-After": "2"}, job_id=str(job_id))


def is_young(job_id: UUID, now: datetime) -> bool:
    """Whether the id is one of ours (a UUIDv7) and was made about now."""
    if job_id.version != UUID_VERSION_WITH_TIME:
        return False
    made = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=job_id.int >> 80)
    return abs(now - made) <= YOUNG


def parse_prefer_wait(values: list[str], *, most: int = 30) -> int:
    """The seconds of `Prefer: wait=N` (RFC 7240), at most `most`; 0 without one or for nonsense: a preference never refuses."""
    for value in values:
        for preference in value.split(","):
            name, _, argument = preference.split(";")[0].partition("=")
            text = argument.strip().strip('"')
            if name.strip().lower() == "wait" and text.isascii() and text.isdigit():
                return min(int(text[:6]), most)
    return 0


async def _poll(attempt: Callable[[], Awaitable[T | None]], seconds: float) -> T | None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    pause = FIRST_POLL_SECONDS
    while (left := deadline - loop.time()) > 0:
        await asyncio.sleep(min(pause, left))
        pause = min(pause * 1.5, LONGEST_POLL_SECONDS)
        if (found := await attempt()) is not None:
            return found
    return None
