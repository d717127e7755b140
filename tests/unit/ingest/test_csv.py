"""CSV files as spreadsheets write them, and files that are refused."""

import sys
import time
from typing import Any

import pytest

from services.ingest.parsing import csv as csv_parser
from services.ingest.parsing.csv import GUESSED_ENCODING, MAX_COLUMNS, parse_csv
from services.ingest.parsing.rows import WrongCellCount
from shared.contract.errors import ApiError

HEADER = "account_id,board_id,title,idempotency_key,image_url"
ROW = "a,b,Lämpe,k,u"
PARSED_ROW = {
    "account_id": "a",
    "board_id": "b",
    "title": "Lämpe",
    "idempotency_key": "k",
    "image_url": "u",
}


def parse_rows(text: str, encoding: str = "utf-8") -> list[Any]:
    return parse_csv(text.encode(encoding)).rows


def find_refusal(data: bytes) -> ApiError:
    with pytest.raises(ApiError) as refused:
        parse_csv(data)
    return refused.value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_files_of_spreadsheets_are_read(encoding: str, newline: str, delimiter: str) -> None:
    text = newline.join([HEADER, ROW, ""]).replace(",", delimiter)
    table = parse_csv(text.encode(encoding))
    assert table.rows == [PARSED_ROW]
    assert table.warnings == ([GUESSED_ENCODING] if encoding == "cp1252" else [])


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_is_read_in_both_byte_orders(encoding: str) -> None:
    mark = "\ufeff".encode(encoding)
    assert parse_csv(mark + f"{HEADER}\n{ROW}".encode(encoding)).rows == [PARSED_ROW]


def test_header_names_are_trimmed_and_case_insensitive() -> None:
    assert parse_rows(f"{' Account_ID ,BOARD_id,Title,idempotency_KEY,image_url'}\n{ROW}") == [
        PARSED_ROW
    ]


def test_quoted_line_breaks_and_delimiters_stay_in_the_cell() -> None:
    (row,) = parse_rows(HEADER + '\na,b,"one\ntwo, ""three""",k,u\n')
    assert row["title"] == 'one\ntwo, "three"'


def test_blank_lines_are_skipped_and_not_counted() -> None:
    assert parse_rows(f"\n{HEADER}\n\n{ROW}\n,,,,\n  \n{ROW}\n\n") == [PARSED_ROW, PARSED_ROW]


def test_empty_cells_are_left_out() -> None:
    (row,) = parse_rows(f"{HEADER}\na,,t,k,")
    assert row == {"account_id": "a", "title": "t", "idempotency_key": "k"}


@pytest.mark.parametrize(
    ("cells", "count", "advice"),
    [
        ("a,b,c,d,e,f", 6, "Quote cells that contain the delimiter."),
        ("a,b,c", 3, "Add the missing cells; those of optional columns may be empty."),
    ],
)
def test_a_row_with_a_wrong_number_of_cells_fails_alone(
    cells: str, count: int, advice: str
) -> None:
    first, second = parse_rows(f"{HEADER}\n{cells}\n{ROW}")
    assert first == WrongCellCount(f"The row has {count} cells; the header has 5. {advice}")
    assert second == PARSED_ROW


def test_a_cell_of_a_megabyte_is_read() -> None:
    (row,) = parse_rows(f"{HEADER}\na,b,{'x' * 1_000_000},k,u")
    assert len(row["title"]) == 1_000_000


@pytest.mark.parametrize(
    ("data", "code", "details"),
    [
        (b"", "empty_file", {}),
        (b"\n\n  \n", "empty_file", {}),
        (HEADER.encode(), "empty_import", {}),
        (
            b"title,board_id\nx,y",
            "missing_columns",
            {"missing": ["account_id", "idempotency_key"], "found": ["title", "board_id"]},
        ),
        (
            f"{HEADER},Title\n".encode(),
            "duplicate_columns",
            {"found": [*HEADER.split(","), "title"]},
        ),
        (f'{HEADER}\n{ROW}\na,b,"never closed,k,u\n'.encode(), "invalid_csv", {"line": 3}),
        (b"\xef\xbb\xbf" + HEADER.encode() + b"\na,b,\xff,k,u", "invalid_encoding", {"line": 2}),
        (
            b"\xff\xfe" + f"{HEADER}\n".encode("utf-16-le") + b"\x00",
            "invalid_encoding",
            {"line": 2},
        ),
        (HEADER.encode() + b"\na,b,\x81,k,u", "invalid_encoding", {"line": 2}),
        (
            f"{HEADER}\n".encode() + f"{ROW}\n".encode() * 501,
            "too_many_rows",
            {"limit": 500, "count": 501},
        ),
    ],
)
def test_an_invalid_file_is_refused(data: bytes, code: str, details: dict[str, Any]) -> None:
    refused = find_refusal(data)
    assert refused.code == code
    assert refused.details == details
    assert refused.message


@pytest.mark.parametrize("before", ["", "\n \n,,,\n", "\r\n\r\n", "\r\r"])
def test_a_fault_after_blank_lines_is_reported_with_its_line(before: str) -> None:
    lines = len((before + ".").splitlines()) - 1
    assert find_refusal(f'{before}{HEADER}\n\n"open'.encode()).details == {"line": lines + 3}


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_the_delimiter_is_detected_despite_other_delimiters_and_quotes_in_the_header(
    delimiter: str,
) -> None:
    header = HEADER.replace(",", delimiter) + f'{delimiter}"a, b{delimiter} c\nd"'
    (row,) = parse_rows(f"{header}\n{ROW.replace(',', delimiter)}{delimiter}\n")
    assert row == PARSED_ROW


def test_a_header_with_too_many_columns_is_refused() -> None:
    more = ",".join(f"c{number}" for number in range(MAX_COLUMNS - 4))
    refused = find_refusal(f"{HEADER},{more}\n".encode())
    assert (refused.code, refused.details) == (
        "invalid_csv",
        {"limit": MAX_COLUMNS, "count": MAX_COLUMNS + 1},
    )


def test_columns_without_a_name_do_not_count_against_the_limit() -> None:
    assert parse_rows(f"{HEADER}{',' * 1000}\n{ROW}{',' * 1000}") == [PARSED_ROW]


def test_a_duplicate_column_is_named_among_many_columns() -> None:
    refused = find_refusal(",".join([f"c{number}" for number in range(1000)] + ["c7"]).encode())
    assert (refused.code, refused.message) == (
        "duplicate_columns",
        "Columns that appear more than once: c7. Keep one of each.",
    )


def test_rows_far_over_the_limit_are_counted_by_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_parser, "MAX_PARSED_EXCESS_ROWS", 100)
    rows = f"{ROW}\n" * 600 + "\n" + f"{ROW}\n" * 100
    assert find_refusal(f"{HEADER}\n{rows}".encode()).details == {"limit": 500, "count": 700}


@pytest.mark.parametrize(
    ("hostile", "code"),
    [
        (",".join(f"c{number}" for number in range(40_000)), "invalid_csv"),
        ("\n" * 5_000_000, "empty_file"),
        (f"{HEADER}\n" + "a\n" * 2_500_000, "too_many_rows"),
    ],
    ids=["names", "blank lines", "short lines"],
)
def test_a_hostile_file_is_refused_within_a_second_of_cpu_time(hostile: str, code: str) -> None:
    """The files took 24, 5.8 and 1.6 s before the limits, and take 0.02, 0.02 and 0.15 s now."""
    data = hostile.encode()
    started = time.process_time()
    assert find_refusal(data).code == code
    # Coverage's tracing multiplies the time by twenty: short lines took 3.1 s
    assert time.process_time() - started < (1 if sys.gettrace() is None else 10)


def test_500_rows_are_accepted() -> None:
    assert len(parse_rows(f"{HEADER}\n" + f"{ROW}\n" * 500)) == 500


def test_unknown_columns_are_ignored_with_a_warning() -> None:
    table = parse_csv(
        b"account_id,board_id,title,idempotency_key,linkurl,\na,b,t,k,https://x.example,\n"
    )
    assert [(warning.code, warning.message) for warning in table.warnings] == [
        (
            "unknown_columns",
            (
                "Unknown columns: linkurl. Their cells are ignored. With strict=true, a value in "
                "them makes its row fail. Correct or remove these columns."
            ),
        )
    ]
