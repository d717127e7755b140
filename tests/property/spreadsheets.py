"""Strategies for spreadsheets: rows, written as each program saves a table as CSV."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.property.documents import (
    FIELDS,
    REQUIRED,
    file_keys,
    file_texts,
    likely_instants,
    urls,
    valid_rows,
)


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
tables = st.tuples(
    columns, st.lists(valid_rows(keys=file_keys, texts=file_texts), min_size=1, max_size=4)
)
IMAGES = ("image_url", "asset_id")
importable_tables = st.tuples(
    columns.map(lambda names: [*names, *(name for name in IMAGES if name not in names)]),
    st.lists(
        valid_rows(
            keys=file_keys,
            texts=file_texts,
            urls=urls.map(lambda url: "".join(url.split())),
            instants=likely_instants,
        ),
        min_size=1,
        max_size=4,
    ),
)
"""Tables whose rows an import creates, if their accounts and boards exist."""


def select(names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns the rows with the file's columns, trimmed, and without blank values."""
    trimmed = [{name: row[name].strip() for name in names if name in row} for row in rows]
    return [{name: value for name, value in row.items() if value} for row in trimmed]
