"""Finds the delimiter of a CSV file and where its header begins."""

import csv
import io
import re
from typing import NamedTuple

from shared.contract.pins import make_printable
from shared.spreadsheets.columns import find_field
from shared.spreadsheets.refusals import count_line_breaks, invalid_csv

DELIMITERS = ",;\t|"
MAX_DETECTION_CHARACTERS = 20_000
"""Characters at the beginning of the header from which the delimiter is detected."""
BLANK_LINES = re.compile(r"[\s,;|]*")
_SEP_LINE = re.compile(
    r'\s*"?sep=(?P<delimiter>[^\r\n"]?)"?[,;|\t ]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE
)
"""The first line that Excel reads as the file's delimiter."""


class Beginning(NamedTuple):
    """The position of the header in the text, and the delimiter."""

    position: int
    lines_before: int
    delimiter: str


def find_beginning(text: str) -> Beginning:
    """Finds the first line that is not blank, after a line such as `sep=;`.

    Raises ApiError if that line names a character that can't be a delimiter.
    """
    named = _SEP_LINE.match(text)
    delimiter = named["delimiter"] if named else None
    if delimiter is not None and delimiter not in tuple(DELIMITERS):
        raise invalid_csv(
            f'The line "sep={make_printable(delimiter)}" names a delimiter that Pinflow does '
            "not read. Use a comma, a semicolon, a tab or a vertical bar.",
            line=1,
        )
    position = _skip_blank_lines(text, named.end() if named else 0)
    return Beginning(
        position,
        count_line_breaks(text, position),
        delimiter or _detect_delimiter(text[position : position + MAX_DETECTION_CHARACTERS]),
    )


def _skip_blank_lines(text: str, position: int) -> int:
    blank = BLANK_LINES.match(text, position)
    end = blank.end() if blank else position
    return max(text.rfind("\n", position, end), text.rfind("\r", position, end), position - 1) + 1


def _detect_delimiter(beginning: str) -> str:
    """Returns the delimiter that gives the header the most known names.

    If two give the same number, the one with more cells, and then the comma. `beginning` is more
    than a line, because a quoted name may have line breaks.
    """
    best, best_count = DELIMITERS[0], (-1, 0)
    for delimiter in DELIMITERS:
        reader = csv.reader(io.StringIO(beginning, newline=""), delimiter=delimiter)
        header = next(reader, [])
        known = sum(find_field(cell) is not None for cell in header)
        if known == len(header) > 1:
            return delimiter
        if (known, len(header)) > best_count:
            best, best_count = delimiter, (known, len(header))
    return best
