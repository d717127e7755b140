"""HTTP endpoints that retry, cancel and undo an import, and that follow one of its rows."""

from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request, Response

from services.status.commands.schemas import (
    ImportCancellationResponse,
    ImportUndoResponse,
    RowTimelineResponse,
    build_retry_schema,
)
from services.status.config import StatusSettings
from services.status.dependencies import Status
from services.status.parameters import JobId
from services.status.results.pages import MAX_DIGITS
from services.status.schemas import ImportJobResponse
from shared.access.dependencies import DestructiveAccess, ReadAccess, WriteAccess
from shared.http.errors import ACCESS_ERRORS, BODY_ERRORS, CONFLICT, GONE, NOT_FOUND, OVERLOADED
from shared.http.idempotency import REPLAYED
from shared.http.requests import describe_json_body, uuid_or_404

router = APIRouter(prefix="/v1/pins/imports", tags=["imports"], responses=ACCESS_ERRORS | NOT_FOUND)

_BODY_LIMIT = StatusSettings.model_fields["retry_body_limit"].default
_RETRY = describe_json_body(build_retry_schema(), _BODY_LIMIT)
_RETRY["requestBody"]["required"] = False
_CHILD: dict[int | str, dict[str, Any]] = {
    HTTPStatus.ACCEPTED: {
        "description": "Kafka has the new import of the failed rows.",
        "headers": {
            "Location": {
                "description": "The path of the new job.",
                "required": True,
                "schema": {"type": "string"},
            },
            **REPLAYED,
        },
        "links": {
            "job": {
                "description": "The new job.",
                "operationId": "get_import",
                "parameters": {"job_id": "$response.body#/id"},
            }
        },
    }
}
_CHILD_DEFAULTS: dict[str, Any] = {"request_id": None, "error_code": None, "error_counts": {}}
"""The fields of a job that ingest's answer to an import lacks."""


@router.post(
    "/{job_id}/retry",
    status_code=HTTPStatus.ACCEPTED,
    response_model=ImportJobResponse,
    responses=OVERLOADED | BODY_ERRORS | CONFLICT | GONE | _CHILD,
    openapi_extra=_RETRY,
)
async def retry_import(
    job_id: JobId, request: Request, principal: WriteAccess, status: Status
) -> Response:
    """Import the failed rows again, with corrections. The answer is a new job with `parent_id`.

    The rows come from the stored upload, with their idempotency keys, lines and the parameters of
    the import. The fields of a correction replace those of its row; null removes a field. The
    import must have ended (409 `job_not_finished`) and must have failed rows (409
    `no_failed_rows`). If its file is not stored any more, the answer is 410 `upload_expired`.

    The same request again gives the same job, with `Idempotent-Replayed: true`. Other corrections
    give another job, in which rows that were created meanwhile are `existing`. To retry what still
    fails, retry the new job.
    """
    parsed_id = uuid_or_404(job_id, "Import job")
    async with status.retry_reader.read_optional(request) as document:
        child, is_replay = await status.commands.retry(principal, parsed_id, document)
    headers = {"Location": f"/v1/pins/imports/{child['id']}"}
    if is_replay:
        headers["Idempotent-Replayed"] = "true"
    return _json(_CHILD_DEFAULTS | child, HTTPStatus.ACCEPTED, headers)


@router.post(
    "/{job_id}/cancel",
    response_model=ImportCancellationResponse,
    response_description="The import after the cancellation.",
)
async def cancel_import(
    job_id: JobId,
    principal: WriteAccess,
    status: Status,
    scheduled: Annotated[
        bool,
        Query(
            description="Also cancel the schedules that the import has created, and withdraw its "
            "pins that wait for their delivery."
        ),
    ] = False,
) -> Response:
    """Cancel the rows that have no result yet. They end as failed with the code `canceled`.

    Rows that were settled before keep their results. With `scheduled=true`, the schedules of the
    import that still wait, for their time or for their delivery, are canceled too. Its pins without
    a schedule that wait for their delivery to Pinterest are withdrawn: they are deleted, and never
    sent. What somebody has changed is left, and so is a pin that is being sent (`publishing`). What
    is on Pinterest stays there. The answer has the counters, what was canceled and withdrawn, and
    what was left and why. If the import has ended, there is nothing else to cancel.

    An API key that is limited to some accounts may cancel rows only if every row of the import
    names one of them by its id. Otherwise the answer is 403 `account_not_permitted`. The request is
    safe to send again.
    """
    document = await status.commands.cancel(
        principal, uuid_or_404(job_id, "Import job"), cancel_schedules=scheduled
    )
    return _json(document)


@router.post(
    "/{job_id}/undo",
    response_model=ImportUndoResponse,
    responses=CONFLICT
    | {HTTPStatus.OK: {"description": "What was undone and what was left.", "headers": REPLAYED}},
)
async def undo_import(
    job_id: JobId,
    principal: DestructiveAccess,
    status: Status,
    dry_run: Annotated[
        bool, Query(description="Only say what would be undone. Nothing is changed.")
    ] = False,
) -> Response:
    """Delete what the import created and nobody has changed since. The keys become free.

    Published pins are deleted, schedules that wait are canceled and deleted. Pins that wait for
    their delivery are never sent. Pins that are on Pinterest are `removing`: they are removed there
    first, and keep their keys until then. Repeat the request to see which are `removed`. A pin that
    is being sent is left as `publishing`, and a later undo reaches it. A pin that was edited,
    canceled, retried or deleted after the import is left, and the answer says why. The counters and
    results of the import stay as they were. The import must have ended (409 `job_not_finished`):
    cancel it first, or wait.

    The same request again gives the same answer, with `Idempotent-Replayed: true`. An API key that
    is limited to some accounts leaves the pins of others. A key for these accounts can undo them
    afterwards.
    """
    document, is_replay = await status.commands.undo(
        principal, uuid_or_404(job_id, "Import job"), dry_run=dry_run
    )
    return _json(document, headers={"Idempotent-Replayed": "true"} if is_replay else None)


@router.get(
    "/{job_id}/rows/{row_number}",
    response_model=RowTimelineResponse,
    response_description="The row's timeline.",
)
async def get_import_row(
    job_id: JobId,
    row_number: Annotated[str, Path(description="The number of the row in the import, from 1.")],
    principal: ReadAccess,
    status: Status,
) -> Response:
    """Follow one row: what happened to it and when, and why it has no result yet.

    If the publisher does not answer, or the API key does not permit the account of the row, the
    timeline has only what is stored with the job.
    """
    parsed_id = uuid_or_404(job_id, "Import job")
    return _json(
        await status.commands.get_timeline(principal, parsed_id, _parse_row_number(row_number))
    )


def _parse_row_number(text: str) -> int:
    """Returns the number, or 0, which no row has, if the text is not a number of a few digits.

    int() raises ValueError for more than 4300 digits.
    """
    is_number = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    return int(text) if is_number else 0


def _json(
    document: object, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    content = orjson.dumps(document, option=orjson.OPT_UTC_Z)
    return Response(content, status, media_type="application/json", headers=headers)
