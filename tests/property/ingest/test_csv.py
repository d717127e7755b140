"""A CSV of any dialect is read back. Any other bytes become rows or a refusal."""

from collections.abc import Mapping, Sequence

from hypothesis import assume, example, given
from hypothesis import strategies as st

from services.ingest.parsing.csv import GUESSED_ENCODING, MAX_COLUMNS, parse_csv
from services.ingest.parsing.rows import WrongCellCount
from shared.contract.errors import ApiError
from shared.contract.events import MAX_ROWS
from tests.property.api_errors import check_error
from tests.property.documents import FIELDS, mutated, valid_rows
from tests.property.ingest.csv_files import Dialect, dialects, tables
from tests.property.profiles import examples
from tests.support.imports import validate

REFUSALS = {
    "empty_file",
    "empty_import",
    "missing_columns",
    "duplicate_columns",
    "invalid_encoding",
    "invalid_csv",
    "too_many_rows",
}
"""The error codes of an invalid file."""


@examples(70)
@given(tables(), dialects)
def test_a_csv_of_any_dialect_is_read_back(
    table: tuple[list[str], list[dict[str, str]]], dialect: Dialect
) -> None:
    names, rows = table
    assert parse_csv(dialect.write(names, rows)).rows == rows


@examples(40)
@given(tables(), dialects)
def test_a_windows_1252_file_is_read_with_a_warning(
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
    assume(not _is_utf_8(data) and not data.startswith((b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf")))
    parsed = parse_csv(data)
    assert parsed.rows == rows
    assert GUESSED_ENCODING in parsed.warnings


@examples(40)
@given(st.lists(valid_rows(), min_size=1, max_size=3), dialects, st.permutations(FIELDS))
def test_a_csv_and_a_json_of_the_same_rows_are_the_same_import(
    rows: list[dict[str, str]], dialect: Dialect, names: Sequence[str]
) -> None:
    as_csv, as_json = validate(parse_csv(dialect.write(names, rows)).rows), validate(rows)
    assert as_csv == as_json


def check_read_or_refused(data: bytes) -> None:
    """Fails unless the file is read as a valid table or refused with a documented code."""
    try:
        table = parse_csv(data)
    except ApiError as refusal:
        check_error(refusal, REFUSALS)
        return
    assert 1 <= len(table.rows) <= MAX_ROWS
    for row in table.rows:
        assert isinstance(row, WrongCellCount) or _is_row(row)
    assert validate(table.rows).total == validate(table.rows, strict=True).total == len(table.rows)


def _is_row(row: Mapping[str, str]) -> bool:
    # Columns without a name share one more key
    return len(row) <= MAX_COLUMNS + 1 and all(row.values())


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


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
