"""Joining the files of failed rows of one file's imports."""

import csv
import io
from collections.abc import Sequence

import pytest

from deploy.cli.failed_rows import FailedRows, join_failed_rows
from shared.spreadsheets.result_files import RESULT_COLUMNS, RowWithResult, write_results

RESULT = ("2", "failed", "", "", "validation_error", "title: must not be blank")


def build_file(
    header: Sequence[str], *rows: Sequence[str], delimiter: str = ",", lines: Sequence[int | None]
) -> FailedRows:
    with_results = [RowWithResult(row, RESULT) for row in rows]
    return FailedRows(b"".join(write_results(header, delimiter, with_results)), lines)


def read(content: bytes, delimiter: str = ",") -> list[list[str]]:
    text = content.decode("utf-8-sig")
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_rows_of_one_csv_file_get_their_lines(delimiter: str) -> None:
    header = ["title", "image_url", "note", "note"]
    first = build_file(header, ["'=1+1", "a\r\nb", "x", ""], delimiter=delimiter, lines=[7])
    second = build_file(
        header,
        ["", "b", f"1{delimiter}2", "y", "beyond"],
        ["-", "c"],
        delimiter=delimiter,
        lines=[502, 503],
    )
    written = read(join_failed_rows([first, second]), delimiter)
    assert written[0] == [*header, *RESULT_COLUMNS]
    assert [row[4] for row in written[1:]] == ["7", "502", "503"]
    assert written[1][:4] == ["''=1+1", "a\r\nb", "x", ""]
    assert written[2] == ["", "b", f"1{delimiter}2", "y", "502", *RESULT[1:], "beyond"]
    assert written[3][:4] == ["'-", "c", "", ""]


def test_rows_of_json_imports_share_their_columns_by_name() -> None:
    first = build_file(["title", "link_url"], ["a", "b"], lines=[None])
    second = build_file(["title", "run_at"], ["c", "d"], lines=[None])
    written = read(join_failed_rows([first, second]))
    assert written[0] == ["title", "link_url", "run_at", *RESULT_COLUMNS]
    assert [row[:4] for row in written[1:]] == [["a", "b", "", "2"], ["c", "", "d", "2"]]


def test_a_large_cell_is_kept() -> None:
    text = "x" * 200_000
    files = [build_file(["title"], [text], lines=[number]) for number in (2, 3)]
    assert [row[0] for row in read_large(join_failed_rows(files))[1:]] == [text, text]


def read_large(content: bytes) -> list[list[str]]:
    csv.field_size_limit(len(content))
    return read(content)
