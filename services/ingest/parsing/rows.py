"""Validates the rows of an import. A failed row lists its faults, at most 20.

An import is refused only for a fault of the whole document, never for the fault of a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import repeat
from typing import Any, NamedTuple

import msgspec

from services.ingest.parsing.fast_path import FALLBACK_ERRORS, validate_fast
from services.ingest.parsing.policy import ReadingPolicy
from shared.contract.errors import ApiError, ErrorCode
from shared.contract.events import MAX_ROWS, Notice, RowResult
from shared.spreadsheets.table import WrongCellCount

RawRow = dict[str, Any] | WrongCellCount


class ValidRow(msgspec.Struct, frozen=True, gc=False):
    """A valid row, already serialized as its event carries it.

    A msgspec struct, because the garbage collector would traverse NamedTuples.
    """

    row_number: int
    content: bytes
    """JSON of a PinContent, without null fields."""
    fingerprint: bytes
    """32 hexadecimal digits (shared.contract.pins.compute_fingerprint)."""
    key: str
    run_at: datetime | None
    line: int | None


class UnusualRow(NamedTuple):
    """A row that the fast path did not accept."""

    row_number: int
    line: int | None
    row: RawRow


@dataclass(slots=True)
class ParsedRows:
    """The valid and failed rows of one import. Row numbers begin at 1. The lists never change."""

    valid: list[ValidRow] = field(default_factory=list)
    failed: list[RowResult] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)
    publishing_now: int = 0
    """Valid rows that are published at once."""
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = len(self.valid) + len(self.failed)

    @property
    def scheduled_for_later(self) -> int:
        return len(self.valid) - self.publishing_now


def require_rows(document: object) -> list[RawRow]:
    """Returns the rows of an import's document. Raises ApiError if it is not 1 to 500 objects."""
    if not isinstance(document, list):
        raise ApiError(
            ErrorCode.INVALID_PAYLOAD,
            f"The rows are {_name_json_type(document)}. Send them as an array.",
        )
    require_row_count(len(document))
    for index, row in enumerate(document):
        if not isinstance(row, dict):
            raise ApiError(
                ErrorCode.INVALID_PAYLOAD,
                f"Row {index + 1} is {_name_json_type(row)}. Send each row as an object.",
                index=index,
            )
    return document


def require_row_count(count: int, *, has_header: bool = False) -> None:
    """Raises ApiError if an import can't have this number of rows."""
    if count == 0:
        message = (
            "The file has a header but no rows. Write at least one row below the header."
            if has_header
            else "This import has no rows. Send at least one."
        )
        raise ApiError(ErrorCode.EMPTY_IMPORT, message)
    if count > MAX_ROWS:
        message = f"This import has {count} rows; the limit is {MAX_ROWS}. Split it."
        raise ApiError(ErrorCode.TOO_MANY_ROWS, message, limit=MAX_ROWS, count=count)


def validate_usual_rows(
    rows: Sequence[RawRow], policy: ReadingPolicy, lines: Sequence[int] | None = None
) -> tuple[list[ValidRow], list[UnusualRow]]:
    """Validates each row by the fast path. Returns the valid rows and the others.

    `lines` are the rows' lines in a CSV file.
    """
    valid: list[ValidRow] = []
    unusual: list[UnusualRow] = []
    accepts_all = policy.permitted_accounts is None and not policy.fails_past_run_at
    for number, (row, line) in enumerate(zip(rows, lines or repeat(None), strict=False), 1):
        try:
            pin, content, fingerprint = validate_fast(row)
        except FALLBACK_ERRORS:
            unusual.append(UnusualRow(number, line, row))
            continue
        if accepts_all or policy.accepts(pin.account_id, pin.run_at):
            valid.append(
                ValidRow(number, content, fingerprint, pin.idempotency_key, pin.run_at, line)
            )
        else:
            unusual.append(UnusualRow(number, line, row))
    return valid, unusual


def _name_json_type(value: object) -> str:
    """Returns the name of a value's JSON type, with its article."""
    if value is None:
        return "null"
    names: dict[type, str] = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
    }
    return names.get(type(value), "a number")
