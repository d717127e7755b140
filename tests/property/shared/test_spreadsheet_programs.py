"""A CSV as each program writes it gives every value exactly."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from shared.spreadsheets.encoding import GUESSED_ENCODING
from shared.spreadsheets.table import read_csv
from tests.property.documents import FIELDS, REQUIRED, valid_rows
from tests.property.profiles import examples


class Program(NamedTuple):
    """The form in which a program saves a table as CSV."""

    name: str
    delimiter: str = ","
    newline: str = "\n"
    encoding: str = "utf-8"
    quotes_text: bool = False
    """Quotes every cell but empty ones."""
    ends_with_newline: bool = True
    empty_columns: int = 0
    """Columns without name and content that it writes behind the others."""
    has_index: bool = False
    """Writes a first column with the row's number and without a name."""
    drops_empty_cells: bool = False
    """Writes no cells behind the last value of a row."""

    def write(self, names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> bytes:
        table = [list(names), *([row.get(name, "") for name in names] for row in rows)]
        lines = [self._write_line(number, cells) for number, cells in enumerate(table)]
        end = self.newline if self.ends_with_newline else ""
        return (self.newline.join(lines) + end).encode(self.encoding)

    def _write_line(self, number: int, cells: list[str]) -> str:
        cells = [*cells, *[""] * self.empty_columns]
        if self.has_index:
            cells = [str(number - 1) if number else "", *cells]
        while self.drops_empty_cells and number and not cells[-1]:
            cells.pop()
        return self.delimiter.join(map(self._quote, cells))

    def _quote(self, cell: str) -> str:
        if (self.quotes_text and cell) or any(sign in cell for sign in f'{self.delimiter}"\r\n'):
            return '"' + cell.replace('"', '""') + '"'
        return cell


EXCEL_ANSI = [
    Program(f"Excel: CSV, {delimiter}", delimiter, "\r\n", "cp1252") for delimiter in ",;"
]
PROGRAMS = [
    Program("Excel: CSV UTF-8", ",", "\r\n", "utf-8-sig"),
    Program("Excel: CSV UTF-8 in a country with decimal commas", ";", "\r\n", "utf-8-sig"),
    Program("Excel: Unicode text", "\t", "\r\n", "utf-16"),
    Program("Excel: a table with formatted empty columns", ";", "\r\n", empty_columns=3),
    Program("LibreOffice: text is quoted", quotes_text=True),
    Program("LibreOffice: tabs", "\t"),
    Program("Google Sheets", newline="\r\n", ends_with_newline=False),
    Program("Google Sheets: tabs", "\t", "\r\n", ends_with_newline=False),
    Program("Numbers", ";", drops_empty_cells=True),
    Program("pandas"),
    Program("pandas: with index", has_index=True),
    Program("pandas: sep", "|"),
    Program("pandas: on Windows, utf-8-sig", newline="\r\n", encoding="utf-8-sig"),
    Program("pandas: utf-16", "\t", encoding="utf-16"),
    Program("an old program for the Mac", newline="\r"),
]

WESTERN_TEXT = (
    "Größe Küche weiß Öl café crème brûlée forêt garçon œuvre niño diseño clásico ação verão "
    "coleção però città più ideeën één blåbær rødgrød smörgås höst yöpöytä það góðan d’été 19 € "
    '– „Lampe“ “oak” «mot» ¿Qué? ¡sí! 25 °C m² ½ ™ ® … shelf, oak; a|b\tc "q" line\nbreak = @x'
)
western_texts = st.lists(st.sampled_from(WESTERN_TEXT.split(" ")), min_size=1, max_size=8).map(
    " ".join
)
columns = st.permutations(FIELDS).flatmap(
    lambda names: st.sets(st.sampled_from([name for name in names if name not in REQUIRED])).map(
        lambda left_out: [name for name in names if name not in left_out]
    )
)
tables = st.tuples(columns, st.lists(valid_rows(), min_size=1, max_size=4))


def select(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns the rows with the file's columns, trimmed, and without blank values."""
    trimmed = [{name: row[name].strip() for name in names if name in row} for row in rows]
    return [{name: value for name, value in row.items() if value} for row in trimmed]


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
