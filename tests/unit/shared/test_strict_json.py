"""JSON as people have it: byte order marks are read, and each mistake is named with its cure."""

import json
from typing import Any
from uuid import uuid4

import pytest

from services.ingest.import_requests import identify_request
from shared.contract.errors import ApiError, ErrorCode, Poison
from shared.contract.strict_json import parse_json
from tests.support.factories import submitted_row

MARK = b"\xef\xbb\xbf"


def refuse(body: bytes) -> ApiError:
    with pytest.raises(ApiError) as refused:
        parse_json(body)
    assert refused.value.code == ErrorCode.INVALID_JSON
    return refused.value


@pytest.mark.parametrize("mark", [MARK, MARK * 2])
@pytest.mark.parametrize("text", ['[{"title": "Lämp"}]', r'["\ud800"]'])
def test_a_byte_order_mark_is_dropped(mark: bytes, text: str) -> None:
    assert parse_json(mark + text.encode()) == json.loads(text)


def test_the_position_of_a_fault_counts_from_the_end_of_the_mark() -> None:
    error = refuse(MARK + b"[1,]")
    assert error.details == {"line": 1, "column": 4, "offset": 3}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "at line 1, column 1: it is empty. Send a JSON document."),
        (" \n", "at line 2, column 1: it is empty. Send a JSON document."),
        (
            "[1,\n]",
            "at line 2, column 1: a comma stands before a closing bracket. Remove the comma.",
        ),
        (
            '{"a":1,}',
            "at line 1, column 8: a comma stands before a closing bracket. Remove the comma.",
        ),
        (
            "[1,,2]",
            (
                "at line 1, column 4: a value is missing before this comma. Remove the comma, or "
                "write null."
            ),
        ),
        (
            "{'a':1}",
            "at line 1, column 2: names and texts need double quotes, not single ones.",
        ),
        ("[“a”]", 'at line 1, column 2: names and texts need straight double quotes (").'),
        ("{a:1}", 'at line 1, column 2: names need double quotes, as in "title".'),
        ('{"a": red}', "at line 1, column 7: a text needs double quotes."),
        (
            '[{"a": "NaN \\" ", "b": NaN}]',
            "at line 1, column 24: NaN is not a JSON value. Send null or a number.",
        ),
        (
            "[-Infinity]",
            "at line 1, column 2: Infinity is not a JSON value. Send null or a number.",
        ),
        ("[True]", "at line 1, column 2: True is not a JSON value. Write true in lower case."),
        ("[None]", "at line 1, column 2: None is not a JSON value. Write null."),
        ("[1 // one\n]", "at line 1, column 4: JSON has no comments. Remove them."),
        ("[1, /* two */ 2]", "at line 1, column 5: JSON has no comments. Remove them."),
        ("[1] # three", "at line 1, column 5: JSON has no comments. Remove them."),
        (
            "title,board_id\nLamp,7\n",
            (
                "at line 1, column 1: the text looks like CSV. Send CSV as a file, in the form "
                "field `file` of POST /v1/pins/imports/csv."
            ),
        ),
        (
            '"title";"board_id"\n"Lamp";"7"\n',
            (
                "at line 1, column 8: the text looks like CSV. Send CSV as a file, in the form "
                "field `file` of POST /v1/pins/imports/csv."
            ),
        ),
        (
            '{"a":1}\n{"a":2}\n',
            (
                "at line 2, column 1: another document follows the first one, as in NDJSON. Send "
                "one array: put the documents into [ ] and a comma between two of them."
            ),
        ),
        ("[1]]", "at line 1, column 4: more text follows the end of the document. Remove it."),
        (
            '["Lamp',
            (
                "at line 1, column 2: the text that begins here has no closing quotation mark. "
                "Check whether the document was cut off."
            ),
        ),
        (
            '[{"a": 1}',
            (
                "at line 1, column 10: the document ends too early: something is not closed. Check "
                "whether the document was cut off."
            ),
        ),
        ('{"a" 1}', "at line 1, column 6: a colon is missing after the name."),
        ('["a": 1]', "at line 1, column 5: names stand in an object. Use { } instead of [ ]."),
        (
            '["a\nb"]',
            (
                "at line 1, column 4: a line break stands inside a text. Write it as \\n, or close "
                "the text before it."
            ),
        ),
        (
            r'["C:\pins"]',
            (
                "at line 1, column 5: a backslash begins an unknown escape. Write a backslash "
                r"itself as \\."
            ),
        ),
        (
            '["a "new" lamp"]',
            (
                "at line 1, column 6: a comma is missing here, or a quotation mark inside a text "
                r"is not written as \"."
            ),
        ),
        ("[1 2]", "at line 1, column 4: a comma or a closing bracket is missing here."),
        (
            "[01]",
            (
                "at line 1, column 3: a number has no leading zero. Write it without, or as text "
                "in double quotes."
            ),
        ),
        ("[.5]", "at line 1, column 2: a number begins with a digit or a minus sign."),
        (
            "[\u00a01]",
            "at line 1, column 2: an invisible character (U+00A0) stands here. Remove it.",
        ),
        (
            "\ufeff\ufeff\ufeff[]",
            "at line 1, column 1: an invisible character (U+FEFF) stands here. Remove it.",
        ),
        (
            '{"a":[1}',
            (
                "at line 1, column 8: the wrong bracket closes here. Use ] for a list and } for an "
                "object."
            ),
        ),
        ("<html>", "at line 1, column 1: it is HTML or XML. Send JSON."),
        (
            "--b\r\nContent-Disposition: form-data",
            (
                "at line 1, column 1: it is a form (multipart/form-data). Send the JSON document "
                "itself as the body."
            ),
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_its_cure(body: str, message: str) -> None:
    assert refuse(body.encode()).message == f"Invalid JSON {message}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            '[{"a": 1}]'.encode("utf-16"),
            (
                "it is UTF-16, as PowerShell writes it with >. Save it as UTF-8: in PowerShell, "
                "with Out-File -Encoding utf8 instead of >."
            ),
        ),
        (
            '[{"a": 1}]'.encode("utf-16-le"),
            "it is UTF-16 without a byte order mark. Save it as UTF-8.",
        ),
        (
            '[{"a": 1}]'.encode("utf-16-be"),
            "it is UTF-16 without a byte order mark. Save it as UTF-8.",
        ),
        (b"\x1f\x8b\x08\x00", "it is compressed with gzip. Send it without compression."),
        (
            b"PK\x03\x04\x14",
            "it is a ZIP archive or an Excel workbook. Send JSON, or save the workbook as CSV.",
        ),
        (b"[" * 100_000, "it is nested too deeply. Send fewer levels."),
        (b"9" * 100_000, "a number has too many digits. Send fewer."),
    ],
)
def test_what_is_no_json_at_all_is_named(body: bytes, message: str) -> None:
    assert refuse(body).message == f"Invalid JSON: {message}"


def test_a_byte_that_is_not_utf_8_is_named_with_its_place() -> None:
    error = refuse('[\n"ä", "caf\u00e9"]'.encode("latin-1").replace(b"\xe4", "ä".encode()))
    assert error.message == (
        "Invalid JSON at line 2, column 10: byte 12 is not UTF-8. Save the document as UTF-8."
    )
    assert error.details == {"line": 2, "column": 10, "offset": 12}


@pytest.mark.parametrize("count", [1, 100_000])
def test_a_constant_after_a_long_text_is_found(count: int) -> None:
    text = 'a\\"NaN' * count
    assert refuse(f'["{text}", NaN]'.encode()).details["offset"] == len(text) + 5


def test_no_message_repeats_the_document() -> None:
    documents: list[Any] = ['["s3cret" s3cret]', "{s3cret: 1}", '["\\s3cret"]', "s3cret", "[s3cret"]
    for document in documents:
        assert "s3cret" not in refuse(document.encode()).message


def test_a_request_by_topic_is_read_with_a_byte_order_mark_and_named_like_a_body() -> None:
    request = {"request_id": "spring", "workspace_id": str(uuid4()), "rows": [submitted_row()]}
    body = json.dumps(request).encode()
    assert identify_request(MARK + body, []).key == identify_request(body, []).key
    with pytest.raises(Poison) as refused:
        identify_request(json.dumps(request).encode("utf-16"), [])
    assert refused.value.message.startswith("Invalid JSON: it is UTF-16, as PowerShell writes it")
