"""CSV files as spreadsheets write them, and files that are refused."""

import sys
import time
from typing import Any

import pytest

from shared.spreadsheets import table as table_module
from shared.spreadsheets.columns import MAX_COLUMNS
from shared.spreadsheets.table import CsvTable, Header, WrongCellCount, read_csv
from tests.unit.shared.spreadsheets.files import HEADER, ROW, VALUES, find_refusal


def read(text: str, **options: Any) -> CsvTable:
    return read_csv(text.encode(), **options)


def read_values(text: str, **options: Any) -> list[Any]:
    return [row.values for row in read(text, **options).rows]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_files_of_spreadsheets_are_read(encoding: str, newline: str, delimiter: str) -> None:
    text = newline.join([HEADER, ROW, ""]).replace(",", delimiter)
    table = read_csv(text.encode(encoding))
    assert [row.values for row in table.rows] == [VALUES]
    assert table.warnings == []
    assert table.header == Header(
        HEADER.split(","), delimiter, "utf-16" if encoding == "utf-16" else "utf-8"
    )


@pytest.mark.parametrize("line", ["sep={}", '"sep={}"', "SEP={}", "\n sep={}"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_sep_line_names_the_delimiter(line: str, newline: str, delimiter: str) -> None:
    lines = [line.format(delimiter), HEADER.replace(",", delimiter), ROW.replace(",", delimiter)]
    (row,) = read(newline.join(lines)).rows
    assert (row.values, row.line) == (VALUES, 4 if line.startswith("\n") else 3)


def test_a_sep_line_is_obeyed_although_the_header_has_other_delimiters() -> None:
    (row,) = read_values(
        'sep=|\naccount_id|board_id|title|idempotency_key|"a, title, and board_id, x"\na|b|t|k|\n'
    )
    assert row == {"account_id": "a", "board_id": "b", "title": "t", "idempotency_key": "k"}


def test_a_sep_line_with_another_character_is_refused() -> None:
    refused = find_refusal(f"sep=:\n{HEADER}\n{ROW}".encode())
    assert (refused.code, refused.details) == ("invalid_csv", {"line": 1})
    assert refused.message == (
        'The line "sep=:" names a delimiter that Pinflow does not read. Use a comma, a semicolon, '
        "a tab or a vertical bar."
    )


def test_quoted_line_breaks_and_delimiters_stay_in_the_cell_and_the_lines_stay_right() -> None:
    first, second = read(HEADER + '\na,b,"one\r\ntwo, ""three""",k,u\n\n' + ROW).rows
    assert isinstance(first.values, dict)
    assert first.values["title"] == 'one\r\ntwo, "three"'
    assert first.cells == ["a", "b", 'one\r\ntwo, "three"', "k", "u"]
    assert (first.line, second.line) == (2, 5)


@pytest.mark.parametrize("newlines", [("\n", "\r\n"), ("\r", "\n"), ("\r\n", "\r")])
def test_lines_are_counted_with_mixed_line_breaks(newlines: tuple[str, str]) -> None:
    first, second = newlines
    text = f"{first}{second}{HEADER}{first}{ROW}{second}{ROW}{first}"
    lines = [row.line for row in read(text).rows]
    blank = 1 if first + second == "\r\n" else 2
    assert lines == [blank + 2, blank + 3]


def test_blank_lines_are_skipped_and_not_counted() -> None:
    table = read(f"\n{HEADER}\n\n{ROW}\n,,,,\n  \n , ,\n{ROW}\n\n")
    assert [(row.values, row.line) for row in table.rows] == [(VALUES, 4), (VALUES, 8)]
    assert table.row_count == 2


def test_empty_cells_are_left_out_and_white_space_is_kept() -> None:
    (row,) = read_values(f"{HEADER}\na,, t ,k,  ")
    assert row == {"account_id": "a", "title": " t ", "idempotency_key": "k", "image_url": "  "}


@pytest.mark.parametrize(
    ("cells", "count", "advice"),
    [
        ("a,b,c,d,e,f", 6, "Quote cells that contain the delimiter."),
        ("a,b,c,d,e,,f", 7, "Quote cells that contain the delimiter."),
        ("a,b,c", 3, "Add the missing cells; those of optional columns may be empty."),
    ],
)
def test_a_row_with_a_wrong_number_of_cells_fails_alone(
    cells: str, count: int, advice: str
) -> None:
    first, second = read_values(f"{HEADER}\n{cells}\n{ROW}")
    assert first == WrongCellCount(f"The row has {count} cells; the header has 5. {advice}")
    assert second == VALUES


@pytest.mark.parametrize("excess", [",", ",,,", ", ,\t"])
def test_empty_cells_beyond_the_header_are_ignored(excess: str) -> None:
    assert read_values(f"{HEADER}\n{ROW}{excess}\n{ROW}") == [VALUES, VALUES]


def test_missing_cells_of_optional_columns_are_absent() -> None:
    (row,) = read_values(f"{HEADER},description,run_at\n{ROW}\n")
    assert row == VALUES


def test_a_missing_cell_of_an_account_is_absent_if_the_caller_has_a_default() -> None:
    text = "board_id,title,idempotency_key,image_url,account_id\nb,Lampe,k,u\n"
    (row,) = read_values(text)
    assert isinstance(row, WrongCellCount)
    (row,) = read_values(text, optional=["account_id"])
    assert row == {name: value for name, value in VALUES.items() if name != "account_id"}


def test_columns_without_name_and_content_are_ignored() -> None:
    table = read(f",{HEADER},,\n,{ROW},,\n ,{ROW}\n")
    assert [row.values for row in table.rows] == [VALUES, VALUES]
    assert table.warnings == []


def test_a_column_without_a_name_but_with_values_is_a_warning_with_its_rows() -> None:
    table = read(f"{HEADER},\n{ROW},\n{ROW},7\n{ROW}, \n{ROW},8\n")
    (warning,) = table.warnings
    assert [row.values for row in table.rows] == [VALUES] * 4
    assert (warning.code, warning.row_numbers) == ("unnamed_column", [2, 4])
    assert warning.message == (
        "Columns without a name have values: column 6. They are ignored. With strict=true, such a "
        "value makes its row fail. Name these columns, or remove them."
    )


def test_the_index_column_of_pandas_is_a_warning() -> None:
    table = read(f",{HEADER}\n0,{ROW}\n1,{ROW}\n")
    assert [row.values for row in table.rows] == [VALUES, VALUES]
    assert [warning.code for warning in table.warnings] == ["unnamed_column"]


def test_unknown_cells_are_kept_by_name_for_strict_validation() -> None:
    text = f"{HEADER},Price in €,,Note\n{ROW},,,\n{ROW},5,, \n{ROW},,7,\n{ROW}\n"
    assert read_values(text, keep_unknown=True) == [
        VALUES,
        VALUES | {"Price in €": "5"},
        VALUES | {"column 7 has no name": "7"},
        VALUES,
    ]


def test_a_cell_of_a_megabyte_is_read() -> None:
    (row,) = read_values(f"{HEADER}\na,b,{'x' * 1_000_000},k,u")
    assert len(row["title"]) == 1_000_000


@pytest.mark.parametrize("end", ["\x1a", "\0", "\0\0\0", "\x1a\r\n", " \x1a\n\n", "\x1a\0\x1a"])
def test_a_last_line_of_ctrl_z_or_nul_is_no_row(end: str) -> None:
    assert read_values(f"{HEADER}\r\n{ROW}\r\n{end}") == [VALUES]


def test_an_end_mark_behind_a_cell_stays_and_fails_its_row() -> None:
    (row,) = read_values(f"{HEADER}\n{ROW}\x1a\n")
    assert row["image_url"] == "u\x1a"


def test_trailing_empty_cells_before_an_end_mark_stay() -> None:
    (row,) = read(f"{HEADER},description,run_at\n{ROW},,\n\x1a").rows
    assert row.cells == [*ROW.split(","), "", ""]


@pytest.mark.parametrize(
    ("data", "code", "details"),
    [
        (b"", "empty_file", {}),
        (b"\n\n  \n", "empty_file", {}),
        (b"sep=;\n", "empty_file", {}),
        (b"\x1a", "empty_file", {}),
        (f'{HEADER}\n{ROW}\na,b,"never closed,k,u\n'.encode(), "invalid_csv", {"line": 3}),
        (f'sep=,\n\n{HEADER}\n{ROW}\n"a"b\n'.encode(), "invalid_csv", {"line": 5}),
    ],
)
def test_an_invalid_file_is_refused(data: bytes, code: str, details: dict[str, Any]) -> None:
    refused = find_refusal(data)
    assert refused.code == code
    assert refused.details == details
    assert refused.message


def test_a_single_quote_in_a_quoted_cell_is_refused_with_advice() -> None:
    assert find_refusal(f'{HEADER}\n"Sofa 3" wide",b,t,k,u\n'.encode()).message == (
        "The row that begins at line 2 has text behind a closing quote. Write a quote inside a "
        'quoted cell twice: "".'
    )


def test_a_file_without_rows_has_none() -> None:
    assert (read(HEADER).rows, read(HEADER).row_count) == ([], 0)


@pytest.mark.parametrize("before", ["", "\n \n,,,\n", "\r\n\r\n", "\r\r", "sep=,\n|\n"])
def test_a_fault_after_blank_lines_is_reported_with_its_line(before: str) -> None:
    lines = len((before + ".").splitlines()) - 1
    assert find_refusal(f'{before}{HEADER}\n\n"open'.encode()).details == {"line": lines + 3}


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_the_delimiter_is_detected_despite_other_delimiters_and_quotes_in_the_header(
    delimiter: str,
) -> None:
    header = HEADER.replace(",", delimiter) + f'{delimiter}"a, b{delimiter} c\nd"'
    (row,) = read_values(f"{header}\n{ROW.replace(',', delimiter)}{delimiter}\n")
    assert row == VALUES


def test_only_the_first_rows_are_kept_and_all_are_counted() -> None:
    table = read(f"{HEADER}\n" + f"{ROW}\n" * 501)
    assert (len(table.rows), table.row_count) == (500, 501)
    table = read(f"{HEADER}\n" + f"{ROW}\n" * 501, max_rows=None)
    assert (len(table.rows), table.row_count) == (501, 501)


def test_rows_far_over_the_limit_are_counted_by_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "MAX_PARSED_EXCESS_ROWS", 100)
    rows = f"{ROW}\n" * 600 + "\n" + f"{ROW}\n" * 100
    assert read(f"{HEADER}\n{rows}").row_count == 700


@pytest.mark.parametrize(
    ("hostile", "code"),
    [
        (",".join(f"c{number}" for number in range(40_000)), "invalid_csv"),
        ("\n" * 5_000_000, "empty_file"),
        ("\0\n" * 2_500_000, "invalid_encoding"),
        (f"{HEADER}\n" + "\xff" * 5_000_000, "invalid_encoding"),
        (f"{HEADER}\n" + "\xe9 " * 2_500_000, None),
        (f"{HEADER}\n" + "a" * 5_000_000 + "\xe9", None),
        (f"{HEADER}\n" + "a\n" * 2_500_000, None),
    ],
    ids=["names", "blank lines", "NULs", "ÿ", "words", "a long word", "short lines"],
)
def test_a_hostile_file_is_read_within_a_second_of_cpu_time(hostile: str, code: str | None) -> None:
    """Takes 0.02 to 0.3 s. Names, blank and short lines took 24, 5.8 and 1.6 s without limits."""
    data = hostile.encode("latin-1")
    started = time.process_time()
    if code is None:
        assert read_csv(data).row_count
    else:
        assert find_refusal(data).code == code
    # Coverage's tracing multiplies the time by twenty: short lines took 3.1 s
    assert time.process_time() - started < (1 if sys.gettrace() is None else 10)


def test_a_header_with_too_many_columns_is_refused() -> None:
    more = ",".join(f"c{number}" for number in range(MAX_COLUMNS - 4))
    refused = find_refusal(f"{HEADER},{more}\n".encode())
    assert (refused.code, refused.details) == (
        "invalid_csv",
        {"limit": MAX_COLUMNS, "count": MAX_COLUMNS + 1},
    )


def test_columns_without_a_name_do_not_count_against_the_limit() -> None:
    assert read_values(f"{HEADER}{',' * 1000}\n{ROW}{',' * 1000}") == [VALUES]
