"""Hostile requests to connect accounts to Pinterest. The callback takes no key."""

from tests.acceptance.hostile.requests import (
    HOST,
    NOT_FOUND,
    NOT_HTTP,
    Expected,
    Hostile,
    get,
    post,
)

CALLBACK, START = b"/v1/pinterest/oauth/callback", b"/v1/pinterest/oauth/start"
STATE_INVALID = Expected(400, "oauth_state_invalid")
PARAMETER = Expected(422, "invalid_parameter")
SCRIPT = b"%22%3E%3Cscript%3Ealert(1)%3C/script%3E"


def _callback(name: str, query: bytes, expected: Expected, *headers: bytes) -> Hostile:
    return Hostile(
        f"a callback with {name}",
        get(CALLBACK + b"?" + query, *(headers or (HOST,))),
        expected,
        service="access",
    )


CONNECTION_REQUESTS = [
    _callback("nothing", b"", STATE_INVALID),
    _callback("a forged state", b"code=x&state=" + b"gAAAAA" + b"b" * 113, STATE_INVALID),
    _callback(
        "an id as state", b"code=x&state=3f0c1b52-8f0e-5c0b-9d2a-7d1c9f6a4e10", STATE_INVALID
    ),
    _callback("a state of 10 kB", b"code=x&state=" + b"a" * 10_000, STATE_INVALID),
    _callback("a null byte as state", b"code=x&state=%00", STATE_INVALID),
    _callback("invalid UTF-8 as state", b"code=x&state=%ff%fe", STATE_INVALID),
    _callback("SQL as state", b"code=x&state='%20or%201=1--", STATE_INVALID),
    _callback("line breaks", b"code=%0d%0aX-Injected:1&state=%0d%0aX-Injected:%201", STATE_INVALID),
    _callback("two states", b"code=x&state=a&state=b", PARAMETER),
    _callback("two codes", b"code=x&code=y&state=a", PARAMETER),
    _callback("a code of 10 kB", b"state=a&code=" + b"c" * 10_000, PARAMETER),
    Hostile(
        "a callback with a code of 1 MB",
        get(CALLBACK + b"?state=a&code=" + b"c" * 1_000_000, HOST),
        Expected(431),
        NOT_HTTP,
        "access",
    ),
    _callback(
        "a script as error",
        b"state=a&error=%b&error_description=%b" % (SCRIPT, SCRIPT),
        STATE_INVALID,
    ),
    _callback(
        "another page to return to",
        b"code=x&state=a&redirect_uri=https://evil.example/&return_url=//evil.example",
        STATE_INVALID,
    ),
    _callback("another host", b"code=x&state=a", STATE_INVALID, b"Host: evil.example"),
    Hostile(
        "a start with a misspelled parameter",
        get(START + b"?acount_id=1"),
        Expected(422, "unknown_parameter"),
        service="access",
    ),
    Hostile(
        "a start for SQL as account",
        get(START + b"?account_id=1;select%20pg_sleep(9)"),
        NOT_FOUND,
        service="access",
    ),
    Hostile(
        "SQL as attempt", get(b"/v1/pinterest/oauth/attempts/1'--"), NOT_FOUND, service="access"
    ),
    Hostile(
        "a refresh of SQL",
        post(b"", to=b"/v1/pinterest/accounts/1'--/refresh"),
        NOT_FOUND,
        service="access",
    ),
    Hostile(
        "the app owner's account, without the installation's token",
        post(
            b'{"workspace_id":"3f0c1b52-8f0e-5c0b-9d2a-7d1c9f6a4e10"}',
            to=b"/internal/pinterest/accounts",
        ),
        NOT_FOUND,
        Expected(403, "internal_access_denied"),
        "access",
    ),
]
