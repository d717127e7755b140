"""Finds the upload of a job, or says why there is none."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Protocol
from uuid import UUID

from services.status.service import build_status_behind
from services.status.uploads.model import StoredUpload
from shared.contract.errors import ApiError, ErrorCode
from shared.postgres.row import Row

MAX_FOLD_DELAY = timedelta(minutes=1)
"""Time for which the upload of a folded import may still be missing. The upload is another record
of the same batch, and a fold of many records has several transactions.
"""


class UploadReader(Protocol):
    """Reads uploads. Implemented by JobRepository."""

    async def find_upload(self, workspace_id: UUID, job_id: UUID) -> StoredUpload | None:
        """Reads the upload of a workspace's job."""


class Uploads:
    """The stored uploads of a workspace's imports."""

    def __init__(self, reader: UploadReader, retention_days: int) -> None:
        self._reader = reader
        self._retention_days = retention_days

    async def get(self, job: Row) -> StoredUpload:
        """Returns the upload of a job.

        Raises ApiError: 410 if it is not stored, or not any more; 503 while it may still appear.
        """
        upload = await self._reader.find_upload(job["workspace_id"], job["job_id"])
        if upload is not None:
            return upload
        age = datetime.now(UTC) - job["accepted_at"]
        if self._retention_days and job["total_rows"] and age < MAX_FOLD_DELAY:
            raise build_status_behind(job["job_id"], "Its file is not stored yet. Try again.")
        raise ApiError(ErrorCode.UPLOAD_EXPIRED, self._explain(job, age), HTTPStatus.GONE)

    def _explain(self, job: Row, age: timedelta) -> str:
        advice = "Import the rows from your own copy."
        if not job["total_rows"]:
            return "This import was refused as a whole, so its file was not stored. " + advice
        if not self._retention_days:
            return f"This installation does not store the files of imports. {advice}"
        if age < timedelta(days=self._retention_days):
            return f"The file of this import was not stored. {advice}"
        return (
            "The file of this import is not stored any more: uploads are kept for "
            f"{self._retention_days} days. {advice}"
        )
