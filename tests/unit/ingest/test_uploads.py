"""Valid and invalid multipart bodies with a file."""

from http import HTTPStatus

import pytest
from fastapi import Request
from starlette.types import Message

from services.ingest.parsing.multipart import UploadedFile
from shared.contract.errors import ApiError, ErrorCode
from tests.support.uploads import read_upload

FILE = b'name="file"; filename="a.csv"'
PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\ntitle\r\n'


def field(data: bytes, names: bytes, *headers: bytes) -> bytes:
    """Builds a part. `names` are the parameters of its Content-Disposition."""
    lines = [b"--b", b"Content-Disposition: form-data; " + names, *headers, b"", data, b""]
    return b"\r\n".join(lines)


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


async def test_a_broken_form_is_refused_with_its_cure() -> None:
    messages = []
    for content_type, body in [
        ("multipart/form-data", PART + b"--b--"),
        ("multipart/form-data; boundary=other", PART + b"--b--"),
        ("multipart/form-data; boundary=b", PART),
        ("multipart/form-data; boundary=b", PART.replace(b"\r\n", b"") + b"--b--"),
        ("multipart/form-data; boundary=b", field(b"x", b"filename=a.csv") + b"--b--"),
        ("multipart/form-data; boundary=b", field(b"x", b"name=file") * 51 + b"--b--"),
        (
            "multipart/form-data; boundary=b",
            field(b"x", FILE, b"Content-Transfer-Encoding: base64") + b"--b--",
        ),
    ]:
        with pytest.raises(ApiError) as refused:
            await upload(body, content_type)
        assert refused.value.code == ErrorCode.INVALID_MULTIPART
        messages.append(refused.value.message)
    assert messages == [
        f"The form is invalid. {reason}. With curl: -F file=@pins.csv"
        for reason in (
            (
                "The Content-Type header names no boundary. Do not set this header yourself: your "
                "HTTP library adds it with the boundary"
            ),
            (
                "The body does not have the boundary that its Content-Type header names. Do not "
                "set this header yourself: your HTTP library adds it"
            ),
            "The body was cut off: its last boundary is missing. Try again",
            "Its parts can't be read. Let your HTTP library build the form",
            "A part has no name. Let your HTTP library build the form",
            "It has more than 50 fields. Let your HTTP library build the form",
            "The file has a Content-Transfer-Encoding. Send its bytes as they are",
        )
    ]


@pytest.mark.parametrize(
    ("names", "filename"),
    [
        (b"name=file; filename*=utf-8''na%C3%AFve%20pins.csv", "naïve pins.csv"),
        (b"name=file; filename=na_ve.csv; filename*=UTF-8'en'na%C3%AFve.csv", "naïve.csv"),
        (b"name=file; filename* = iso-8859-1''%e4.csv", "ä.csv"),
        (b"name=file; filename*=koi8-r''%e4.csv", None),
        (b"name=file; filename*=x", None),
        (b'name="file"; filename="a; filename*=x"', "a; filename*=x"),
        (b'name="file"; filename="\xc3\xa4.csv"', "ä.csv"),
        (b'name="file"; filename="\xe4.csv"', "ä.csv"),
    ],
)
async def test_a_file_has_its_name_in_either_form(names: bytes, filename: str | None) -> None:
    assert await upload(field(b"title", names) + b"--b--") == UploadedFile(b"title", filename)


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        (b"text/csv; charset=UTF-16", "UTF-16"),
        (b'text/csv; header=present; charset="windows-1252"', "windows-1252"),
        (b"text/csv", None),
    ],
)
async def test_the_declared_charset_is_returned(content_type: bytes, charset: str | None) -> None:
    part = field(b"title", FILE, b"Content-Type: " + content_type)
    assert await upload(part + b"--b--") == UploadedFile(b"title", "a.csv", charset)


async def test_the_content_of_a_file_may_be_sent_as_a_text() -> None:
    body = field(b"title\nLamp", b'name="file"', b"Content-Type: text/plain; charset=utf-8")
    assert await upload(body + b"--b--") == UploadedFile(b"title\nLamp", None, "utf-8")


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (
            PART + PART.replace(b"a.csv", b"b.csv"),
            "unknown_parameter",
            "The form has 2 files: a.csv, b.csv. Send one file in each request.",
        ),
        (
            PART + field(b"x\ny", b'name="file"'),
            "unknown_parameter",
            "The form has the field `file` 2 times. Send it once.",
        ),
        (
            PART + field(b"true", b"name=strict") + field(b"x", b"name=note"),
            "unknown_parameter",
            "Unknown form fields: strict, note. Send only the field `file`.",
        ),
        (
            PART + field(b"x", b"name=File"),
            "unknown_parameter",
            "Unknown form fields: File. Send only the field `file`. Did you mean file?",
        ),
        (
            PART.replace(b'"file"', b'"upload"'),
            "missing_file",
            (
                "The form has a file in the field `upload`, not in `file`. Send the CSV in the "
                "field `file`. With curl: -F file=@pins.csv"
            ),
        ),
        (
            field(b"x", b"name=note"),
            "missing_file",
            (
                "The form has no file, only note. Send the CSV in the field `file`. With curl: -F "
                "file=@pins.csv"
            ),
        ),
        (
            field(b"pins.csv", b"name=file"),
            "missing_file",
            (
                "The field `file` has a text instead of a file. Send the CSV in the field `file`. "
                "With curl: -F file=@pins.csv"
            ),
        ),
    ],
)
async def test_a_form_with_anything_but_one_file_is_refused(
    body: bytes, code: str, message: str
) -> None:
    with pytest.raises(ApiError) as refused:
        await upload(body + b"--b--")
    assert (refused.value.code, refused.value.message) == (code, message)
    assert refused.value.status == HTTPStatus.UNPROCESSABLE_ENTITY
