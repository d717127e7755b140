"""Files with results: what is written, and how such a file is read again."""

import pytest

from shared.contract.errors import ApiError
from shared.spreadsheets.result_files import (
    RESULT_COLUMNS,
    RowWithResult,
    find_result_columns,
    protect,
    write_results,
)
from shared.spreadsheets.table import read_csv

HEADER = ["account_id", "board_id", "title", "idempotency_key"]
FAILED = ("2", "failed", "", "", "validation_error", "title: is required")
CREATED = ("3", "created", "p", "", "", "")


def write(*rows: RowWithResult, header: list[str] = HEADER, delimiter: str = ",") -> bytes:
    return b"".join(write_results(header, delimiter, rows))


def test_a_file_with_results_opens_in_excel() -> None:
    data = write(RowWithResult(["a", "b", "Lämp;e", "k"], CREATED), delimiter=";")
    assert data == (
        b"\xef\xbb\xbfaccount_id;board_id;title;idempotency_key;line;status;pin_id;schedule_id;"
        b'error_code;error_message\r\na;b;"L\xc3\xa4mp;e";k;3;created;p;;;\r\n'
    )


def test_result_columns_are_ignored_without_a_warning() -> None:
    table = read_csv(write(RowWithResult(["a", "b", "t", "k"], FAILED)), keep_unknown=True)
    assert table.warnings == []
    assert [row.values for row in table.rows] == [
        {"account_id": "a", "board_id": "b", "title": "t", "idempotency_key": "k"}
    ]


@pytest.mark.parametrize("name", ["line", "status", "error_code", "error_message"])
def test_a_file_without_one_of_the_columns_has_no_results(name: str) -> None:
    header = [*HEADER, *(column for column in RESULT_COLUMNS if column != name)]
    assert find_result_columns(header) == frozenset()


def test_the_columns_with_ids_may_be_missing() -> None:
    header = ["status", *HEADER, "line", "error_code", "error_message"]
    assert find_result_columns(header) == {0, 5, 6, 7}


def test_a_column_of_the_upload_with_the_name_of_a_result_column_is_kept() -> None:
    header = [*HEADER, "status"]
    data = write(RowWithResult(["a", "b", "t", "k", "draft"], FAILED), header=header)
    table = read_csv(data)
    assert [warning.code for warning in table.warnings] == ["unknown_columns"]
    assert [row.values for row in read_csv(data, keep_unknown=True).rows] == [
        {
            "account_id": "a",
            "board_id": "b",
            "title": "t",
            "idempotency_key": "k",
            "status": "draft",
        }
    ]


def test_invariant_11_a_file_that_may_have_such_columns_of_its_own_is_read_with_a_warning() -> None:
    columns = "account_id,board_id,title,idempotency_key,line,error_code,error_message,status"
    (warning,) = read_csv(f"{columns}\na,b,'tis,k,,,,draft\n".encode()).warnings
    assert warning.code == "results_file"
    assert "columns line, error_code, error_message, status." in warning.message
    assert "apostrophe" in warning.message


def test_a_file_with_200_columns_can_be_uploaded_again() -> None:
    header = [*HEADER, *(f"column {number}" for number in range(196))]
    assert read_csv(write(RowWithResult(["a"] * 200, FAILED), header=header)).row_count == 1


@pytest.mark.parametrize(
    "cell", ["=1+1", "+49 30", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＠a", " =1", "'t"]
)
def test_a_cell_that_a_spreadsheet_would_run_gets_an_apostrophe(cell: str) -> None:
    assert protect(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["", " ", "Lamp", "a=1", "1-2", "\u00a0x", "„Lampe“"])
def test_other_cells_stay_as_they_are(cell: str) -> None:
    assert protect(cell) == cell


def test_only_a_file_with_results_loses_apostrophes() -> None:
    table = read_csv(b"account_id,board_id,title,idempotency_key\na,b,'tis,k\n")
    assert table.rows[0].values == {
        "account_id": "a",
        "board_id": "b",
        "title": "'tis",
        "idempotency_key": "k",
    }


def test_a_row_with_too_few_cells_is_filled() -> None:
    assert write(RowWithResult(["a"], FAILED)).endswith(
        b"\r\na,,,,2,failed,,,validation_error,title: is required\r\n"
    )


def test_cells_beyond_the_header_follow_the_results_and_fail_the_row_again() -> None:
    data = write(RowWithResult(["a", "b", "Lamp", " red", "k"], FAILED))
    assert data.endswith(b"a,b,Lamp, red,2,failed,,,validation_error,title: is required,k\r\n")
    (row,) = read_csv(data).rows
    assert row.values == (
        "The row has 11 cells; the header has 10. Quote cells that contain the delimiter.",
    )


def test_a_header_from_which_another_delimiter_would_be_detected_is_quoted() -> None:
    header = ["x,title,board_id,account_id,link_url,alt_text,description", *HEADER]
    row = RowWithResult(["x", "a", "b", "t", "k"], FAILED)
    assert read_csv(write(row, header=header, delimiter=";")).header.delimiter == ";"


def test_a_misspelled_column_is_refused_in_a_file_with_results_too() -> None:
    with pytest.raises(ApiError) as error:
        read_csv(write(header=[*HEADER, "descripton"]))
    assert error.value.code == "unknown_columns"


def test_large_files_are_written_in_chunks() -> None:
    rows = [RowWithResult(["a", "b", "x" * 1000, "k"], FAILED)] * 500
    assert len(list(write_results(HEADER, ",", rows))) > 5
