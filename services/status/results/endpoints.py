"""The HTTP endpoint of an import's results, page by page."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from services.status.dependencies import Status
from services.status.parameters import JobId
from services.status.results.formats import ResultFormat, choose_format, write_page
from services.status.results.pages import ResultFilters, select_page
from shared.access.dependencies import ReadAccess
from shared.http.errors import ACCESS_ERRORS, NOT_FOUND, error_responses
from shared.http.pagination.parameters import PAGE_RESPONSES, set_page_headers
from shared.http.requests import uuid_or_404
from shared.http.row_results import RowResultResponse, decode_results, hide_result_values

router = APIRouter(prefix="/v1/pins/imports", tags=["imports"], responses=ACCESS_ERRORS | NOT_FOUND)

_PAGE: dict[int | str, dict[str, Any]] = {
    HTTPStatus.OK: {
        **PAGE_RESPONSES[HTTPStatus.OK],
        "description": "One page of results, in the format that `Accept` asks for.",
        "content": {
            ResultFormat.CSV: {
                "schema": {
                    "title": "ResultsAsCsv",
                    "type": "string",
                    "description": "A header and one line for each result, without its `errors`.",
                }
            },
            ResultFormat.NDJSON: {
                "schema": {
                    "title": "ResultsAsLines",
                    "type": "string",
                    "description": "One result as a JSON object on each line.",
                }
            },
        },
    },
    **error_responses(HTTPStatus.NOT_ACCEPTABLE),
}


@router.get("/{job_id}/results", response_model=list[RowResultResponse], responses=_PAGE)
async def list_results(
    job_id: JobId,
    request: Request,
    principal: ReadAccess,
    status: Status,
    query: Annotated[ResultFilters, Query()],
) -> Response:
    """List the results of an import in row order, filtered and page by page.

    The header `Accept` chooses the format: `application/json` (the default), `text/csv` or
    `application/x-ndjson`. If it allows none of them, the answer is 406 `not_acceptable`.

    While the import is being processed, a row before the cursor may still get its result. The
    following pages don't have such rows.
    """
    format_ = choose_format(request.headers.getlist("accept"))
    job = await status.jobs.get(principal.workspace_id, uuid_or_404(job_id, "Import job"))
    selected = select_page(job["job_id"], decode_results(job["results"]), query)
    results = selected.results
    if principal.account_ids is not None:
        results = [hide_result_values(result) for result in results]
    response = Response(write_page(results, format_), media_type=format_.value)
    response.headers["Vary"] = "Accept"
    set_page_headers(request, response, query, selected.page)
    return response
