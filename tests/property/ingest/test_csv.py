"""A CSV of any dialect is read back. Any other bytes become rows or a refusal."""

from collections.abc import Mapping, Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from services.ingest.parsing.rows import RawRow
from shared.contract.errors import ApiError
from shared.contract.events import MAX_ROWS
from shared.spreadsheets.columns import MAX_COLUMNS
from shared.spreadsheets.table import WrongCellCount, read_csv
from tests.property.api_errors import check_error
from tests.property.documents import FIELDS, mutated, valid_rows
from tests.property.ingest.csv_files import Dialect, dialects, tables
from tests.property.profiles import examples
from tests.support.imports import validate

REFUSALS = {
    "empty_file",
    "missing_columns",
    "duplicate_columns",
    "unknown_columns",
    "invalid_encoding",
    "invalid_csv",
}
"""The error codes of an invalid file."""


def read_values(data: bytes, encoding: str | None = None) -> list[RawRow]:
    """Reads a file. The case of names is dropped, because unknown ones keep theirs."""
    rows = read_csv(data, encoding=encoding, keep_unknown=True).rows
    return [
        values
        if isinstance(values := row.values, WrongCellCount)
        else {name.lower(): value for name, value in values.items()}
        for row in rows
    ]


def drop_blank_unknown(rows: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """Returns the rows without cells of unknown columns that have only white space."""
    return [
        {name: cell for name, cell in row.items() if name in FIELDS or cell.strip()} for row in rows
    ]


@examples(70)
@given(tables(), dialects)
def test_a_csv_of_any_dialect_is_read_back(
    table: tuple[list[str], list[dict[str, str]]], dialect: Dialect
) -> None:
    names, rows = table
    assert read_values(dialect.write(names, rows)) == drop_blank_unknown(rows)


@examples(40)
@given(tables(), dialects)
def test_a_windows_1252_file_is_read_back_if_that_is_declared(
    table: tuple[list[str], list[dict[str, str]]], dialect: Dialect
) -> None:
    names, rows = table
    rows = [
        {
            name: cell.encode("cp1252", errors="replace").decode("cp1252")
            for name, cell in row.items()
        }
        for row in rows
    ]
    data = dialect._replace(encoding="cp1252").write(names, rows)
    assert read_values(data, "windows-1252") == drop_blank_unknown(rows)


@examples(40)
@given(st.lists(valid_rows(), min_size=1, max_size=3), dialects, st.permutations(FIELDS))
def test_a_csv_and_a_json_of_the_same_rows_are_the_same_import(
    rows: list[dict[str, str]], dialect: Dialect, names: Sequence[str]
) -> None:
    as_csv, as_json = validate(read_values(dialect.write(names, rows))), validate(rows)
    assert as_csv == as_json


def check_read_or_refused(data: bytes) -> None:
    """Fails unless the file is read as a valid table or refused with a documented code."""
    try:
        table = read_csv(data, keep_unknown=True)
    except ApiError as refusal:
        check_error(refusal, REFUSALS)
        return
    assert len(table.rows) == min(table.row_count, MAX_ROWS)
    values = [row.values for row in table.rows]
    for row in values:
        assert isinstance(row, WrongCellCount) or _is_row(row)
    assert validate(values).total == validate(values, strict=True).total == len(values)


def _is_row(row: Mapping[str, str]) -> bool:
    return all(row.values()) and sum("has no name" not in name for name in row) <= MAX_COLUMNS


files = st.builds(lambda table, dialect: dialect.write(*table), tables(), dialects)


@examples(70)
@given(mutated(files))
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbf")
@example(b'"')
@example(b"\xff\xfe\x00\xd8")
@example(b"account_id,board_id,title,idempotency_key\n\x00,\x00,\x00,\x00")
@example(b"account_id,board_id,title,idempotency_key\r\r\r" + b"x" * 2_000_000)
def test_a_damaged_file_is_read_or_refused(data: bytes) -> None:
    check_read_or_refused(data)


@examples(40)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    check_read_or_refused(data)
    check_read_or_refused(b"account_id,board_id,title,idempotency_key,image_url\n" + data)
