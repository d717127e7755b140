"""Retries, cancels and undoes imports, and follows one row. Ingest and the publisher do the work.

Every command can be repeated: its effect depends only on the job and the content of the request.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Any, Protocol
from uuid import UUID

from services.status.commands.corrections import parse_corrections, require_failed_rows
from services.status.commands.retry import build_retry, require_failures
from services.status.commands.timeline import build_timeline, hide_foreign_pin
from services.status.results.encoding import index_results
from services.status.service import JobQueries, count_unsettled, require_finished
from services.status.uploads.files import require_permitted
from services.status.uploads.reading import read_upload
from services.status.uploads.service import Uploads
from services.status.uploads.slots import UploadSlots
from shared.access.model import Principal
from shared.contract.errors import ApiError, ErrorCode
from shared.http.internal_calls import InternalCalls
from shared.postgres.row import Row

RETRY_TIMEOUT_SECONDS = 20.0
"""Longer than ingest waits for Kafka before it answers `acceptance_unknown`."""
COMMAND_TIMEOUT_SECONDS = 20.0
TIMELINE_TIMEOUT_SECONDS = 3.0
"""A timeline without the publisher's part is better than none."""
CANCEL_WAIT_SECONDS = 2.0
"""Maximum time that a cancellation waits until all rows of the import have a result."""


class SettledTimes(Protocol):
    """Knows when rows were settled. Implemented by JobRepository."""

    async def find_settled_at(self, job_id: UUID, row_number: int) -> datetime | None:
        """Reads when the result of a row was folded."""


class ImportCommandService:
    """The commands on one import of the API key's workspace.

    Raises ApiError: 404 for another workspace's job, 409 if the job's state does not allow the
    command, 503 if another service does not answer.
    """

    def __init__(
        self,
        jobs: JobQueries,
        uploads: Uploads,
        slots: UploadSlots,
        times: SettledTimes,
        *,
        publisher: InternalCalls,
        ingest: InternalCalls,
    ) -> None:
        self._jobs = jobs
        self._uploads = uploads
        self._slots = slots
        self._times = times
        self._publisher = publisher
        self._ingest = ingest

    async def retry(
        self, principal: Principal, job_id: UUID, document: object
    ) -> tuple[dict[str, Any], bool]:
        """Sends the failed rows again, as a new import.

        Returns the child's document, and whether an earlier request has made it.
        """
        job = await self._jobs.get(principal.workspace_id, job_id)
        corrections = parse_corrections(document)
        require_finished(job)
        require_failures(job)
        results = index_results(job["results"])
        require_failed_rows(corrections, results, job["total_rows"])
        async with self._slots.slot(principal.workspace_id):
            upload = await self._uploads.get(job)
            request = await asyncio.to_thread(
                build_retry, job, results, upload, corrections, principal
            )
            answer = await self._ingest.post(
                "imports", request, timeout_seconds=RETRY_TIMEOUT_SECONDS
            )
        is_replay = bool(answer.pop("is_replay", False))
        return {**answer, "parent_id": str(job_id)}, is_replay

    async def cancel(
        self, principal: Principal, job_id: UUID, *, cancel_schedules: bool
    ) -> dict[str, Any]:
        """Cancels the rows without a result, and what waits if asked for.

        Returns an ImportCancellationResponse.
        """
        job = await self._jobs.get(principal.workspace_id, job_id)
        answer: Mapping[str, Any] = {}
        is_running = job["completed_at"] is None
        if is_running:
            await self._require_all_rows(principal, job)
        if is_running or cancel_schedules:
            request = {**_build_request(job, principal), "cancel_schedules": cancel_schedules}
            answer = await self._publisher.post(
                "imports/cancel", request, timeout_seconds=COMMAND_TIMEOUT_SECONDS
            )
        if is_running:
            job = await self._jobs.get(
                principal.workspace_id, job_id, wait_seconds=CANCEL_WAIT_SECONDS
            )
        return _build_cancellation(job, answer)

    async def undo(
        self, principal: Principal, job_id: UUID, *, dry_run: bool
    ) -> tuple[dict[str, Any], bool]:
        """Deletes what the job created and nobody has changed since.

        Returns an ImportUndoResponse, and whether the job was undone before.
        """
        job = await self._jobs.get(principal.workspace_id, job_id)
        require_finished(job)
        answer = await self._publisher.post(
            "imports/undo",
            {**_build_request(job, principal), "dry_run": dry_run},
            timeout_seconds=COMMAND_TIMEOUT_SECONDS,
        )
        document = {
            "job_id": str(job_id),
            "undo_id": answer.get("undo_id"),
            "undone_at": answer.get("undone_at"),
            "dry_run": dry_run,
            "undone_rows": len(answer["undone"]),
            "left_rows": len(answer["left"]),
            "undone": answer["undone"],
            "left": answer["left"],
        }
        return document, bool(answer.get("is_replay", False))

    async def get_timeline(
        self, principal: Principal, job_id: UUID, row_number: int
    ) -> dict[str, Any]:
        """Returns a RowTimelineResponse. Without the publisher, it has what status knows."""
        job = await self._jobs.get(principal.workspace_id, job_id)
        if not 1 <= row_number <= job["total_rows"]:
            message = f"This import has no such row. Its rows are 1 to {job['total_rows']}."
            raise ApiError(ErrorCode.NOT_FOUND, message, HTTPStatus.NOT_FOUND)
        result = index_results(job["results"]).get(row_number)
        settled_at = await self._times.find_settled_at(job_id, row_number) if result else None
        request = {**_build_request(job, principal), "row_number": row_number}
        del request["account_ids"]
        stored: Mapping[str, Any] | None
        try:
            stored = await self._publisher.post(
                "imports/row", request, timeout_seconds=TIMELINE_TIMEOUT_SECONDS
            )
        except ApiError as error:
            if error.code not in {ErrorCode.SERVICE_UNAVAILABLE, ErrorCode.DATABASE_UNAVAILABLE}:
                raise
            stored = None
        else:
            stored = hide_foreign_pin(stored, principal.account_ids)
        return build_timeline(job, row_number, result, settled_at, stored)

    async def _require_all_rows(self, principal: Principal, job: Row) -> None:
        """Raises ApiError (403) if the job may have rows of accounts that the key may not use."""
        if principal.account_ids is None:
            return
        try:
            async with self._slots.slot(principal.workspace_id):
                uploaded = await asyncio.to_thread(read_upload, await self._uploads.get(job))
        except ApiError as error:
            if error.status is not HTTPStatus.GONE:
                raise
            message = (
                "The accounts of this import's rows are not known any more, because its file is "
                "not stored. Use a key for all accounts."
            )
            raise ApiError(
                ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN
            ) from error
        require_permitted(uploaded.rows, principal.account_ids)


def _build_request(job: Row, principal: Principal) -> dict[str, Any]:
    """Builds the fields that every command of the publisher takes."""
    account_ids = principal.account_ids
    return {
        "workspace_id": str(job["workspace_id"]),
        "job_id": str(job["job_id"]),
        "accepted_at": job["accepted_at"].isoformat(),
        "account_ids": None if account_ids is None else sorted(map(str, account_ids)),
    }


def _build_cancellation(job: Row, answer: Mapping[str, Any]) -> dict[str, Any]:
    counters = ("total_rows", "created_rows", "existing_rows", "failed_rows")
    unsettled = count_unsettled(job)
    return {
        "id": job["job_id"],
        "status": job["status"],
        **{name: job[name] for name in counters},
        "processed_rows": job["total_rows"] - unsettled,
        "canceled_rows": job["error_counts"].get(ErrorCode.CANCELED, 0),
        "unsettled_rows": unsettled,
        "completed_at": job["completed_at"],
        "canceled_schedules": answer.get("canceled_schedules", []),
        "withdrawn_pins": answer.get("withdrawn_pins", []),
        "left": answer.get("left", []),
    }
