"""Reads a job for a client. Waits if its import is not folded yet, or until it has ended."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Protocol, TypeVar
from uuid import UUID

from services.status.model import Missing
from shared.contract.errors import ApiError, ErrorCode, not_found
from shared.contract.time_ordered_ids import read_time
from shared.contract.young_jobs import MAX_YOUNG_AGE
from shared.postgres.row import Row

T = TypeVar("T")

MAX_FOLD_WAIT_SECONDS = 2.0
"""Maximum time that a GET waits until the import of a young job is folded."""
RETRY_AFTER_SECONDS = 2
MIN_POLL_SECONDS = 0.02
MAX_POLL_SECONDS = 0.25


class JobReader(Protocol):
    """Reads jobs. Implemented by JobRepository."""

    async def find_job(
        self, workspace_id: UUID, job_id: UUID, *, with_results: bool = True
    ) -> Row | Missing:
        """Reads the job if it belongs to the workspace."""

    async def is_replaying(self) -> bool:
        """Returns whether jobs may be missing because Postgres was restored from a backup."""


class SentImports(Protocol):
    """The imports that ingest has sent. Implemented by IngestClient."""

    async def may_exist(self, job_id: UUID) -> bool:
        """Returns whether Kafka may have, or may still get, an import with this id."""


class JobQueries:
    """Reads one job, and waits for it if necessary.

    It polls Postgres, so any replica can answer, whichever replica folds the job. Between two polls
    it holds no connection.
    """

    def __init__(self, jobs: JobReader, imports: SentImports) -> None:
        self._jobs = jobs
        self._imports = imports

    async def get(self, workspace_id: UUID, job_id: UUID, *, wait_seconds: float = 0) -> Row:
        """Returns the job with its results.

        With `wait_seconds`, waits until the job has ended or the time has passed. Raises ApiError:
        404 if the workspace has no such job, 503 while the job may still appear because it is young
        or because Postgres was restored from a backup.
        """
        job = await self._jobs.find_job(workspace_id, job_id)
        if job is Missing.UNKNOWN and is_young(job_id, datetime.now(UTC)):
            job = await self._wait_until_folded(workspace_id, job_id)
        if job is Missing.UNKNOWN and await self._jobs.is_replaying():
            # The job may have been folded between the two reads
            job = await self._jobs.find_job(workspace_id, job_id)
            if job is Missing.UNKNOWN:
                raise build_status_behind(
                    job_id,
                    "Postgres was restored from a backup, and Pinflow is reading imports again. "
                    "Try again in a few minutes.",
                )
        if isinstance(job, Missing):
            raise not_found("Import job")
        if wait_seconds and job["completed_at"] is None:
            job = await self._wait_until_ended(workspace_id, job_id, wait_seconds) or job
        return job

    async def _wait_until_ended(
        self, workspace_id: UUID, job_id: UUID, seconds: float
    ) -> Row | None:
        async def ended() -> Row | None:
            job = await self._jobs.find_job(workspace_id, job_id, with_results=False)
            return None if isinstance(job, Missing) or job["completed_at"] is None else job

        await _poll(ended, seconds)
        job = await self._jobs.find_job(workspace_id, job_id)
        return None if isinstance(job, Missing) else job

    async def _wait_until_folded(self, workspace_id: UUID, job_id: UUID) -> Row | Missing:
        """Waits until a young job's import is folded, if ingest may have sent such an import.

        Raises ApiError (503) if the job does not appear in MAX_FOLD_WAIT_SECONDS.
        """
        if not await self._imports.may_exist(job_id):
            # It may have been folded since the first read
            return await self._jobs.find_job(workspace_id, job_id)

        async def folded() -> Row | Missing | None:
            job = await self._jobs.find_job(workspace_id, job_id)
            return None if job is Missing.UNKNOWN else job

        job: Row | Missing | None = await _poll(folded, MAX_FOLD_WAIT_SECONDS)
        if job is None:
            raise build_status_behind(
                job_id,
                "Its import may still arrive. Try again, for up to "
                f"{MAX_YOUNG_AGE // timedelta(minutes=1)} minutes after the import.",
            )
        return job


def build_status_behind(job_id: UUID, reason: str) -> ApiError:
    """Builds the 503 of a job that is not stored completely yet."""
    message = f"The job is not available yet. {reason}"
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return ApiError(
        ErrorCode.STATUS_BEHIND,
        message,
        HTTPStatus.SERVICE_UNAVAILABLE,
        headers=headers,
        job_id=str(job_id),
    )


def require_finished(job: Row) -> None:
    """Raises ApiError (409) if rows of the job have no result yet."""
    if job["completed_at"] is not None:
        return
    unsettled = count_unsettled(job)
    rows = "1 row" if unsettled == 1 else f"{unsettled} rows"
    message = (
        f"This import still has {rows} without a result. Wait until it has ended, or cancel it "
        "first."
    )
    raise ApiError(
        ErrorCode.JOB_NOT_FINISHED,
        message,
        HTTPStatus.CONFLICT,
        unsettled_rows=unsettled,
        cancel=f"/v1/pins/imports/{job['job_id']}/cancel",
    )


def count_unsettled(job: Row) -> int:
    """Counts the rows of a job that have no result."""
    settled: int = job["created_rows"] + job["existing_rows"] + job["failed_rows"]
    return int(job["total_rows"]) - settled


def is_young(job_id: UUID, now: datetime) -> bool:
    """Returns whether the id is a UUIDv7 whose time differs from now by at most MAX_YOUNG_AGE.

    Ingest's clock made the id's time, and this process's clock makes `now`. Clock skew lengthens or
    shortens that time, and may put the id's time in the future.
    """
    created_at = read_time(job_id)
    return created_at is not None and abs(now - created_at) <= MAX_YOUNG_AGE


def parse_prefer_wait(values: list[str], *, max_seconds: int = 30) -> int:
    """Parses the seconds of `Prefer: wait=N` (RFC 7240), at most `max_seconds`.

    Returns 0 if the header is missing or invalid: a preference never causes an error.
    """
    for value in values:
        for preference in value.split(","):
            name, _, argument = preference.split(";")[0].partition("=")
            text = argument.strip().strip('"')
            if name.strip().lower() == "wait" and text.isascii() and text.isdigit():
                return min(int(text[:6]), max_seconds)
    return 0


async def _poll(attempt: Callable[[], Awaitable[T | None]], seconds: float) -> T | None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    pause = MIN_POLL_SECONDS
    while (remaining := deadline - loop.time()) > 0:
        await asyncio.sleep(min(pause, remaining))
        pause = min(pause * 1.5, MAX_POLL_SECONDS)
        if (result := await attempt()) is not None:
            return result
    return None
