"""A CSV as each program writes it gives every value exactly."""

import csv
import io

from hypothesis import example, given
from hypothesis import strategies as st

from shared.spreadsheets.encoding import GUESSED_ENCODING
from shared.spreadsheets.table import read_csv
from tests.property.documents import FIELDS, REQUIRED
from tests.property.profiles import examples
from tests.property.spreadsheets import (
    EXCEL_ANSI,
    PROGRAMS,
    Program,
    select,
    tables,
    western_texts,
)


@examples(120)
@given(st.sampled_from(PROGRAMS), tables)
def test_every_value_is_read_exactly_from_the_file_of_each_program(
    program: Program, table: tuple[list[str], list[dict[str, str]]]
) -> None:
    names, rows = table[0], select(*table)
    read = read_csv(program.write(names, rows))
    assert [row.values for row in read.rows] == rows
    assert read.row_count == len(rows)
    codes = [warning.code for warning in read.warnings]
    assert codes == (["unnamed_column"] if program.has_index else [])


@examples(60)
@given(st.sampled_from(EXCEL_ANSI), tables, st.lists(western_texts, min_size=1, max_size=4))
def test_western_text_is_read_exactly_from_the_ansi_file_of_excel(
    program: Program, table: tuple[list[str], list[dict[str, str]]], texts: list[str]
) -> None:
    ascii_rows = [
        {name: value.encode("ascii", "replace").decode() for name, value in row.items()}
        for row in table[1]
    ]
    rows = select(
        table[0],
        [row | {"title": text} for row, text in zip(ascii_rows, texts, strict=False)],
    )
    read = read_csv(program.write(table[0], rows))
    assert [row.values for row in read.rows] == rows
    is_ascii = all("".join(row.values()).isascii() for row in rows)
    assert read.warnings == ([] if is_ascii else [GUESSED_ENCODING])


@examples(60)
@given(
    st.sampled_from(EXCEL_ANSI),
    tables,
    st.sampled_from(["cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp932", "gb18030"]),
)
def test_any_text_is_read_exactly_in_the_encoding_that_is_declared(
    program: Program, table: tuple[list[str], list[dict[str, str]]], encoding: str
) -> None:
    def keep(text: str) -> str:
        return text.encode(encoding, errors="replace").decode(encoding)

    names, rows = table[0], select(*table)
    rows = select(names, [{name: keep(value) for name, value in row.items()} for row in rows])
    data = program._replace(encoding=encoding).write(names, rows)
    read = read_csv(data, encoding=encoding)
    assert [row.values for row in read.rows] == rows


@examples(40)
@given(tables, st.sampled_from(["\n", "\r\n"]), st.sampled_from(",;\t|"))
@example((list(FIELDS), [dict.fromkeys(REQUIRED, '"')]), "\n", ",")
def test_the_rows_of_pythons_own_writer_are_read_exactly_with_their_lines(
    table: tuple[list[str], list[dict[str, str]]], newline: str, delimiter: str
) -> None:
    # Python before 3.13 does not quote a lone carriage return
    rows = [{name: value.replace("\r", "\n") for name, value in row.items()} for row in table[1]]
    names, rows = table[0], select(table[0], rows)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, delimiter=delimiter, lineterminator=newline)
    writer.writeheader()
    lines = []
    for row in rows:
        lines.append(len(io.StringIO(buffer.getvalue(), newline="").readlines()) + 1)
        writer.writerow(row)
    read = read_csv(buffer.getvalue().encode())
    assert [(row.line, row.values) for row in read.rows] == list(zip(lines, rows, strict=True))
