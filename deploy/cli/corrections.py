"""Parses the corrections that `pinflow imports retry --correct` names. Does no I/O."""

import re
from collections.abc import Iterable
from typing import Any

_CORRECTION = re.compile(r"(\d{1,9}):([^=]+)=(.*)", re.DOTALL)


def parse_corrections(texts: Iterable[str]) -> list[dict[str, Any]]:
    """Parses texts such as `3:title=Desk lamp` to the corrections of a retry, one for each row.

    An empty value removes the field. Raises ValueError.
    """
    rows: dict[int, dict[str, Any]] = {}
    for text in texts:
        parts = _CORRECTION.fullmatch(text)
        if parts is None:
            raise ValueError(f"{text!r} is not ROW:FIELD=VALUE, for example 3:title=Desk lamp")
        number, field, value = int(parts[1]), parts[2].strip(), parts[3]
        row = rows.setdefault(number, {"row_number": number})
        if field in row:
            raise ValueError(f"the field {field} of row {number} is corrected twice")
        row[field] = value or None
    return list(rows.values())
