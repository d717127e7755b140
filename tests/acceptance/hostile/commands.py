"""Hostile requests for single pins, schedules, boards, keys and webhooks."""

from tests.acceptance.hostile.requests import (
    HOST,
    KEY,
    NOT_FOUND,
    NOT_HTTP,
    NOT_JSON,
    TOO_LARGE,
    Body,
    Expected,
    Hostile,
    Request,
    find_service,
    get,
    post,
    row,
)

OK, CREATED = Expected(200), Expected(201)
INVALID = Expected(422, "validation_error")
PARAMETER = Expected(422, "invalid_parameter")
PAYLOAD = Expected(422, "invalid_payload")
ID = b"3f0c1b52-8f0e-5c0b-9d2a-7d1c9f6a4e10"
BATCH, BULK, SCHEDULES = b"/v1/pins/batch", b"/v1/pins/bulk-retry", b"/v1/schedules"
BOARDS, KEYS, WEBHOOKS = b"/v1/pinterest/boards", b"/v1/api-keys", b"/v1/webhooks"
LONG = 100_000


def _post(
    name: str,
    to: bytes,
    body: Body,
    expected: Expected,
    *headers: bytes,
    direct: Expected | None = None,
) -> Hostile:
    return Hostile(name, post(body, *headers, to=to), expected, direct, find_service(to))


def _patch(name: str, to: bytes, body: bytes, expected: Expected) -> Hostile:
    return Hostile(
        name,
        Request(b"PATCH %b HTTP/1.1" % to, (HOST, KEY, b"Content-Type: application/json"), body),
        expected,
        None,
        find_service(to),
    )


def _webhook(name: str, url: bytes, extra_fields: bytes = b"") -> Hostile:
    body = b'{"is_enabled":false,"secret":"of-sixteen-or-more","url":"%b"%b}' % (url, extra_fields)
    return _post(f"a webhook to {name}", WEBHOOKS, body, INVALID)


def _schedule_row(run_at: bytes) -> bytes:
    return row(b'"run_at":%b' % run_at)


PINS = [
    _post(
        "a batch of 100 000 pins",
        BATCH,
        b'{"pins":[' + b"{}," * LONG + b"{}]}",
        Expected(422, "too_many_pins"),
    ),
    _post("a batch, 100 000 deep", BATCH, b'{"pins":' + b"[" * LONG + b"]" * LONG + b"}", NOT_JSON),
    _post(
        "a batch of null, 1e999 and texts: each fails",
        BATCH,
        b'{"pins":[null,1e999,"x",[],{}]}',
        OK,
    ),
    _post("a batch of 9 MB", BATCH, lambda: b'{"pins":["' + b"x" * 90 * LONG + b'"]}', TOO_LARGE),
    _post("a batch with one pin twice", BATCH, b'{"pins":[%b,%b]}' % (row(), row()), OK),
    _post(
        "a batch with null bytes and lone surrogates",
        BATCH,
        b'{"pins":[%b]}' % row(rb'"title":"\u0000\ud800"'),
        OK,
    ),
    _post("a batch that is a list", BATCH, b"[]", PAYLOAD),
    _post("no pins", BATCH, b'{"pins":[]}', Expected(422, "empty_batch")),
    _post("a pin of 100 kB", b"/v1/pins", b'{"title":"' + b"x" * LONG + b'"}', TOO_LARGE),
    _post(
        "a dry run of nonsense",
        b"/v1/pins/validate",
        rb'{"account_id":{"$ne":null},"title":"\u0000","run_at":1e308}',
        OK,
    ),
    _post("a dry run of a list", b"/v1/pins/validate", b"[]", PAYLOAD),
    _post("100 000 ids", BULK, b'{"ids":[' + b"0," * LONG + b"0]}", TOO_LARGE),
    _post(
        "101 ids",
        BULK,
        b'{"ids":[%b]}' % b",".join([b'"%b"' % ID] * 101),
        Expected(422, "too_many_ids"),
    ),
    _post("one id a hundred times", BULK, b'{"ids":[%b]}' % b",".join([b'"%b"' % ID] * 100), OK),
    _post("invalid ids", BULK, rb'{"ids":["\u0000","\ud800","x",1,null,{}]}', INVALID),
    _post(
        "ids in braces and without dashes",
        BULK,
        b'{"ids":["{%b}","%b"]}' % (ID, ID.replace(b"-", b"")),
        OK,
    ),
    _patch(
        "an update with SQL as id",
        b"/v1/pins/1;drop%20table%20publisher.pins",
        b'{"title":"x"}',
        NOT_FOUND,
    ),
    _patch("an empty update", b"/v1/pins/" + ID, b"{}", PAYLOAD),
    _patch(
        "an update of read-only fields",
        b"/v1/pins/" + ID,
        b'{"state":"published","workspace_id":"x"}',
        Expected(422, "unknown_field"),
    ),
    _patch(
        "an update, 30 000 deep",
        b"/v1/pins/" + ID,
        b'{"title":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
        NOT_JSON,
    ),
    _patch(
        "an update of an unknown pin, with a null byte",
        b"/v1/pins/" + ID,
        rb'{"title":"\u0000"}',
        NOT_FOUND,
    ),
]

SCHEDULE_REQUESTS = [
    _post(
        "a schedule in the year 9999",
        SCHEDULES,
        _schedule_row(b'"9999-12-31T23:59:59.999999Z"'),
        CREATED,
    ),
    _post(
        "a schedule beyond the year 9999",
        SCHEDULES,
        _schedule_row(b'"9999-12-31T23:59:59-14:00"'),
        INVALID,
    ),
    _post(
        "a schedule in the year 1",
        SCHEDULES,
        _schedule_row(b'"0001-01-01T00:00:00+14:00"'),
        INVALID,
    ),
    _post("a schedule at 1e308", SCHEDULES, _schedule_row(b"1e308"), INVALID),
    _post(
        "a schedule without an offset", SCHEDULES, _schedule_row(b'"2031-05-01T09:00:00"'), INVALID
    ),
    _post(
        "an Idempotency-Key of invalid UTF-8",
        SCHEDULES,
        _schedule_row(b'"2031-05-01T09:00:00Z"'),
        PARAMETER,
        b"Idempotency-Key: \xff\xfe%NONCE%",
    ),
    _post(
        "a key of 300 characters",
        SCHEDULES,
        _schedule_row(b'"2031-05-01T09:00:00Z"'),
        PARAMETER,
        b"Idempotency-Key: " + b"k" * 300,
    ),
    _post(
        "a blank key",
        SCHEDULES,
        _schedule_row(b'"2031-05-01T09:00:00Z"'),
        PARAMETER,
        b"Idempotency-Key:  ",
    ),
    _post(
        "a key with a null byte",
        SCHEDULES,
        _schedule_row(b'"2031-05-01T09:00:00Z"'),
        NOT_HTTP,
        b"Idempotency-Key: a\0b",
    ),
]

WORKSPACE_REQUESTS = [
    _post(
        "a board with a null byte in its name",
        BOARDS,
        rb'{"account_id":"%ACCOUNT%","name":"a\u0000b"}',
        INVALID,
    ),
    _post(
        "a board with a lone surrogate in its name",
        BOARDS,
        rb'{"account_id":"%ACCOUNT%","name":"\ud800"}',
        INVALID,
    ),
    _post(
        "a board with a name of 50 kB",
        BOARDS,
        b'{"account_id":"%ACCOUNT%","name":"' + b"x" * 50_000 + b'"}',
        INVALID,
    ),
    _post(
        "a board with SQL as account", BOARDS, b'{"account_id":"\' or 1=1 --","name":"x"}', INVALID
    ),
    _post(
        "a key with an unknown scope",
        KEYS,
        b'{"name":"x","scopes":["read","root"]}',
        INVALID,
    ),
    _post("a key with a null byte in its name", KEYS, rb'{"name":"a\u0000b"}', INVALID),
    _post(
        "a key for 1000 accounts",
        KEYS,
        b'{"name":"x","pinterest_account_ids":[%b]}' % b",".join([b'"%b"' % ID] * 1000),
        Expected(422, "account_not_found"),
    ),
    _post("a key for no account", KEYS, b'{"name":"x","pinterest_account_ids":[]}', INVALID),
    _webhook("this machine", b"http://127.0.0.1:1/"),
    _webhook("this machine, oddly written", b"http://0x7f.1/"),
    _webhook("this machine, as one number", b"http://2130706433/"),
    _webhook("this machine, in full-width digits", rb"http://\uff11\uff12\uff17.0.0.1/"),
    _webhook("this machine, as IPv6", b"http://[::1]/"),
    _webhook("a private network, mapped into IPv6", b"http://[::ffff:10.0.0.1]/"),
    _webhook("the cloud's metadata", b"http://169.254.169.254/latest/meta-data/"),
    _webhook("another protocol", b"gopher://hooks.invalid/"),
    _webhook("a file", b"file:///etc/passwd"),
    _webhook("the mail server's port", b"http://hooks.invalid:25/"),
    _webhook("an address with a name and password", b"http://user:password@hooks.invalid/"),
    _webhook("any address, for an unknown event", b"http://hooks.invalid/", b',"events":["pin.*"]'),
    _webhook(
        "any address, with a null byte in the secret",
        b"http://hooks.invalid/",
        rb',"secret":"sixteen\u0000or-more-bytes"',
    ),
]

LISTS = [
    Hostile(name, get(target), expected, None, service)
    for name, target, expected, service in (
        ("a search of 10 kB", b"/v1/pins?q=" + b"a" * 10_000, PARAMETER, "publisher"),
        ("a search for wildcards", b"/v1/pins?q=%25_%5C%25", OK, "publisher"),
        ("a search for invalid UTF-8", b"/v1/pins?q=%ED%A0%80%FF", OK, "publisher"),
        (
            "SQL as order",
            b"/v1/pins?sort=title_asc;drop%20table%20publisher.pins",
            PARAMETER,
            "publisher",
        ),
        (
            "SQL as order of schedules",
            b"/v1/schedules?sort=run_at,(select%201)",
            PARAMETER,
            "publisher",
        ),
        (
            "a date that does not exist",
            b"/v1/pins?since=2026-02-30T00:00:00Z",
            PARAMETER,
            "publisher",
        ),
        (
            "a time beyond the year 9999",
            b"/v1/pins?until=9999-12-31T23:59:59-14:00",
            PARAMETER,
            "publisher",
        ),
        (
            "a forged cursor",
            b"/v1/pins?cursor=eyJ2IjoxLCJzIjoiJyBvciAxPTEgLS0ifQ",
            PARAMETER,
            "publisher",
        ),
        (
            "a cursor of 6000 brackets",
            b"/v1/schedules?cursor=" + b"W1tb" * 2_000,
            PARAMETER,
            "publisher",
        ),
        ("a cursor that is not base64", b"/v1/pins/imports?cursor=%00", PARAMETER, "status"),
        ("a limit in hexadecimal", b"/v1/pins?limit=0x10", PARAMETER, "publisher"),
        ("a duplicate limit", b"/v1/pins?limit=2&limit=1", PARAMETER, "publisher"),
        ("SQL as delivery", b"/v1/webhooks/" + ID + b"/deliveries/1'--", NOT_FOUND, "webhooks"),
    )
]
