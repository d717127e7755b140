"""Hostile request lines and headers: methods, addresses, versions, hosts, upgrades."""

from tests.acceptance.hostile.requests import (
    HOST,
    KEY,
    NOT_FOUND,
    NOT_HTTP,
    NOT_SUPPORTED,
    Expected,
    Hostile,
    get,
    post,
    rows,
)

LIST = b"/v1/pins/imports"
OK = Expected(200)
REFUSED_METHOD = Expected(400, "invalid_request")
UNKNOWN = Expected(422, "unknown_parameter")
NOT_ALLOWED = Expected(405, "method_not_allowed")
HEAD_TOO_LARGE = Expected(431)
UPGRADE = (
    b"Connection: Upgrade",
    b"Upgrade: websocket",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version: 13",
)


def _status(name: str, target: bytes, gateway: Expected, direct: Expected | None = None) -> Hostile:
    return Hostile(name, get(target), gateway, direct, "status")


def _publisher(
    name: str, target: bytes, gateway: Expected, direct: Expected | None = None
) -> Hostile:
    return Hostile(name, get(target), gateway, direct, "publisher")


METHODS = [
    Hostile("TRACE", get(LIST, method=b"TRACE"), NOT_ALLOWED, service="status"),
    Hostile(
        "CONNECT", get(b"evil.example:80", method=b"CONNECT"), REFUSED_METHOD, NOT_HTTP, "status"
    ),
    Hostile("PROPFIND", get(LIST, method=b"PROPFIND"), REFUSED_METHOD, NOT_ALLOWED, "status"),
    Hostile("an unknown method", get(LIST, method=b"BREW"), REFUSED_METHOD, NOT_HTTP, "status"),
    Hostile("get in lower case", get(LIST, method=b"get"), REFUSED_METHOD, NOT_HTTP, "status"),
    Hostile(
        "a control character in the method",
        get(LIST, method=b"GET\x01"),
        NOT_HTTP,
        service="status",
    ),
    Hostile(
        "X-HTTP-Method-Override: DELETE",
        get(LIST, HOST, KEY, b"X-HTTP-Method-Override: DELETE"),
        OK,
        service="status",
    ),
]

ADDRESSES = [
    _status("/metrics, percent-encoded", b"/%6detrics", NOT_FOUND, OK),
    _status("/metrics by way of ..", b"/v1/../metrics", NOT_FOUND),
    _status("/metrics by way of an encoded ..", b"/v1/%2e%2e/metrics", NOT_FOUND),
    _status("/metrics with two slashes", b"//metrics", NOT_FOUND),
    _status("/metrics in capitals", b"/METRICS", NOT_FOUND),
    _status("/metrics with a trailing slash", b"/metrics/", NOT_FOUND),
    _status("/metrics with a query", b"/metrics?x", NOT_FOUND, OK),
    _status("/metrics in absolute form", b"http://evil.example/metrics", NOT_FOUND, OK),
    _status("an internal path with an encoded slash", b"/internal%2freadyz", NOT_FOUND, OK),
    _status(
        "a path traversal to /etc/passwd",
        b"/v1/pins/imports/..%2f..%2f..%2f..%2fetc%2fpasswd",
        NOT_FOUND,
    ),
    _status("SQL as id", b"/v1/pins/imports/'%20or%20'1'='1", NOT_FOUND),
    _status(
        "SQL as filter",
        b"/v1/pins/imports?status='%20or%201=1--",
        Expected(422, "invalid_parameter"),
    ),
    _status(
        "an offset of 20 digits",
        b"/v1/pins/imports?offset=99999999999999999999",
        Expected(422, "invalid_parameter"),
    ),
    _publisher("a null byte as id", b"/v1/pins/%00", NOT_FOUND),
    _publisher(
        "a null byte as filter", b"/v1/pins?board_id=%00", Expected(422, "invalid_parameter")
    ),
    _publisher(
        "SQL as filter of pins", b"/v1/pins?board_id=';drop%20table%20publisher.pins;--", OK
    ),
    Hostile(
        "SQL as account",
        get(b"/v1/pinterest/boards?account_id=1;select%20pg_sleep(9)"),
        NOT_FOUND,
        service="access",
    ),
    _publisher("a line break as id", b"/v1/pins/a%0d%0aX-Injected:%201", NOT_FOUND),
    _publisher("invalid UTF-8 as id", b"/v1/pins/%ff%fe", NOT_FOUND),
    _publisher("a raw byte in the path", b"/v1/pins/\xff", NOT_FOUND, NOT_HTTP),
    _publisher("an invalid percent escape", b"/v1/pins/%zz", NOT_HTTP, NOT_FOUND),
    _publisher("a path of 20 kB", b"/v1/pins/" + b"a" * 20_000, NOT_FOUND),
    _publisher("a path of 40 kB", b"/v1/pins/" + b"a" * 40_000, HEAD_TOO_LARGE, NOT_FOUND),
    _publisher("10 000 parameters", b"/v1/pins?" + b"&".join([b"a"] * 10_000), UNKNOWN),
    _status("an unsupported path with a null byte", b"/v1/assets/%00", NOT_SUPPORTED),
    _status(
        "an unsupported path with SQL",
        b"/v1/pins/1;select%20pg_sleep(9)/analytics?source='--",
        NOT_SUPPORTED,
    ),
    Hostile(
        "a large body to an unsupported path",
        post(lambda: b"x" * 8_000_000, to=b"/v1/assets/images"),
        NOT_SUPPORTED,
        service="status",
    ),
]

VERSIONS = [
    Hostile("HTTP/1.0", get(LIST, version=b"HTTP/1.0"), OK, service="status"),
    Hostile("HTTP/0.9", get(LIST, b"", version=b""), NOT_HTTP, service="status"),
    Hostile(
        "HTTP/2.0 in a line of HTTP/1", get(LIST, version=b"HTTP/2.0"), Expected(505), OK, "status"
    ),
    Hostile(
        "HTTP/2 with prior knowledge",
        get(b"*", b"", b"SM", b"", method=b"PRI", version=b"HTTP/2.0"),
        Expected(0),
        NOT_HTTP,
        "status",
    ),
    Hostile("the asterisk form", get(b"*", method=b"OPTIONS"), OK, NOT_FOUND, "status"),
    Hostile("the absolute form", get(b"http://evil.example/v1/pins/imports"), OK, service="status"),
    Hostile("an upgrade to WebSocket", get(LIST, HOST, KEY, *UPGRADE), OK, service="status"),
    Hostile(
        "an upgrade of an import",
        post(rows(), *UPGRADE),
        Expected(202, row="created"),
        Expected(422, "invalid_json"),
    ),
    Hostile(
        "an upgrade to h2c",
        get(LIST, HOST, KEY, b"Connection: Upgrade", b"Upgrade: h2c"),
        OK,
        service="status",
    ),
]

HEADERS = [
    Hostile("no Host", get(LIST, KEY), NOT_HTTP, OK, "status"),
    Hostile("two Hosts", get(LIST, HOST, b"Host: evil.example", KEY), NOT_HTTP, OK, "status"),
    Hostile("an invalid Host", get(LIST, b"Host: a b", KEY), NOT_HTTP, OK, "status"),
    Hostile(
        "a foreign Host: no redirect goes there",
        get(b"/v1/pins/imports/", b"Host: evil.example", KEY),
        NOT_FOUND,
        service="status",
    ),
    Hostile(
        "a header of 40 kB",
        get(LIST, HOST, KEY, b"X-A: " + b"a" * 40_000),
        HEAD_TOO_LARGE,
        OK,
        "status",
    ),
    Hostile(
        "4000 headers",
        get(LIST, HOST, KEY, *[b"X-%d: a" % n for n in range(4000)]),
        HEAD_TOO_LARGE,
        OK,
        "status",
    ),
    Hostile(
        "a null byte in a header", get(LIST, HOST, KEY, b"X-A: a\0b"), NOT_HTTP, service="status"
    ),
    Hostile(
        "a line break in X-Request-ID",
        get(LIST, HOST, KEY, b"X-Request-ID: a\rX-Injected: 1"),
        NOT_HTTP,
        service="status",
    ),
    Hostile(
        "escapes in X-Request-ID",
        get(LIST, HOST, KEY, b'X-Request-ID: \xff"},{"event":"x"}'),
        OK,
        service="status",
    ),
    Hostile(
        "a header folded over two lines",
        get(LIST, HOST, KEY, b"X-A: a\r\n b"),
        OK,
        NOT_HTTP,
        "status",
    ),
    Hostile(
        "SQL as key",
        get(LIST, HOST, b"X-API-Key: ' or 1=1 --"),
        Expected(401, "unauthorized"),
        service="status",
    ),
    Hostile(
        "an API key of invalid UTF-8",
        get(LIST, HOST, b"X-API-Key: \xff\xfe\x80"),
        Expected(401, "unauthorized"),
        service="status",
    ),
    Hostile(
        "a key of 20 kB",
        get(LIST, HOST, b"X-API-Key: " + b"k" * 20_000),
        Expected(401, "unauthorized"),
        service="status",
    ),
    Hostile(
        "an empty bearer token",
        get(LIST, HOST, b"Authorization: Bearer "),
        Expected(401, "unauthorized"),
        service="status",
    ),
    Hostile(
        "Prefer: wait of 1000 digits",
        get(LIST, HOST, KEY, b"Prefer: wait=" + b"9" * 1000),
        OK,
        service="status",
    ),
]
