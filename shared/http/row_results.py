"""The result of a row in answers: in a job, and in a dry run."""

from uuid import UUID

import msgspec
from msgspec.structs import replace

from shared.contract.events import (
    ExistingState,
    Fault,
    FieldDifference,
    RowResult,
    RowStatus,
)
from shared.contract.wire import encode
from shared.http.fields import DifferingFields, FailureCode, FailureMessage, PayloadMatches
from shared.http.models import ApiModel


class RowResultResponse(ApiModel):
    """The result of one row. It never changes."""

    row_number: int
    """Position of the row in the import, from 1. A CSV file's header is not counted."""
    status: RowStatus
    pin_id: UUID | None
    """The pin of the row's idempotency key. Null for a failed row, and for a schedule that is not
    published yet."""
    schedule_id: UUID | None
    """The schedule of the row's idempotency key. Null for a failed row, and for a pin that was
    published at once."""
    idempotency_key: str | None
    """The row's idempotency key. Null if it is missing or invalid."""
    error_code: FailureCode
    error_message: FailureMessage
    errors: list[Fault]
    """Every fault of a row that failed validation, at most 20. Otherwise empty. In a job, `value`
    is null for an API key that is limited to some accounts."""
    payload_matches: PayloadMatches
    line: int | None
    """The line of the CSV file in which the row begins, from 1. Null for JSON."""
    existing_state: ExistingState | None
    """For `existing`: the state of the pin that has the key. Otherwise null."""
    differing_fields: DifferingFields
    updated: bool | None
    """For `existing`: true if the pin took the row's content and time. Otherwise null."""


class FaultWithNulls(Fault, frozen=True, kw_only=True, omit_defaults=False):
    """A Fault that is encoded with nulls."""


class ResultWithNulls(RowResult, frozen=True, kw_only=True, omit_defaults=False):
    """A RowResult that is encoded with nulls, and always with a list of errors."""

    errors: list[FaultWithNulls] = msgspec.field(default_factory=list)  # type: ignore[assignment]


_DIFFERENCES = b'"differing_fields":['
_VALUE = b'"value":"'
_ACCOUNT = "account_id"
decode_results = msgspec.json.Decoder(list[ResultWithNulls]).decode
"""Decodes a JSON array of results. Encoded again, they have nulls."""


def hide_stored_values(results: bytes) -> bytes:
    """Removes what differing fields say of pins from a JSON array of results.

    A dry run shows a key that is limited to some accounts the faults of the rows that it sent. But
    the stored value is the content of a pin, which may belong to another account.
    """
    if _DIFFERENCES not in results:
        return results
    return encode([_hide_differences(result) for result in decode_results(results)])


def hide_values(results: bytes) -> bytes:
    """Removes the values of pins and of rejected fields from a JSON array of a job's results.

    A key that is limited to some accounts may read every job of its workspace. But these values are
    the content of pins and rows, which may belong to another account.
    """
    if _DIFFERENCES not in results and _VALUE not in results:
        return results
    return encode([hide_result_values(result) for result in decode_results(results)])


def hide_result_values(result: ResultWithNulls) -> ResultWithNulls:
    """Removes the values of one result's faults and differing fields.

    A failed row's result does not say which account the row named, so no value is shown.
    """
    faults = [replace(fault, value=None) for fault in result.errors]
    return replace(_hide_differences(result), errors=faults)


def _hide_differences(result: ResultWithNulls) -> ResultWithNulls:
    """Removes the values of the differing fields of one result, and names that tell too much.

    If the pin belongs to another account than the row's, only that is named. The other names would
    confirm a guess of the pin's board, time or texts: a dry run compares 500 of them.
    """
    if not result.differing_fields:
        return result
    names = [difference.field for difference in result.differing_fields]
    shown = [_ACCOUNT] if _ACCOUNT in names else names
    differences = [FieldDifference(field=name, stored=None, sent=None) for name in shown]
    return replace(result, differing_fields=differences)
