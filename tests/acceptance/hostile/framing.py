"""Bodies with a wrong length, and requests hidden in bodies (request smuggling)."""

from typing import NamedTuple

from tests.acceptance.hostile.requests import (
    HOST,
    IMPORTED,
    JSON,
    KEY,
    NOT_HTTP,
    Expected,
    Hostile,
    post,
    rows,
)

EMPTY = Expected(422, "empty_import")
NO_BODY = Expected(400, "invalid_request")
CHUNKED = b"Transfer-Encoding: chunked"


def _chunked(body: bytes, *headers: bytes) -> Hostile:
    return Hostile("", post(body, *(headers or (CHUNKED,)), has_length=False), NO_BODY, NOT_HTTP)


def _named(
    name: str, hostile: Hostile, gateway: Expected | None = None, direct: Expected | None = None
) -> Hostile:
    return Hostile(name, hostile.request, gateway or hostile.gateway, direct or hostile.direct)


def _length(length: bytes, body: bytes = b"[]") -> Hostile:
    return Hostile("", post(body, b"Content-Length: " + length, has_length=False), NOT_HTTP)


_ONE_CHUNK = b"2\r\n[]\r\n0\r\n\r\n"

LENGTHS = [
    _named("a Content-Length below the body's size", _length(b"2", b"[]GARBAGE"), EMPTY, NOT_HTTP),
    _named("Content-Length: -5", _length(b"-5")),
    _named("Content-Length: +2", _length(b"+2")),
    _named("Content-Length: 0x2", _length(b"0x2")),
    _named("Content-Length of 30 digits", _length(b"9" * 30)),
    _named(
        "Content-Length twice, different", Hostile("", post(b"[]", b"Content-Length: 9"), NOT_HTTP)
    ),
    _named("chunks", _chunked(b"2\r\n[]\r\n0\r\n\r\n"), EMPTY, EMPTY),
    _named("a chunk size that is not a number", _chunked(b"zz\r\n[]\r\n0\r\n\r\n")),
    _named("a chunk of negative size", _chunked(b"-2\r\n[]\r\n0\r\n\r\n")),
    _named("a chunk of 2^68 bytes", _chunked(b"fffffffffffffffff\r\n[]\r\n")),
    _named("a chunk longer than its size", _chunked(b"2\r\n[]xx0\r\n\r\n")),
    _named("chunks ended by bare LF", _chunked(b"2\n[]\n0\n\n")),
    _named(
        "5 kB of chunk extensions",
        _chunked(b"2;a=" + b"b" * 5000 + b"\r\n[]\r\n0\r\n\r\n"),
        NO_BODY,
        EMPTY,
    ),
    _named(
        "Transfer-Encoding: gzip, chunked",
        _chunked(_ONE_CHUNK, b"Transfer-Encoding: gzip, chunked"),
        Expected(501),
        EMPTY,
    ),
    _named(
        "Transfer-Encoding: gzip",
        _chunked(b"", b"Transfer-Encoding: gzip"),
        Expected(501),
        NOT_HTTP,
    ),
    Hostile("Expect: 100-continue", post(rows(), b"Expect: 100-continue"), IMPORTED),
    Hostile("another expectation", post(b"[]", b"Expect: 200-ok"), Expected(417), EMPTY),
]


class Smuggling(NamedTuple):
    """A request `raw` that hides a second request, %HIDDEN%.

    Gateway and service must agree on the end of the first request.
    """

    name: str
    raw: bytes


_START = b"\r\n".join(
    [b"POST %b HTTP/1.1" % JSON, HOST, KEY, b"Content-Type: application/json", b""]
)
HIDDEN = b"\r\n".join(
    [b"GET /v1/pins?limit=1 HTTP/1.1", HOST, KEY, b"X-Request-ID: hidden-%NONCE%", b"", b""]
)


def _smuggling(name: str, *headers: bytes, body: bytes) -> Smuggling:
    return Smuggling(name, _START + b"\r\n".join([*headers, b"", b""]) + body)


_LAST = b"0\r\n\r\n%HIDDEN%"
_LENGTH = b"Content-Length: %LENGTH%"

SMUGGLING = [
    _smuggling("CL.TE", _LENGTH, CHUNKED, body=_LAST),
    _smuggling("TE.CL", CHUNKED, b"Content-Length: 4", body=b"5c\r\n%HIDDEN%\r\n0\r\n\r\n"),
    _smuggling("CL.0", b"Content-Length: 0", CHUNKED, body=_LAST),
    _smuggling("TE in capitals", _LENGTH, b"TRANSFER-ENCODING: CHUNKED", body=_LAST),
    _smuggling("TE: xchunked", _LENGTH, b"Transfer-Encoding: xchunked", body=_LAST),
    _smuggling(
        "TE with a space before the colon", _LENGTH, b"Transfer-Encoding : chunked", body=_LAST
    ),
    _smuggling("TE behind a tab", _LENGTH, b"Transfer-Encoding:\tchunked", body=_LAST),
    _smuggling("TE in quotes", _LENGTH, b'Transfer-Encoding: "chunked"', body=_LAST),
    _smuggling("TE with a vertical tab", _LENGTH, b"Transfer-Encoding: \x0bchunked", body=_LAST),
    _smuggling(
        "TE twice, the second unknown", _LENGTH, CHUNKED, b"Transfer-Encoding: identity", body=_LAST
    ),
    _smuggling(
        "TE twice, the first unknown", _LENGTH, b"Transfer-Encoding: cow", CHUNKED, body=_LAST
    ),
    _smuggling(
        "TE chunked, identity", _LENGTH, b"Transfer-Encoding: chunked, identity", body=_LAST
    ),
    _smuggling("TE folded", _LENGTH, b"Transfer-Encoding:\r\n chunked", body=_LAST),
    _smuggling("TE behind a bare LF", _LENGTH, b"X-A: a\nTransfer-Encoding: chunked", body=_LAST),
    _smuggling("TE behind a bare CR", _LENGTH, b"X-A: a\rTransfer-Encoding: chunked", body=_LAST),
    _smuggling(
        "TE behind a null byte", _LENGTH, b"X-A: a\0\r\nTransfer-Encoding: chunked", body=_LAST
    ),
    _smuggling(
        "CL.TE with Content-Length as a hop-by-hop header",
        _LENGTH,
        b"Connection: close, Content-Length",
        CHUNKED,
        body=_LAST,
    ),
    _smuggling(
        "Content-Length twice, the first 0", b"Content-Length: 0", _LENGTH, body=b"%HIDDEN%"
    ),
    _smuggling("Content-Length twice, the last 0", _LENGTH, b"Content-Length: 0", body=b"%HIDDEN%"),
    _smuggling("Content-Length as a list", b"Content-Length: 0, %LENGTH%", body=b"%HIDDEN%"),
    _smuggling(
        "Content-Length with a space before the colon",
        b"Content-Length : 0",
        _LENGTH,
        body=b"%HIDDEN%",
    ),
    _smuggling("Content-Length in octal", b"Content-Length: 0%LENGTH%", body=b"%HIDDEN%"),
    _smuggling("a chunk's size with 0x", CHUNKED, body=b"0x0\r\n\r\n%HIDDEN%"),
    _smuggling(
        "a chunk extension with a bare LF", CHUNKED, body=b"2;\nxx\r\n[]\r\n0\r\n\r\n%HIDDEN%"
    ),
    _smuggling(
        "a chunk extension with a bare CR", CHUNKED, body=b"2;\rxx\r\n[]\r\n0\r\n\r\n%HIDDEN%"
    ),
    _smuggling(
        "a trailer that is a Content-Length",
        CHUNKED,
        body=b"0\r\nContent-Length: 5\r\n\r\n%HIDDEN%",
    ),
    _smuggling(
        "an upgrade, the request as its stream",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        _LENGTH,
        body=b"%HIDDEN%",
    ),
    _smuggling(
        "Expect, the request as its body", b"Expect: 100-continue", _LENGTH, body=b"%HIDDEN%"
    ),
]
