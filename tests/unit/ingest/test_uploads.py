"""Valid and invalid multipart bodies with a file."""

from http import HTTPStatus

import pytest
from fastapi import Request
from starlette.types import Message

from services.ingest.parsing.multipart import UploadedFile
from shared.contract.errors import ApiError, ErrorCode
from tests.support.uploads import read_upload

PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\ntitle\r\n'


async def upload(
    body: bytes, content_type: str = "multipart/form-data; boundary=b"
) -> UploadedFile:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {
        "type": "http",
        "method": "POST",
        "headers": [(b"content-type", content_type.encode("latin-1"))],
    }
    return await read_upload(Request(scope, receive), 10_000)


@pytest.mark.parametrize(
    "epilogue",
    [b"", b"\r\n", b"\r\nThis is what the standard calls an epilogue.\r\n", b"\r\n" + b"x" * 1000],
)
async def test_bytes_after_the_last_boundary_are_ignored(epilogue: bytes) -> None:
    assert await upload(PART + b"--b--" + epilogue) == UploadedFile(b"title", "a.csv")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data; charset=undefined", PART + b"--b--\r\n"),
        ("multipart/form-data; charset=undefined; boundary=b", PART + b"--b--\r\n"),
        ("multipart/form-data; boundary*=undefined''b", PART + b"--b--\r\n"),
        ("multipart/form-data; boundary=b", PART),
        ("multipart/form-data; boundary=b", PART + b"--b"),
        ("multipart/form-data; boundary=\xe9", PART),
    ],
)
async def test_an_invalid_multipart_body_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        await upload(body, content_type)
    assert (refused.value.status, refused.value.code) == (
        HTTPStatus.BAD_REQUEST,
        ErrorCode.INVALID_MULTIPART,
    )
