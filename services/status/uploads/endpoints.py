"""HTTP endpoints of an import's rows as files."""

import asyncio
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Response

from services.status.dependencies import Status
from services.status.parameters import JobId
from services.status.results.encoding import index_results
from services.status.service import require_finished
from services.status.uploads.downloads import CsvDownload
from services.status.uploads.files import build_disposition, require_permitted, write_file
from services.status.uploads.model import StoredUpload
from services.status.uploads.reading import read_upload
from shared.access.dependencies import ReadAccess
from shared.access.model import Principal
from shared.http.errors import ACCESS_ERRORS, CONFLICT, GONE, NOT_FOUND
from shared.http.requests import uuid_or_404

router = APIRouter(
    prefix="/v1/pins/imports", tags=["imports"], responses=ACCESS_ERRORS | NOT_FOUND | GONE
)

_FILE: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK: {
        "description": "The file. UTF-8 with a byte order mark, so that Excel opens it right.",
        "content": {
            "text/csv": {
                "schema": {
                    "title": "ResultsFile",
                    "type": "string",
                    "description": (
                        "A CSV file: the columns of the upload, then line, status, pin_id, "
                        "schedule_id, error_code and error_message."
                    ),
                }
            }
        },
        "headers": {
            "Content-Disposition": {
                "description": "The name of the file, made from that of the upload.",
                "schema": {"type": "string"},
            }
        },
    }
}


@router.get("/{job_id}/results.csv", response_class=Response, responses=_FILE)
async def download_results(job_id: JobId, principal: ReadAccess, status: Status) -> Response:
    """Download the file as it was uploaded, with the result of each row.

    The file has the columns, order and delimiter of the upload, then `line`, `status`, `pin_id`,
    `schedule_id`, `error_code` and `error_message`. For an import of JSON, the fields are the
    columns. `status` is empty for a row without a result. The file can be uploaded again as it is:
    an import ignores these columns.

    A cell that a spreadsheet program would run as a formula begins with an apostrophe, and so does
    a cell that already began with one. An import of the file removes it again.

    An API key that is limited to some accounts gets the file only if every row names one of them by
    its id. Otherwise the answer is 403 `account_not_permitted`.
    """
    return await _download(status, principal, job_id, "results")


@router.get("/{job_id}/failed.csv", response_class=Response, responses=_FILE | CONFLICT)
async def download_failed_rows(job_id: JobId, principal: ReadAccess, status: Status) -> Response:
    """Download the failed rows, to correct them and upload the file again.

    The file has the form of `results.csv`, and the same API keys get it. The import must have ended
    (409 `job_not_finished`). The other rows are not needed in a new import.
    """
    return await _download(status, principal, job_id, "failed")


async def _download(status: Status, principal: Principal, job_id: str, kind: str) -> Response:
    job = await status.jobs.get(principal.workspace_id, uuid_or_404(job_id, "Import job"))
    only_failed = kind == "failed"
    if only_failed:
        require_finished(job)

    async def open_file() -> Iterator[bytes]:
        return await asyncio.to_thread(build, await status.uploads.get(job))

    def build(upload: StoredUpload) -> Iterator[bytes]:
        uploaded = read_upload(upload)
        require_permitted(uploaded.rows, principal.account_ids)
        return write_file(uploaded, index_results(job["results"]), only_failed=only_failed)

    return CsvDownload(
        status.upload_slots.slot(principal.workspace_id),
        open_file,
        build_disposition(job["source_filename"], job["job_id"], kind),
    )
