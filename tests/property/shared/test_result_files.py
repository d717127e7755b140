"""A file with results is the upload again: its failed rows can be mended and uploaded."""

import csv
import io
from collections.abc import Sequence

from hypothesis import assume, example, given
from hypothesis import strategies as st

from shared.spreadsheets.result_files import (
    FORMULA_CHARACTERS,
    RESULT_COLUMNS,
    RowWithResult,
    protect,
    restore,
    write_results,
)
from shared.spreadsheets.table import CsvTable, read_csv
from tests.property.documents import REQUIRED
from tests.property.ingest.csv_files import Dialect, dialects, tables
from tests.property.profiles import examples

RESULT = ("7", "failed", "", "", "validation_error", "=cmd|' /C calc'!A0: is required")
texts = st.text(
    st.one_of(
        st.sampled_from("'=+-@\t\r\n＝＋－＠ \u200b\u00a0\";,|"), st.characters(codec="utf-8")
    ),
    max_size=12,
)


def write(table: CsvTable, numbers: Sequence[int]) -> bytes:
    rows = [RowWithResult(table.rows[number].cells, RESULT) for number in numbers]
    return b"".join(write_results(table.header.cells, table.header.delimiter, rows))


@examples(300)
@given(texts)
@example("'")
@example("''=1")
@example("\u200b=1")
def test_a_protected_cell_is_no_formula_and_is_restored_exactly(cell: str) -> None:
    protected = protect(cell)
    assert restore(protected) == cell
    visible = [char for char in protected if char.isprintable() and not char.isspace()]
    assert not visible or visible[0] not in FORMULA_CHARACTERS
    assert protected[:1] not in FORMULA_CHARACTERS


@examples(200)
@given(dialects, tables(), st.data())
def test_the_failed_rows_of_a_file_with_results_are_exactly_those_of_the_upload(
    dialect: Dialect, table: tuple[list[str], list[dict[str, str]]], data: st.DataObject
) -> None:
    names, rows = table
    formulas = data.draw(st.lists(texts, min_size=len(rows), max_size=len(rows)))
    rows = [{**row, "title": text} for row, text in zip(rows, formulas, strict=True)]
    upload = dialect.write(names, rows)
    assume(b"\0" not in upload.decode(dialect.encoding).encode())
    read = read_csv(upload)
    assume(read.rows)
    failed = data.draw(st.lists(st.sampled_from(range(len(read.rows))), unique=True, min_size=1))
    again = read_csv(write(read, sorted(failed)))
    assert [row.values for row in again.rows] == [read.rows[n].values for n in sorted(failed)]
    assert again.header.delimiter == read.header.delimiter
    assert [warning.code for warning in again.warnings] == [
        warning.code for warning in read.warnings
    ]


@examples(100)
@given(st.sampled_from(",;\t|"), st.lists(texts, min_size=1, max_size=4, unique=True), texts)
def test_unknown_columns_with_any_name_keep_their_values(
    delimiter: str, unknown: list[str], value: str
) -> None:
    names = [*REQUIRED, *(f"{name}x{number}" for number, name in enumerate(unknown))]
    assume(not any("\0" in text for text in (*names, value)))
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows([names, [value or "v"] * len(names)])
    upload = buffer.getvalue().encode()
    read = read_csv(upload, keep_unknown=True)
    assume(read.rows)
    again = read_csv(write(read, range(len(read.rows))), keep_unknown=True)
    assert [row.values for row in again.rows] == [row.values for row in read.rows]


@examples(50)
@given(st.lists(st.lists(texts, min_size=1, max_size=9), max_size=5))
def test_result_columns_stay_in_their_places(rows: list[list[str]]) -> None:
    header = [*REQUIRED, "note"]
    data = b"".join(write_results(header, ";", [RowWithResult(row, RESULT) for row in rows]))
    first, *written = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=";")
    assert first == [*header, *RESULT_COLUMNS]
    for row, line in zip(rows, written, strict=True):
        assert [restore(cell) for cell in line[len(header) : len(header) + 6]] == list(RESULT)
        assert [restore(cell) for cell in line[: len(row)][: len(header)]] == row[: len(header)]
