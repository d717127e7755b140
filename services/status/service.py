"""Jobs as clients ask for them: at once, right after the 202, or when they have ended."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from http import HTTPStatus
from typing import Protocol, TypeVar
from uuid import UUID

from shared.contract.errors import ApiError, ErrorCode, not_found
from shared.postgres.row import Row

T = TypeVar("T")

YOUNG = timedelta(minutes=5)
"""Age up to which a job id may belong to an import that is still on its way. Kafka may append a
batch that was answered `acceptance_unknown` some minutes later."""
MAX_FOLD_WAIT_SECONDS = 2.0
"""How long a GET waits for such a job."""
RETRY_AFTER_SECONDS = 2
FIRST_POLL_SECONDS = 0.02
MAX_POLL_SECONDS = 0.25
UUID_VERSION_WITH_TIME = 7


class Missing(Enum):
    """Why a workspace has no job with some id."""

    UNKNOWN = auto()
    """No import with this id is folded yet."""
    FOREIGN = auto()
    """The job belongs to another workspace."""


class Jobs(Protocol):
    """Where jobs are read; the real one is JobRepository."""

    async def find_job(
        self, workspace_id: UUID, job_id: UUID, *, with_results: bool = True
    ) -> Row | Missing:
        """Reads the job if it is this workspace's."""

    async def is_replaying(self) -> bool:
        """Tells whether jobs may be missing because a restored Postgres lost them."""


class Imports(Protocol):
    """What ingest has sent; the real one is IngestClient."""

    async def may_exist(self, job_id: UUID) -> bool:
        """Tells whether an import with this id may stand in Kafka, or still come to stand there."""


class JobQueries:
    """Reads of one job.

    Polls Postgres, so that any replica can answer for what any other folded; holds no connection
    meanwhile.
    """

    def __init__(self, jobs: Jobs, imports: Imports) -> None:
        self._jobs = jobs
        self._imports = imports

    async def get(self, workspace_id: UUID, job_id: UUID, *, wait_seconds: float = 0) -> Row:
        """Returns the job with its results; with `wait_seconds`, when it has ended or that time has
        passed.

        Raises ApiError: 404 if the job is another workspace's or there is none, 503 while a
        young one may still appear.
        """
        job = await self._jobs.find_job(workspace_id, job_id)
        if job is Missing.UNKNOWN and is_young(job_id, datetime.now(UTC)):
            job = await self._appearance(workspace_id, job_id)
        if job is Missing.UNKNOWN and await self._jobs.is_replaying():
            # The job may have come back between the two reads
            job = await self._jobs.find_job(workspace_id, job_id)
            if job is Missing.UNKNOWN:
                raise _behind(
                    job_id,
                    "Postgres was restored from a backup, and imports are being read again. Ask "
                    "again in some minutes.",
                )
        if isinstance(job, Missing):
            raise not_found("Import job")
        if wait_seconds and job["completed_at"] is None:
            job = await self._wait(workspace_id, job_id, wait_seconds) or job
        return job

    async def _wait(self, workspace_id: UUID, job_id: UUID, seconds: float) -> Row | None:
        async def ended() -> Row | None:
            job = await self._jobs.find_job(workspace_id, job_id, with_results=False)
            return None if isinstance(job, Missing) or job["completed_at"] is None else job

        await _poll(ended, seconds)
        job = await self._jobs.find_job(workspace_id, job_id)
        return None if isinstance(job, Missing) else job

    async def _appearance(self, workspace_id: UUID, job_id: UUID) -> Row | Missing:
        """Waits for a young job until its import is folded, if ingest may have sent one.

        Raises ApiError (503) if it does not appear.
        """
        if not await self._imports.may_exist(job_id):
            return await self._jobs.find_job(
                workspace_id, job_id
            )  # it may have been folded meanwhile

        async def appeared() -> Row | Missing | None:
            job = await self._jobs.find_job(workspace_id, job_id)
            return None if job is Missing.UNKNOWN else job

        job: Row | Missing | None = await _poll(appeared, MAX_FOLD_WAIT_SECONDS)
        if job is None:
            raise _behind(
                job_id,
                "Its import may still be on its way. Ask again: the answer is final 5 minutes "
                "after the import.",
            )
        return job


def _behind(job_id: UUID, reason: str) -> ApiError:
    message = f"This job is not known yet. {reason}"
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return ApiError(
        ErrorCode.STATUS_BEHIND,
        message,
        HTTPStatus.SERVICE_UNAVAILABLE,
        headers=headers,
        job_id=str(job_id),
    )


def is_young(job_id: UUID, now: datetime) -> bool:
    """Tells whether the id is a UUIDv7 that was made within 5 minutes of now, before or after.

    Ingest's clock dates the id and this process's clock judges it. The 5 minutes are longer or
    shorter by as much as the clocks differ, and an id may come from the future.
    """
    if job_id.version != UUID_VERSION_WITH_TIME:
        return False
    made = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=job_id.int >> 80)
    return abs(now - made) <= YOUNG


def parse_prefer_wait(values: list[str], *, most: int = 30) -> int:
    """The seconds of `Prefer: wait=N` (RFC 7240), at most `most`; 0 without one or for nonsense: a
    preference never refuses.
    """
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
        pause = min(pause * 1.5, MAX_POLL_SECONDS)
        if (found := await attempt()) is not None:
            return found
    return None
