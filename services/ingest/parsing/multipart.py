"""Reads the uploaded file from a multipart body."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from email.message import Message
from http import HTTPStatus
from typing import NamedTuple

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from shared.contract.errors import ApiError, ErrorCode
from shared.http.bodies import BodyReader, require_content_type

FILE_FIELD = "file"


class UploadedFile(NamedTuple):
    data: bytes
    filename: str | None


@asynccontextmanager
async def open_upload(request: Request, bodies: BodyReader) -> AsyncIterator[UploadedFile]:
    """Reads the file in the field `file` and reserves its memory while the `with` block runs.

    Raises ApiError: 400 for an invalid multipart body, 415 for another content type, 422 if the
    field is missing, and the errors of `bodies`.
    """
    require_content_type(request, "multipart/form-data")
    boundary = _parse_boundary(request.headers.get("content-type", ""))
    async with bodies.read(request) as body:
        yield await _parse_upload(request, body, boundary)


async def _parse_upload(request: Request, body: bytes, boundary: str) -> UploadedFile:
    # Anything may follow the last boundary (RFC 2046, 5.1.1). The parser would accept a body that
    # was cut off
    if f"--{boundary}--".encode() not in body:
        raise _invalid_multipart("It does not end with its boundary")
    try:
        form = await MultiPartParser(
            request.headers, _single_chunk(body), max_files=10, max_fields=50
        ).parse()
    except MultiPartException as error:
        raise _invalid_multipart(error.message) from None
    # Python has charsets that decode nothing (`undefined`), and a name may be invalid in its
    # charset
    except ValueError:
        raise _invalid_multipart(
            "Its names can't be read in the charset of its content type"
        ) from None
    try:
        file = form.get(FILE_FIELD)
        if not isinstance(file, UploadFile):
            raise ApiError(
                ErrorCode.MISSING_FILE,
                f"The body has no file in the field `{FILE_FIELD}`. Send the CSV file there.",
            )
        return UploadedFile(await file.read(), file.filename)
    finally:
        await form.close()


def _parse_boundary(content_type: str) -> str:
    message = Message()
    message["content-type"] = content_type
    try:
        boundary = message.get_boundary()
    except UnicodeError:
        boundary = None
    if not boundary or not boundary.isascii():
        raise _invalid_multipart("Its content type names no boundary")
    return boundary


def _invalid_multipart(reason: str) -> ApiError:
    return ApiError(
        ErrorCode.INVALID_MULTIPART,
        f"The multipart body is invalid. {reason.rstrip('.')}. Send the CSV file as form data.",
        HTTPStatus.BAD_REQUEST,
    )


async def _single_chunk(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
