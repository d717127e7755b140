"""One uploaded file out of a multipart body."""

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

FIELD = "file"


class UploadedFile(NamedTuple):
    data: bytes
    filename: str | None


@asynccontextmanager
async def open_upload(request: Request, bodies: BodyReader) -> AsyncIterator[UploadedFile]:
    """The field `file`.

    Raises ApiError: what `bodies` does, 400 for a broken multipart, 415, or 422 without the
    field.
    """
    require_content_type(request, "multipart/form-data")
    boundary = _parse_boundary(request.headers.get("content-type", ""))
    async with bodies.read(request) as body:
        yield await _parse_upload(request, body, boundary)


async def _parse_upload(request: Request, body: bytes, boundary: str) -> UploadedFile:
    # Anywhere, as anything may follow it (RFC 2046, 5.1.1). The parser would take a body that was
    # cut off for the whole
    if f"--{boundary}--".encode() not in body:
        raise _invalid_multipart("it does not end with its boundary")
    try:
        form = await MultiPartParser(
            request.headers, _single_chunk(body), max_files=10, max_fields=50
        ).parse()
    except MultiPartException as error:
        raise _invalid_multipart(error.message) from None
    # A charset that decodes nothing (`undefined` is one to Python), or a name that none can have
    except ValueError:
        raise _invalid_multipart(
            "its names can't be read in the charset of its content type"
        ) from None
    try:
        file = form.get(FIELD)
        if not isinstance(file, UploadFile):
            raise ApiError(
                ErrorCode.MISSING_FILE, f"Send the CSV as a file in the field `{FIELD}`."
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
        raise _invalid_multipart("its content type names no boundary")
    return boundary


def _invalid_multipart(reason: str) -> ApiError:
    return ApiError(
        ErrorCode.INVALID_MULTIPART,
        f"The multipart body is broken: {reason}.",
        HTTPStatus.BAD_REQUEST,
    )


async def _single_chunk(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
