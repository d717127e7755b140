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
from shared.http.bodies import Bodies, require_content_type

FIELD = "file"


class Upload(NamedTuple):
    data: bytes
    filename: str | None


@asynccontextmanager
async def reading_upload(request: Request, bodies: Bodies) -> AsyncIterator[Upload]:
    """The field `file`.

    Raises ApiError: what `bodies` does, 400 for a broken multipart, 415, or 422 without the
    field.
    """
    require_content_type(request, "multipart/form-data")
    boundary = _boundary(request.headers.get("content-type", ""))
    async with bodies.reading(request) as body:
        yield await _upload_in(request, body, boundary)


async def _upload_in(request: Request, body: bytes, boundary: str) -> Upload:
    # Anywhere, as anything may follow it (RFC 2046, 5.1.1). The parser would take a body that was
    # cut off for the whole
    if f"--{boundary}--".encode() not in body:
        raise _broken("it does not end with its boundary")
    try:
        form = await MultiPartParser(
            request.headers, _once(body), max_files=10, max_fields=50
        ).parse()
    except MultiPartException as error:
        raise _broken(error.message) from None
    # A charset that decodes nothing (`undefined` is one to Python), or a name that none can have
    except ValueError:
        raise _broken("its names can't be read in the charset of its content type") from None
    try:
        file = form.get(FIELD)
        if not isinstance(file, UploadFile):
            raise ApiError(
                ErrorCode.MISSING_FILE, f"Send the CSV as a file in the field `{FIELD}`."
            )
        return Upload(await file.read(), file.filename)
    finally:
        await form.close()


def _boundary(content_type: str) -> str:
    message = Message()
    message["content-type"] = content_type
    try:
        boundary = message.get_boundary()
    except UnicodeError:
        boundary = None
    if not boundary or not boundary.isascii():
        raise _broken("its content type names no boundary")
    return boundary


def _broken(why: str) -> ApiError:
    return ApiError(
        ErrorCode.INVALID_MULTIPART, f"The multipart body is broken: {why}.", HTTPStatus.BAD_REQUEST
    )


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
