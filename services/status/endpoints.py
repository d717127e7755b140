"""HTTP endpoints of import jobs."""

from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Path, Query, Request, Response

from services.status.dependencies import Status
from services.status.lists import ImportFilters
from services.status.schemas import ImportJobResponse, build_job_document
from services.status.service import parse_prefer_wait
from shared.access.dependencies import ReadAccess
from shared.http.errors import ACCESS_ERRORS, error_responses
from shared.http.pagination.parameters import PAGE_RESPONSES, set_page_headers
from shared.http.requests import uuid_or_404

router = APIRouter(prefix="/v1/pins/imports", tags=["imports"], responses=ACCESS_ERRORS)

# Declared by hand: a header parameter of FastAPI would accept only one such header
_PREFER = {
    "parameters": [
        {
            "name": "Prefer",
            "in": "header",
            "required": False,
            "description": (
                "`wait=N` (RFC 7240): wait until the import has ended, but at most N seconds. "
                "The maximum of N is 30."
            ),
            "schema": {"type": "string", "examples": ["wait=10"]},
        }
    ]
}

_JOB: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK: {
        "description": "The import and the results so far.",
        "headers": {
            "Preference-Applied": {
                "description": "`wait=N` if the request had `Prefer: wait=N`. Otherwise absent.",
                "schema": {"type": "string"},
            }
        },
    }
}


def _json(document: object, headers: dict[str, str] | None = None) -> Response:
    content = orjson.dumps(document, option=orjson.OPT_UTC_Z)
    return Response(content, media_type="application/json", headers=headers)


@router.get(
    "",
    response_model=list[ImportJobResponse],
    responses=PAGE_RESPONSES,
    response_description="One page of imports.",
)
async def list_imports(
    request: Request,
    principal: ReadAccess,
    status: Status,
    query: Annotated[ImportFilters, Query()],
) -> Response:
    """List the workspace's imports, newest first, without their results.

    One request scans a limited number of imports (`PINFLOW_LIST_SCAN_LIMIT`). If it would have to
    scan more, the answer is 422 `search_too_wide`. The message says which `since` or `until` to
    send. The field `reached`, if present, contains only that time.
    """
    page = await status.lists.list_imports(principal, query)
    undos = await status.undos.find(principal.workspace_id, page.rows) if query.include_undo else {}
    response = _json([build_job_document(job, undo=undos.get(job["job_id"])) for job in page.rows])
    set_page_headers(request, response, query, page)
    return response


@router.get(
    "/{job_id}",
    response_model=ImportJobResponse,
    responses=error_responses(HTTPStatus.NOT_FOUND) | _JOB,
    openapi_extra=_PREFER,
)
async def get_import(
    job_id: Annotated[str, Path(description="The job's id.")],
    request: Request,
    principal: ReadAccess,
    status: Status,
    include_results: Annotated[
        bool, Query(description="`false` makes the answer small: `results` is empty.")
    ] = True,
    include_undo: Annotated[
        bool, Query(description="`true` also says whether the import was undone, in `undo`.")
    ] = False,
) -> Response:
    """Get one import with the result of each row, in row order.

    `differing_fields` of a row that exists with other content has the values that were stored and
    sent. For an API key that is limited to some accounts it has only the names of the fields, and
    of a pin of another account than the row's only `account_id`. For such a key, `value` in
    `errors` is null.

    With `Prefer: wait=N`, the answer waits until the import has ended, but at most N seconds. The
    maximum of N is 30.
    """
    wait = parse_prefer_wait(request.headers.getlist("prefer"))
    job = await status.jobs.get(
        principal.workspace_id, uuid_or_404(job_id, "Import job"), wait_seconds=wait
    )
    undos = await status.undos.find(principal.workspace_id, [job]) if include_undo else {}
    document = build_job_document(
        job,
        with_values=principal.account_ids is None,
        with_results=include_results,
        undo=undos.get(job["job_id"]),
    )
    return _json(document, {"Preference-Applied": f"wait={wait}"} if wait else None)
