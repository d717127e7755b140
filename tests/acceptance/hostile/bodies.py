"""Hostile request bodies: JSON, CSV and multipart data that may break a parser."""

import gzip
import zlib
from functools import cache

from tests.acceptance.hostile.requests import (
    BROKEN_UPLOAD,
    IMPORTED,
    JSON,
    NO_CODING,
    NOT_JSON,
    ROW_FAILS,
    TOO_LARGE,
    Expected,
    Hostile,
    file,
    post,
    row,
    rows,
    table,
    upload,
)

DEEP = 100_000
MEGABYTE = 1_000_000
SQL = b"'; drop table publisher.pins; --"


@cache
def _bomb() -> bytes:
    return gzip.compress(b"[" + b" " * 20 * MEGABYTE + b"]", 1)


JSON_BODIES = [
    Hostile("arrays, 100 000 deep", post(b"[" * DEEP + b"]" * DEEP), NOT_JSON),
    Hostile(
        "objects, 100 000 deep, in a field",
        post(rows(b'"x":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP)),
        NOT_JSON,
    ),
    Hostile("an unknown field, 200 deep", post(rows(b'"x":' + b"[" * 200 + b"]" * 200)), IMPORTED),
    Hostile("a number of 100 000 digits", post(rows(b'"title":' + b"9" * DEEP)), NOT_JSON),
    Hostile("1e999 as title", post(rows(b'"title":1e999')), ROW_FAILS),
    Hostile("NaN", post(rows(b'"title":NaN')), NOT_JSON),
    Hostile("-Infinity", post(rows(b'"title":-Infinity')), NOT_JSON),
    Hostile(
        "a duplicate name in an object: the last one counts",
        post(rows(b'"title":"","title":"Second"')),
        IMPORTED,
    ),
    Hostile(
        "a duplicate name in an object: the last one counts, even if it is invalid",
        post(rows(b'"title":"First","title":""')),
        ROW_FAILS,
    ),
    Hostile("a lone surrogate", post(rows(rb'"title":"\ud800"')), ROW_FAILS),
    Hostile("a null byte, escaped", post(rows(rb'"title":"a\u0000b"')), ROW_FAILS),
    Hostile("a null byte, raw", post(rows(b'"title":"a\0b"')), NOT_JSON),
    Hostile("invalid UTF-8", post(rows(b'"title":"\xff\xfe"')), NOT_JSON),
    Hostile("UTF-16", post(rows().decode().encode("utf-16")), NOT_JSON),
    Hostile("a trailing comma and a comment", post(rows()[:-1] + b",/* */]"), NOT_JSON),
    Hostile(
        "bidirectional characters in texts",
        post(rows(rb'"title":"\u202etxt.exe\r\n\u009b2J"')),
        IMPORTED,
    ),
    Hostile("terminal escapes in texts", post(rows(rb'"title":"\u001b[31m"')), ROW_FAILS),
    Hostile("SQL in texts", post(rows(b'"title":"%b","description":"%b"' % (SQL, SQL))), IMPORTED),
    Hostile("SQL in ids", post(rows(b'"account_id":"%b"' % SQL)), ROW_FAILS),
    Hostile(
        "10 000 unknown fields",
        post(rows(b",".join(b'"x%d":0' % n for n in range(10_000)))),
        ROW_FAILS,
    ),
    Hostile(
        "200 000 terms", post(rows(b'"related_terms":[' + b"0," * 2 * DEEP + b"0]")), ROW_FAILS
    ),
    Hostile(
        "10 MB in one field",
        post(lambda: rows(b'"description":"' + b"x" * 10 * MEGABYTE + b'"')),
        TOO_LARGE,
    ),
    Hostile(
        "4 MB in one field",
        post(lambda: rows(b'"description":"' + b"x" * 4 * MEGABYTE + b'"')),
        ROW_FAILS,
    ),
    Hostile(
        "500 rows with 20 kB each",
        post(
            lambda: b"[" + b",".join([row(b'"description":"' + b"x" * 20_000 + b'"')] * 500) + b"]"
        ),
        TOO_LARGE,
    ),
    Hostile(
        "500 rows with 9 kB each",
        post(
            lambda: b"[" + b",".join([row(b'"description":"' + b"x" * 9_000 + b'"')] * 500) + b"]"
        ),
        ROW_FAILS,
    ),
    Hostile("100 000 rows", post(b"[" + b"{}," * 99_999 + b"{}]"), Expected(422, "too_many_rows")),
    Hostile(
        "5 MB of white space",
        post(lambda: b"[" + b" " * 5 * MEGABYTE + b"]"),
        Expected(422, "empty_import"),
    ),
    Hostile(
        "a time zone with 20 000 blanks",
        post(rows(), to=JSON + b"?timezone=utc" + b"+" * 20_000 + b"x"),
        Expected(422, "invalid_parameter"),
    ),
]

CODINGS = [
    Hostile("gzip, 20 MB in 90 kB", post(_bomb, b"Content-Encoding: gzip"), NO_CODING),
    Hostile("deflate", post(zlib.compress(rows()), b"Content-Encoding: deflate"), NO_CODING),
    Hostile("br", post(rows(), b"Content-Encoding: br"), NO_CODING),
    Hostile("gzip twice", post(rows(), b"Content-Encoding: gzip, gzip"), NO_CODING),
    Hostile(
        "plain JSON with Content-Encoding: gzip", post(rows(), b"Content-Encoding: gzip"), NO_CODING
    ),
    Hostile("gzip without Content-Encoding", post(lambda: gzip.compress(rows())), NOT_JSON),
    Hostile("identity", post(rows(), b"Content-Encoding: identity"), IMPORTED),
    Hostile(
        "XML",
        post(b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>', kind=b"application/xml"),
        NO_CODING,
    ),
    Hostile(
        "a CSV as gzip",
        post(file(table(b"x")), b"Content-Encoding: gzip", kind=b"multipart/form-data; boundary=b"),
        NO_CODING,
    ),
]

_PART = b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\nx\r\n'
_END = b"--b--\r\n"

UPLOADS = [
    Hostile(
        "a formula in a cell: kept as data", upload(file(table(b"=cmd|'/c calc'!A0"))), IMPORTED
    ),
    Hostile("a null byte in a cell", upload(file(table(b"a\0b"))), ROW_FAILS),
    Hostile("10 MB in one cell", upload(lambda: file(table(b"x" * 10 * MEGABYTE))), TOO_LARGE),
    Hostile("4 MB in one cell", upload(lambda: file(table(b"x" * 4 * MEGABYTE))), ROW_FAILS),
    Hostile(
        "4 MB of delimiters as header",
        upload(lambda: file(b"," * 4 * MEGABYTE)),
        Expected(422, "empty_file"),
    ),
    Hostile(
        "4 MB of quotes",
        upload(lambda: file(b'"' * 4 * MEGABYTE)),
        Expected(422, "missing_columns"),
    ),
    Hostile(
        "10 000 columns",
        upload(file(b",".join(b"c%d" % n for n in range(10_000)))),
        Expected(422, "invalid_csv"),
    ),
    Hostile("10 000 parts", upload(b"".join([_PART % b"x"] * 10_000) + _END), BROKEN_UPLOAD),
    Hostile(
        "no boundary",
        post(file(table(b"x")), to=b"/v1/pins/imports/csv", kind=b"multipart/form-data"),
        BROKEN_UPLOAD,
    ),
    Hostile("no closing boundary", upload(file(table(b"x"))[:-6]), BROKEN_UPLOAD),
    Hostile(
        "a part's header of 1 MB",
        upload(b"--b\r\nX: " + b"x" * MEGABYTE + b"\r\n\r\nx\r\n" + _END),
        BROKEN_UPLOAD,
    ),
    Hostile(
        "a part with 100 000 headers",
        upload(b"--b\r\n" + b"X: x\r\n" * 100_000 + b"\r\nx\r\n" + _END),
        BROKEN_UPLOAD,
    ),
    Hostile(
        "4 kB of escaped quotes in the header of each of 50 parts",
        upload((_PART % (b'file"; x="' + rb"\"" * 2000)) * 50 + _END),
        Expected(422, "unknown_parameter"),
    ),
    Hostile("a field name of 1 MB", upload(_PART % (b"x" * MEGABYTE) + _END), BROKEN_UPLOAD),
    Hostile(
        "multipart in multipart",
        upload(file(file(table(b"x")).replace(b"--b", b"--c"))),
        Expected(422, "missing_columns"),
    ),
    Hostile("only boundaries", upload(b"--b\r\n" * 100_000 + _END), BROKEN_UPLOAD),
    Hostile(
        "a file name with ../ (path traversal)",
        upload(file(table(b"x"), b"../../../etc/passwd")),
        IMPORTED,
    ),
    Hostile(
        "a file name with a header line in it",
        upload(file(table(b"x"), b"a.csv\r\nX-Injected: 1")),
        IMPORTED,
    ),
    Hostile(
        "a file name with terminal escapes",
        upload(file(table(b"x"), b"\x1b[31m\xe2\x80\xaecsv.exe")),
        IMPORTED,
    ),
    Hostile("a file name of 100 kB", upload(file(table(b"x"), b"x" * 100_000)), BROKEN_UPLOAD),
]
