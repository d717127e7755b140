"""Reads the uploaded file from a multipart body."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from email.message import Message
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from shared.contract.errors import ApiError, ErrorCode
from shared.contract.field_names import suggest_field
from shared.contract.pins import make_printable
from shared.http.bodies import BodyReader, require_content_type
from shared.http.parameters import list_parameters

FILE_FIELD = "file"
MAX_PARTS = 50
MAX_LISTED = 10
MAX_NAME_LENGTH = 64
LIBRARY_ADVICE = "Let your HTTP library build the form"
CURL_ADVICE = "With curl: -F file=@pins.csv"
TRANSFER_ENCODINGS = {b"", b"binary", b"8bit", b"7bit"}
"""Encodings that leave the bytes as they are. Form data has no other (RFC 7578, 4.7)."""

# Never steps back, and takes a text without an end as a whole. Otherwise a header of 4 KiB with
# escaped quotes took 0.3 s, and an upload can have 50 of them
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
_EXTENDED_NAME = re.compile(r";\s*filename\*\s*=\s*([^;\s]*)", re.IGNORECASE)


class UploadedFile(NamedTuple):
    data: bytes
    filename: str | None
    charset: str | None = None
    """The charset in the content type of the file's part, as sent."""


class _InvalidPart(Exception):
    """A part breaks a rule of forms. The message is a sentence without a full stop."""


class _Part:
    """One field of the form."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.data = bytearray()
        self.name = ""
        self.filename: str | None = None
        self.is_file = False

    def read_headers(self) -> None:
        """Reads the names. Raises _InvalidPart if the field has none."""
        disposition = self.headers.get(b"content-disposition", b"")
        _, options = parse_options_header(disposition)
        if b"name" not in options:
            raise _InvalidPart("A part has no name")
        self.name = _decode(options[b"name"])
        # RFC 7578 forbids filename*, but some HTTP libraries send it, alone or beside filename
        extended = _EXTENDED_NAME.search(_QUOTED.sub('""', disposition.decode("latin-1")))
        self.is_file = b"filename" in options or extended is not None
        if b"filename" in options:
            self.filename = _decode(options[b"filename"])
        if extended and (filename := _decode_extended(extended[1])):
            self.filename = filename

    @property
    def charset(self) -> str | None:
        _, options = parse_options_header(self.headers.get(b"content-type"))
        return _decode(options[b"charset"]) if b"charset" in options else None


@asynccontextmanager
async def open_upload(request: Request, bodies: BodyReader) -> AsyncIterator[UploadedFile]:
    """Reads the file in the field `file` and reserves its memory while the `with` block runs.

    Raises ApiError: 400 for an invalid multipart body, 415 for another content type, 422 if the
    file is missing or the form has anything else, and the errors of `bodies`.
    """
    require_content_type(request, "multipart/form-data")
    boundary = _parse_boundary(request.headers.get("content-type", ""))
    async with bodies.read(request) as body:
        yield _select_file(_parse_parts(body, boundary), list_parameters(request))


def _parse_parts(body: bytes, boundary: str) -> list[_Part]:
    if f"--{boundary}".encode() not in body:
        raise _invalid_multipart(
            "The body does not have the boundary that its Content-Type header names",
            "Do not set this header yourself: your HTTP library adds it",
        )
    # Anything may follow the last boundary (RFC 2046, 5.1.1). The parser would accept a body that
    # was cut off
    if f"--{boundary}--".encode() not in body:
        raise _invalid_multipart("The body was cut off: its last boundary is missing", "Try again")
    try:
        return _PartReader(boundary).read(body)
    except _InvalidPart as error:
        raise _invalid_multipart(str(error), LIBRARY_ADVICE) from None
    except FormParserError:
        raise _invalid_multipart("Its parts can't be read", LIBRARY_ADVICE) from None


class _PartReader:
    """Collects the parts that the parser finds."""

    def __init__(self, boundary: str) -> None:
        self._parts: list[_Part] = []
        self._header, self._value = bytearray(), bytearray()
        self._parser = MultipartParser(
            boundary.encode(),
            {
                "on_part_begin": self._begin_part,
                "on_header_field": self._add_header,
                "on_header_value": self._add_value,
                "on_header_end": self._end_header,
                "on_headers_finished": self._end_headers,
                "on_part_data": self._add_data,
            },
        )

    def read(self, body: bytes) -> list[_Part]:
        self._parser.write(body)
        self._parser.finalize()
        return self._parts

    def _begin_part(self) -> None:
        if len(self._parts) == MAX_PARTS:
            raise _InvalidPart(f"It has more than {MAX_PARTS} fields")
        self._parts.append(_Part())

    def _add_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._parts[-1].headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _end_headers(self) -> None:
        self._parts[-1].read_headers()

    def _add_data(self, data: bytes, start: int, end: int) -> None:
        self._parts[-1].data += data[start:end]


def _select_file(parts: Sequence[_Part], query_parameters: Sequence[str]) -> UploadedFile:
    """Returns the only file. Raises ApiError if the form has anything else.

    A second file or another field would be ignored, and the client would not notice.
    """
    files = [part for part in parts if part.is_file]
    if len(files) > 1:
        names = ", ".join(_shorten(part.filename or "without a name") for part in files)
        raise _unknown(f"The form has {len(files)} files: {names}. Send one file in each request.")
    in_field = [part for part in parts if part.name == FILE_FIELD]
    if not in_field:
        raise _missing_file(_describe_found(parts))
    if others := [part.name for part in parts if part.name != FILE_FIELD]:
        raise _unknown(_describe_others(others, query_parameters))
    if len(in_field) > 1:
        raise _unknown(
            f"The form has the field `{FILE_FIELD}` {len(in_field)} times. Send it once."
        )
    (part,) = in_field
    # Some clients send the content of a file as a text. A single line is rather its name
    if not part.is_file and b"\n" not in part.data and b"\r" not in part.data:
        raise _missing_file(f"The field `{FILE_FIELD}` has a text instead of a file.")
    if part.headers.get(b"content-transfer-encoding", b"").lower() not in TRANSFER_ENCODINGS:
        raise _invalid_multipart(
            "The file has a Content-Transfer-Encoding", "Send its bytes as they are"
        )
    return UploadedFile(bytes(part.data), part.filename, part.charset)


def _describe_found(parts: Sequence[_Part]) -> str:
    for part in parts:
        if part.is_file:
            return f"The form has a file in the field `{_shorten(part.name)}`, not in `file`."
    names = ", ".join(_shorten(part.name) for part in parts[:MAX_LISTED])
    return f"The form has no file, only {names}." if names else "The form has no file."


def _describe_others(names: Sequence[str], query_parameters: Sequence[str]) -> str:
    name = names[0]
    listed = ", ".join(dict.fromkeys(_shorten(name) for name in names[:MAX_LISTED]))
    message = f"Unknown form fields: {listed}. Send only the field `{FILE_FIELD}`."
    if suggestion := suggest_field(name, query_parameters):
        return f"{message} Did you mean the query parameter {suggestion}, as ?{suggestion}=…?"
    if suggest_field(name, [FILE_FIELD]):
        return f"{message} Did you mean {FILE_FIELD}?"
    return message


def _parse_boundary(content_type: str) -> str:
    message = Message()
    message["content-type"] = content_type
    try:
        boundary = message.get_boundary()
    except UnicodeError:
        boundary = None
    if not boundary or not boundary.isascii():
        raise _invalid_multipart(
            "The Content-Type header names no boundary",
            "Do not set this header yourself: your HTTP library adds it with the boundary",
        )
    return boundary


def _decode(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _decode_extended(value: str) -> str | None:
    """Decodes `utf-8''na%C3%AFve.csv` (RFC 8187). Returns None for another charset or form."""
    charset, _, rest = value.strip('"').partition("'")
    _, _, encoded = rest.partition("'")
    if charset.lower() not in {"utf-8", "iso-8859-1"}:
        return None
    return unquote_to_bytes(encoded).decode(charset, errors="replace")


def _shorten(name: str) -> str:
    return make_printable(name, MAX_NAME_LENGTH)


def _invalid_multipart(reason: str, cure: str) -> ApiError:
    return ApiError(
        ErrorCode.INVALID_MULTIPART,
        f"The form is invalid. {reason}. {cure}. {CURL_ADVICE}",
        HTTPStatus.BAD_REQUEST,
    )


def _missing_file(found: str) -> ApiError:
    return ApiError(
        ErrorCode.MISSING_FILE, f"{found} Send the CSV in the field `{FILE_FIELD}`. {CURL_ADVICE}"
    )


def _unknown(message: str) -> ApiError:
    return ApiError(ErrorCode.UNKNOWN_PARAMETER, message)
