"""HTTP of ingest: an import as JSON, or as a CSV."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from services.ingest.config import IngestSettings
from services.ingest.imports import Imports, location_of
from services.ingest.schemas import ImportAcceptedResponse
from services.ingest.uploads import read_upload
from shared.access.dependencies import WriteAccess
from shared.bodies import read_limited, require_content_type
from shared.events import MAX_ROWS
from shared.http import NO_ACCESS, refusals
from shared.pins import PinSubmission

router = APIRouter(
    prefix="/v1/pins/imports",
    tags=["imports"],
    responses=NO_ACCESS | refusals(HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
)


# Dependencies are async: FastAPI hands any other to a thread
async def _imports(request: Request) -> Imports:
    imports: Imports = request.app.state.imports
    return imports


async def _limit(request: Request) -> int:
    settings: IngestSettings = request.app.state.settings
    return settings.import_body_limit


Accepting = Annotated[Imports, Depends(_imports)]
BodyLimit = Annotated[int, Depends(_limit)]
Strict = Annotated[bool, Query(description="Fail rows that have unknown fields, instead of ignoring these.")]


def _body(content_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": {content_type: {"schema": schema}}}}


_ROWS = {"type": "array", "minItems": 1, "maxItems": MAX_ROWS, "items": PinSubmission.model_json_schema()}
_FILE = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}


@router.post("/json", status_code=HTTPStatus.ACCEPTED, openapi_extra=_body("application/json", _ROWS))
async def import_json(
    request: Request, response: Response, who: WriteAccess, imports: Accepting, limit: BodyLimit, *, strict: Strict = False
) -> ImportAcceptedResponse:
    """Accept a JSON array of rows; durable once this answers. Follow the job at `Location`."""
    require_content_type(request, "application/json")
    body = await read_limited(request, limit)
    accepted = await imports.accept_json(who.workspace_id, body, strict=strict)
    response.headers["Location"] = location_of(accepted.job_id)
    return ImportAcceptedResponse.of(accepted)


@router.post("/csv", status_code=HTTPStatus.ACCEPTED, openapi_extra=_body("multipart/form-data", _FILE))
async def import_csv(
    request: Request, response: Response, who: WriteAccess, imports: Accepting, limit: BodyLimit, *, strict: Strict = False
) -> ImportAcceptedResponse:
    """Accept a CSV, uploaded in the field `file`; durable once this answers. Follow the job at `Location`."""
    upload = await read_upload(request, limit)
    accepted = await imports.accept_csv(who.workspace_id, upload.data, upload.filename, strict=strict)
    response.headers["Location"] = location_of(accepted.job_id)
    return ImportAcceptedResponse.of(accepted)
