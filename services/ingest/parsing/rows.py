"""Validates the rows of an import. A failed row lists its faults, at most 20.

An import is refused only for a fault of the whole document, never for the fault of a row.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import orjson
from pydantic import ValidationError

from services.ingest.parsing.fast_path import FALLBACK_ERRORS, validate_fast
from shared.contract.errors import ApiError, ErrorCode
from shared.contract.events import (
    MAX_KEY_LENGTH,
    MAX_ROW_FAULTS,
    MAX_ROWS,
    Fault,
    RowResult,
    RowStatus,
)
from shared.contract.pins import (
    PinSubmission,
    StrictPinSubmission,
    compute_fingerprint,
    describe_first_fault,
    make_printable,
    read_faults,
)
from shared.contract.wire import encode

MAX_FIELDS = len(PinSubmission.model_fields) + MAX_ROW_FAULTS
"""Number of a row's fields above which some unknown fields are dropped before strict validation."""


class WrongCellCount(NamedTuple):
    """A CSV row that has more or fewer cells than the header."""

    message: str


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


@dataclass(slots=True)
class ParsedRows:
    """The valid and failed rows of one import. Row numbers begin at 1. The lists never change."""

    valid: list[ValidRow] = field(default_factory=list)
    failed: list[RowResult] = field(default_factory=list)
    total: int = field(init=False)

    def __post_init__(self) -> None:
        self.total = len(self.valid) + len(self.failed)


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


def require_row_count(count: int) -> None:
    """Raises ApiError if an import can't have this number of rows."""
    if count == 0:
        raise ApiError(ErrorCode.EMPTY_IMPORT, "This import has no rows. Send at least one.")
    if count > MAX_ROWS:
        message = f"This import has {count} rows; the limit is {MAX_ROWS}. Split it."
        raise ApiError(ErrorCode.TOO_MANY_ROWS, message, limit=MAX_ROWS, count=count)


def validate(rows: Sequence[RawRow], *, strict: bool = False) -> ParsedRows:
    """Validates each row by the fast path. Falls back to the model for a row that does not pass."""
    valid: list[ValidRow] = []
    failed: list[RowResult] = []
    for number, row in enumerate(rows, 1):
        try:
            valid.append(ValidRow(number, *validate_fast(row, strict=strict)))
        except FALLBACK_ERRORS:
            outcome = _validate_with_model(number, row, strict=strict)
            if isinstance(outcome, ValidRow):
                valid.append(outcome)
            else:
                failed.append(outcome)
    return ParsedRows(valid, failed)


def fail_forbidden_accounts(parsed: ParsedRows, account_ids: Collection[UUID]) -> ParsedRows:
    """Fails valid rows whose account is not in `account_ids`.

    Runs after validation, which normalizes the spelling of ids. It is a separate pass because it
    costs 0.7 µs a row and nearly every API key may publish to all accounts.
    """
    permitted = {str(account_id) for account_id in account_ids}
    valid: list[ValidRow] = []
    failed = list(parsed.failed)
    for row in parsed.valid:
        pin = orjson.loads(row.content)
        if pin["account_id"] in permitted:
            valid.append(row)
        else:
            failed.append(
                _build_not_permitted_result(
                    row.row_number, pin["account_id"], pin["idempotency_key"]
                )
            )
    failed.sort(key=attrgetter("row_number"))
    return ParsedRows(valid, failed)


def _validate_with_model(number: int, row: RawRow, *, strict: bool) -> ValidRow | RowResult:
    if isinstance(row, WrongCellCount):
        fault = Fault(code="cell_count", field=None, message=row.message)
        return _build_failed_result(number, None, [fault])
    try:
        pin = (
            StrictPinSubmission.model_validate(_limit_unknown_fields(row))
            if strict
            else PinSubmission.model_validate(row)
        )
    except ValidationError as error:
        return _build_failed_result(number, row.get("idempotency_key"), read_faults(error))
    return ValidRow(number, encode(pin.to_content()), compute_fingerprint(pin).hex.encode())


def _limit_unknown_fields(row: dict[str, Any]) -> dict[str, Any]:
    """Keeps only as many unknown fields as a failed row reports.

    A row may have half a million. Each would become a fault of 1 kB and take 5 µs (measured).
    """
    if len(row) <= MAX_FIELDS:
        return row
    known = {name: value for name, value in row.items() if name in PinSubmission.model_fields}
    return known | dict(
        islice(((name, value) for name, value in row.items() if name not in known), MAX_ROW_FAULTS)
    )


def _build_not_permitted_result(number: int, account_id: str, key: str) -> RowResult:
    message = f"This API key may not publish to account {account_id}. Use a key that may."
    fault = Fault(
        code=ErrorCode.ACCOUNT_NOT_PERMITTED, field="account_id", message=message, value=account_id
    )
    return RowResult(
        row_number=number,
        status=RowStatus.FAILED,
        idempotency_key=make_printable(key, MAX_KEY_LENGTH),
        error_code=ErrorCode.ACCOUNT_NOT_PERMITTED,
        error_message=f"{fault.field}: {message}",
        errors=[fault],
    )


def _build_failed_result(number: int, key: object, faults: list[Fault]) -> RowResult:
    code, message = describe_first_fault(faults)
    return RowResult(
        row_number=number,
        status=RowStatus.FAILED,
        idempotency_key=make_printable(key.strip(), MAX_KEY_LENGTH)
        if isinstance(key, str)
        else None,
        error_code=code,
        error_message=message,
        errors=faults,
    )


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
