"""Warns about rows of one file that share an idempotency key, but differ in content."""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from shared.contract.events import Notice
from shared.contract.pins import make_printable

SHARED_KEYS = "duplicate_keys"
"""The code of the warning."""
MAX_LISTED_KEYS = 20
MAX_LISTED_ROWS = 10
MAX_SHOWN_KEY = 50
_SCIENTIFIC_NOTATION = re.compile(r"\d[.,]\d+E\+?\d+$", re.IGNORECASE).search


class KeyedContent(NamedTuple):
    """A row's idempotency key, and a value that is equal for equal contents."""

    row_number: int
    key: str
    content: object


def warn_of_shared_keys(rows: Iterable[KeyedContent]) -> list[Notice]:
    """Builds the warning, if rows share a key and differ."""
    by_key: dict[str, list[KeyedContent]] = defaultdict(list)
    for row in rows:
        by_key[row.key].append(row)
    differing = {
        key: same
        for key, same in by_key.items()
        if any(row.content != same[0].content for row in same)
    }
    if not differing:
        return []
    listed = "; ".join(
        f"{make_printable(key, MAX_SHOWN_KEY)} in rows {_list_numbers(same)}"
        for key, same in list(differing.items())[:MAX_LISTED_KEYS]
    )
    advice = (
        "A spreadsheet has shortened these numbers: format the column as text, enter the keys "
        "again and save the file again."
        if any(map(_SCIENTIFIC_NOTATION, differing))
        else "Give each pin its own idempotency_key."
    )
    message = (
        f"Rows share an idempotency_key but differ in content: {listed}. Only the first row of "
        f"each key is published. {advice}"
    )
    numbers = sorted(row.row_number for same in differing.values() for row in same)
    return [Notice(code=SHARED_KEYS, message=message, row_numbers=numbers)]


def _list_numbers(rows: Sequence[KeyedContent]) -> str:
    numbers = ", ".join(str(row.row_number) for row in rows[:MAX_LISTED_ROWS])
    return f"{numbers} …" if len(rows) > MAX_LISTED_ROWS else numbers
