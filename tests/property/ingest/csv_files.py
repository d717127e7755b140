"""Generates CSV files in every dialect that the contract allows."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hypothesis import strategies as st

from tests.property.documents import FIELDS, REQUIRED, cells


class Dialect(NamedTuple):
    """The CSV dialect of a program, which writes `blank_lines` before the header and each row."""

    delimiter: str
    newline: str
    encoding: str
    quotes_all: bool
    ends_with_newline: bool
    blank_lines: tuple[str, ...]
    header_case: str
    header_space: str

    def write(self, names: Sequence[str], rows: Sequence[Mapping[str, str]]) -> bytes:
        header = [
            self.header_space + getattr(name, self.header_case)() + self.header_space
            for name in names
        ]
        lines = [
            self._line(header),
            *(self._line([row.get(name, "") for name in names]) for row in rows),
        ]
        spaced = [line for row in lines for line in (*self._build_blank_lines(len(names)), row)]
        text = self.newline.join(spaced) + (self.newline if self.ends_with_newline else "")
        return text.encode(self.encoding)

    def _build_blank_lines(self, width: int) -> list[str]:
        return [kind.replace("|", self.delimiter * (width - 1)) for kind in self.blank_lines]

    def _line(self, row: Sequence[str]) -> str:
        return self.delimiter.join(self._cell(cell) for cell in row)

    def _cell(self, cell: str) -> str:
        if self.quotes_all or any(sign in cell for sign in f'{self.delimiter}"\r\n'):
            return '"' + cell.replace('"', '""') + '"'
        return cell


dialects = st.builds(
    Dialect,
    delimiter=st.sampled_from(",;\t|"),
    newline=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    quotes_all=st.booleans(),
    ends_with_newline=st.booleans(),
    blank_lines=st.lists(st.sampled_from(["", "  ", "|"]), max_size=2).map(tuple),
    header_case=st.sampled_from(["lower", "upper", "title", "swapcase"]),
    header_space=st.sampled_from(["", " ", "\u00a0"]),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[dict[str, str]]]:
    """Generates columns in any order and rows with optional cells. No row is blank."""
    optional = draw(
        st.lists(st.sampled_from([name for name in FIELDS if name not in REQUIRED]), unique=True)
    )
    unknown = draw(
        st.lists(
            st.sampled_from(
                [
                    "price",
                    "höhe",
                    "a b",
                    "two lines",
                    "note, or not",
                    'said "so"',
                    "x;y",
                    "x|y",
                    "1",
                ]
            ),
            unique=True,
            max_size=3,
        )
    )
    names = draw(st.permutations([*REQUIRED, *optional, *unknown]))
    row = st.dictionaries(st.sampled_from(names), cells, min_size=1).filter(
        lambda row: bool("".join(row.values()).strip())
    )
    return names, draw(st.lists(row, min_size=1, max_size=5))
