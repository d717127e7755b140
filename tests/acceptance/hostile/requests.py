"""Hostile requests as data, for the tests and for docs/explanation/hostile-input.md."""

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from deploy.services import DEFAULT_SERVICE, SERVICES
from tests.acceptance.hostile.wire import Caller

Body = bytes | Callable[[], bytes]
"""A body, or a function that builds a large one when it is sent."""


class Expected(NamedTuple):
    status: int
    code: str | None = None
    row: str | None = None
    """The status of the first row, if the import is accepted."""

    def __str__(self) -> str:
        text = (
            f"{self.status} `{self.code}`" if self.code else str(self.status or "connection closed")
        )
        return f"{text}, row {self.row}" if self.row else text


@dataclass(frozen=True)
class Request:
    line: bytes
    headers: tuple[bytes, ...]
    body: Body = b""
    has_length: bool = True
    """If true, the correct Content-Length is added."""

    @property
    def method(self) -> str:
        return self.line.partition(b" ")[0].decode("latin-1")

    def raw(self, caller: Caller) -> bytes:
        body = caller.fill(self.body() if callable(self.body) else self.body)
        headers = (
            (*self.headers, b"Content-Length: %d" % len(body)) if self.has_length else self.headers
        )
        return caller.fill(b"\r\n".join([self.line, *headers, b"", b""])) + body


@dataclass(frozen=True)
class Hostile:
    name: str
    request: Request
    gateway: Expected
    direct: Expected | None = None
    """The service's answer without the gateway, if it differs."""
    service: str = "ingest"

    @property
    def directly(self) -> Expected:
        return self.direct or self.gateway


HOST, KEY = b"Host: pinflow.test", b"X-API-Key: %KEY%"
JSON, CSV, PIN = b"/v1/pins/imports/json", b"/v1/pins/imports/csv", b"/v1/pins"

IMPORTED = Expected(202, row="created")
ROW_FAILS = Expected(202, row="failed")
NOT_JSON = Expected(422, "invalid_json")
NO_CODING = Expected(415, "unsupported_media_type")
NOT_HTTP = Expected(400)
"""A plain-text answer of the HTTP parser of gateway or service, before Pinflow's code runs."""
NOT_FOUND = Expected(404, "not_found")
NOT_SUPPORTED = Expected(501, "not_supported")
BROKEN_UPLOAD = Expected(400, "invalid_multipart")
TOO_LARGE = Expected(413, "payload_too_large")


def find_service(target: bytes) -> str:
    """Returns the service to which the gateway sends a request with this target."""
    path = target.partition(b"?")[0].decode()
    for name, service in SERVICES.items():
        if any(fnmatch.fnmatchcase(path, route) for route in service.routes):
            return name
    return DEFAULT_SERVICE.name


def post(
    body: Body,
    *headers: bytes,
    to: bytes = JSON,
    kind: bytes = b"application/json",
    has_length: bool = True,
) -> Request:
    return Request(
        b"POST %b HTTP/1.1" % to, (HOST, KEY, b"Content-Type: " + kind, *headers), body, has_length
    )


def get(
    target: bytes, *headers: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1"
) -> Request:
    return Request(
        b"%b %b %b" % (method, target, version), headers or (HOST, KEY), has_length=False
    )


def row(fields: bytes = b"") -> bytes:
    """Builds a valid row. `fields` come last and so override its own."""
    return (
        b'{"account_id":"%ACCOUNT%","board_id":"%BOARD%","title":"Lamp",'
        b'"idempotency_key":"%NONCE%","image_url":"https://a.example/x.png"'
        + (b"," + fields if fields else b"")
        + b"}"
    )


def rows(fields: bytes = b"") -> bytes:
    return b"[" + row(fields) + b"]"


def upload(part: Body, boundary: bytes = b"b") -> Request:
    return post(part, to=CSV, kind=b"multipart/form-data; boundary=" + boundary)


def file(content: bytes, name: bytes = b"a.csv") -> bytes:
    return (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\n%b\r\n--b--\r\n'
        % (name, content)
    )


def table(cell: bytes, column: bytes = b"description") -> bytes:
    return (
        b"account_id,board_id,title,idempotency_key,image_url,%b\n"
        b"%%ACCOUNT%%,%%BOARD%%,Lamp,%%NONCE%%,https://a.example/x.png,%b\n"
        % (
            column,
            cell,
        )
    )
