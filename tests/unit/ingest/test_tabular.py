"""CSV as spreadsheets write it, and what is refused."""

from typing import Any

import pytest

from services.ingest.parsing import Misshapen
from services.ingest.tabular import GUESSED_ENCODING, parse_csv
from shared.errors import RequestRefused

HEADER = "account_id,board_id,title,idempotency_key,image_url"
ROW = "a,b,Lämpe,k,u"
AS_ROW = {"account_id": "a", "board_id": "b", "title": "Lämpe", "idempotency_key": "k", "image_url": "u"}


def rows_of(text: str, encoding: str = "utf-8") -> list[Any]:
    return parse_csv(text.encode(encoding)).rows


def refusal(data: bytes) -> RequestRefused:
    with pytest.raises(RequestRefused) as refused:
        parse_csv(data)
    return refused.value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_write_is_read(encoding: str, newline: str, delimiter: str) -> None:
    text = newline.join([HEADER, ROW, ""]).replace(",", delimiter)
    table = parse_csv(text.encode(encoding))
    assert table.rows == [AS_ROW]
    assert table.warnings == ([GUESSED_ENCODING] if encoding == "cp1252" else [])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_of_either_order_is_read_by_its_mark(encoding: str) -> None:
    mark = "\ufeff".encode(encoding)
    assert parse_csv(mark + f"{HEADER}\n{ROW}".encode(encoding)).rows == [AS_ROW]


def test_header_names_are_trimmed_and_any_case() -> None:
    assert rows_of(f"{' Account_ID ,BOARD_id,Title,idempotency_KEY,image_url'}\n{ROW}") == [AS_ROW]


def test_quoted_line_breaks_and_delimiters_stay_in_the_cell() -> None:
    (row,) = rows_of(HEADER + '\na,b,"one\ntwo, ""three""",k,u\n')
    assert row["title"] == 'one\ntwo, "three"'


def test_blank_lines_are_skipped_and_not_counted() -> None:
    assert rows_of(f"\n{HEADER}\n\n{ROW}\n,,,,\n  \n{ROW}\n\n") == [AS_ROW, AS_ROW]


def test_empty_cells_are_absent() -> None:
    (row,) = rows_of(f"{HEADER}\na,,t,k,")
    assert row == {"account_id": "a", "title": "t", "idempotency_key": "k"}


@pytest.mark.parametrize(("cells", "found"), [("a,b,c,d,e,f", 6), ("a,b,c", 3)])
def test_a_row_of_another_length_is_misshapen_and_alone(cells: str, found: int) -> None:
    first, second = rows_of(f"{HEADER}\n{cells}\n{ROW}")
    assert first == Misshapen(f"expected 5 cells, found {found}")
    assert second == AS_ROW


def test_a_cell_of_a_megabyte_is_read() -> None:
    (row,) = rows_of(f"{HEADER}\na,b,{'x' * 1_000_000},k,u")
    assert len(row["title"]) == 1_000_000


@pytest.mark.parametrize(
    ("data", "code", "details"),
    [
        (b"", "empty_file", {}),
        (b"\n\n  \n", "empty_file", {}),
        (HEADER.encode(), "empty_import", {}),
        (b"title,board_id\nx,y", "missing_columns", {"missing": ["account_id", "idempotency_key"], "found": ["title", "board_id"]}),
        (f"{HEADER},Title\n".encode(), "duplicate_columns", {"found": [*HEADER.split(","), "title"]}),
        (f'{HEADER}\n{ROW}\na,b,"never closed,k,u\n'.encode(), "invalid_csv", {"line": 3}),
        (b"\xef\xbb\xbf" + HEADER.encode() + b"\na,b,\xff,k,u", "invalid_encoding", {"line": 2}),
        (b"\xff\xfe" + f"{HEADER}\n".encode("utf-16-le") + b"\x00", "invalid_encoding", {"line": 2}),
        (HEADER.encode() + b"\na,b,\x81,k,u", "invalid_encoding", {"line": 2}),
        (f"{HEADER}\n".encode() + f"{ROW}\n".encode() * 501, "too_many_rows", {"limit": 500, "count": 501}),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_refused(data: bytes, code: str, details: dict[str, Any]) -> None:
    refused = refusal(data)
    assert refused.code == code
    assert refused.details == details
    assert refused.message


def test_500_rows_are_not_too_many() -> None:
    assert len(rows_of(f"{HEADER}\n" + f"{ROW}\n" * 500)) == 500
