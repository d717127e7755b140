"""Parses the corrections of a retry, and applies them to the failed rows. No I/O."""

import json
from collections.abc import Mapping
from hashlib import blake2b
from itertools import islice
from typing import Any

from services.status.uploads.model import UploadedRow
from shared.contract.errors import ErrorCode
from shared.contract.events import MAX_ROW_FAULTS, Fault, RowResult, RowStatus
from shared.contract.field_names import describe_misspelling, find_alias, suggest_field
from shared.contract.pins import PinSubmission, make_printable
from shared.contract.strict_json import build_too_deep
from shared.http.requests import require_object, validation_error
from shared.spreadsheets.columns import find_field
from shared.spreadsheets.table import WrongCellCount

Corrections = Mapping[int, Mapping[str, Any]]
"""The new values of rows, by row number and field."""

CORRECTABLE_FIELDS = tuple(PinSubmission.model_fields)
MAX_EXAMINED_NAMES = 500
"""Names of one row that are compared with a corrected field. A hostile row may have half a million.
"""


class _Faults:
    """Collects the first faults of a body."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, code: str, field: str, message: str, value: object = None) -> None:
        if len(self._faults) < MAX_ROW_FAULTS:
            shown = None if value is None else make_printable(value)
            fault = Fault(code=code, field=make_printable(field), message=message, value=shown)
            self._faults.append(fault)

    def raise_if_any(self) -> None:
        """Raises ApiError (422) if there are faults."""
        if self._faults:
            raise validation_error(self._faults)


def parse_corrections(document: object) -> dict[int, dict[str, Any]]:
    """Parses the body of a retry. Returns the corrections by row number, in row order.

    Raises ApiError (422) that names each faulty correction, at most 20.
    """
    if document is None:
        return {}
    body = require_object(document)
    faults = _Faults()
    for name in body:
        if name != "corrections":
            faults.add(ErrorCode.UNKNOWN_FIELD, name, 'There is no such field. Send "corrections".')
    items = [] if body.get("corrections") is None else body["corrections"]
    if not isinstance(items, list):
        faults.add("list_type", "corrections", "Must be a list of objects.")
        items = []
    corrections: dict[int, dict[str, Any]] = {}
    for index, item in enumerate(items):
        place = f"corrections.{index}"
        if (number := _read_row_number(item, place, faults)) is None:
            continue
        if number in corrections:
            message = f"Row {number} has two corrections. Send one with all fields."
            faults.add("duplicate_row", f"{place}.row_number", message)
        corrections[number] = _read_fields(item, place, faults)
    faults.raise_if_any()
    return dict(sorted(corrections.items()))


def require_failed_rows(
    corrections: Corrections, results: Mapping[int, RowResult], total_rows: int
) -> None:
    """Raises ApiError (422) that names each correction of a row that did not fail."""
    faults = _Faults()
    for number in corrections:
        result = results.get(number)
        if result is None:
            message = f"This import has no row {number}. Its rows are 1 to {total_rows}."
            faults.add("unknown_row", "corrections", message, number)
        elif result.status is not RowStatus.FAILED:
            message = f"Row {number} did not fail: it is {result.status.value}."
            faults.add("row_not_failed", "corrections", message, number)
    faults.raise_if_any()


def compute_digest(corrections: Corrections) -> str:
    """Returns 32 hexadecimal digits that are equal for equal corrections, in any order.

    Raises ApiError if a value is nested too deeply.
    """
    values = {str(number): corrections[number] for number in corrections}
    try:
        text = json.dumps(values, sort_keys=True)
    except RecursionError:
        raise build_too_deep() from None
    return blake2b(text.encode(), digest_size=16).hexdigest()


def build_fields(row: UploadedRow, correction: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a row with its corrections. A field that is null is removed.

    A row whose number of cells is wrong has no fields of its own: which cell belongs to which
    column is unknown. A corrected field also replaces the same field under another name.
    """
    sent = {} if isinstance(row.fields, WrongCellCount) else row.fields
    if not correction:
        return dict(sent)
    replaced = set(correction)
    kept = {
        name: value
        for index, (name, value) in enumerate(sent.items())
        if name not in replaced
        and (
            name in CORRECTABLE_FIELDS
            or index >= MAX_EXAMINED_NAMES
            or _find_meaning(name) not in replaced
        )
    }
    return kept | {name: value for name, value in correction.items() if value is not None}


def _read_row_number(item: Any, place: str, faults: _Faults) -> int | None:
    if not isinstance(item, dict):
        faults.add("dict_type", place, "Must be an object with row_number and fields.")
        return None
    number = item.get("row_number")
    if isinstance(number, bool) or not isinstance(number, int):
        faults.add("int_type", f"{place}.row_number", "Must be the number of a failed row.")
        return None
    return number


def _read_fields(item: dict[str, Any], place: str, faults: _Faults) -> dict[str, Any]:
    fields = {name: value for name, value in item.items() if name != "row_number"}
    for name in islice(fields, MAX_EXAMINED_NAMES):
        if name not in CORRECTABLE_FIELDS:
            faults.add(ErrorCode.UNKNOWN_FIELD, f"{place}.{name}", _describe_unknown(name))
    if not fields:
        faults.add("missing", place, "Names no field of the row. Send at least one.")
    return fields


def _find_meaning(name: str) -> str | None:
    return find_field(name) or suggest_field(name, CORRECTABLE_FIELDS)


def _describe_unknown(name: str) -> str:
    field = find_alias(name) or suggest_field(name, (*CORRECTABLE_FIELDS, "row_number"))
    return describe_misspelling(field) if field else "There is no such field. Remove it."
