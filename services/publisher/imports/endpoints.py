"""Internal routes of whole imports: ingest and status call them with the installation's token."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from services.publisher.imports.dependencies import Imports
from services.publisher.imports.schemas import (
    CancelRequest,
    CancelResponse,
    RowReference,
    RowResponse,
    UndoneImports,
    UndoRequest,
    UndoResponse,
    UndoSummaries,
)
from shared.contract.errors import ApiError, ErrorCode
from shared.contract.events import MAX_ROWS, RowAccepted
from shared.contract.wire import UNDECODABLE, encode
from shared.http.internal import RequiresInternalToken
from shared.http.requests import parse_model, require_object

router = APIRouter(prefix="/internal/imports", include_in_schema=False)


@router.post("/check")
async def check_rows(request: Request, _token: RequiresInternalToken, imports: Imports) -> Response:
    """Answers what would become of an import's rows, in their order. Writes nothing."""
    async with imports.reader.read(request) as document:
        results = await imports.checker.check(_parse_rows(document))
    return Response(encode({"results": results}), media_type="application/json")


@router.post("/cancel")
async def cancel_import(
    request: Request, _token: RequiresInternalToken, imports: Imports
) -> CancelResponse:
    """Fails the import's rows that have not settled. On request, also stops what waits."""
    async with imports.reader.read(request) as document:
        command = parse_model(CancelRequest, document)
        return CancelResponse(**await imports.commands.cancel(command))


@router.post("/undo")
async def undo_import(
    request: Request, _token: RequiresInternalToken, imports: Imports
) -> UndoResponse:
    """Deletes what the import created and nobody has changed since. Releases the keys."""
    async with imports.reader.read(request) as document:
        command = parse_model(UndoRequest, document)
        return UndoResponse(**await imports.commands.undo(command))


@router.post("/undos")
async def summarize_undos(
    request: Request, _token: RequiresInternalToken, imports: Imports
) -> UndoSummaries:
    """Says which of a workspace's imports were undone, and how far."""
    async with imports.reader.read(request) as document:
        command = parse_model(UndoneImports, document)
        return UndoSummaries(**await imports.commands.summarize_undos(command))


@router.post("/row")
async def read_row(
    request: Request, _token: RequiresInternalToken, imports: Imports
) -> RowResponse:
    """Reads what the store has for one row."""
    async with imports.reader.read(request) as document:
        return RowResponse(**await imports.commands.read_row(parse_model(RowReference, document)))


def _parse_rows(document: object) -> list[RowAccepted]:
    """Parses the rows. Raises ApiError (422): ingest sends the rows that it would accept."""
    rows: Any = require_object(document).get("rows")
    try:
        parsed = msgspec.convert(rows, list[RowAccepted])
    except UNDECODABLE as error:
        raise ApiError(
            ErrorCode.INVALID_PAYLOAD,
            f"The rows can't be read ({error}). Send a list of RowAccepted events.",
        ) from None
    if len(parsed) > MAX_ROWS:
        raise ApiError(
            ErrorCode.INVALID_PAYLOAD, f"{len(parsed)} rows are too many. Send at most {MAX_ROWS}."
        )
    return parsed
