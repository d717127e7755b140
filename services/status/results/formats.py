"""The formats of a page of results: JSON, CSV and newline-delimited JSON. No I/O."""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from http import HTTPStatus

from shared.contract.errors import ApiError, ErrorCode
from shared.contract.wire import encode
from shared.http.accept import find_quality, parse_accept
from shared.http.row_results import ResultWithNulls
from shared.spreadsheets.result_files import protect


class ResultFormat(StrEnum):
    """The media types of a page, the default first."""

    JSON = "application/json"
    CSV = "text/csv"
    NDJSON = "application/x-ndjson"


CSV_COLUMNS = (
    "row_number",
    "line",
    "status",
    "pin_id",
    "schedule_id",
    "idempotency_key",
    "error_code",
    "error_message",
    "payload_matches",
    "existing_state",
    "differing_fields",
    "updated",
)
"""The columns of a page as CSV: the fields of a result except for the list of its faults."""


def choose_format(accept: Iterable[str]) -> ResultFormat:
    """Chooses the format by the headers Accept (RFC 9110). Without one, it is JSON.

    Raises ApiError (406) if they allow none of the formats.
    """
    ranges = parse_accept(accept)
    if not ranges:
        return ResultFormat.JSON
    qualities = {offer: find_quality(offer, ranges) for offer in ResultFormat}
    best = max(ResultFormat, key=qualities.__getitem__)  # the first one, if several are equal
    if not qualities[best]:
        message = (
            "The results have no format that the header Accept allows. Send one of: "
            f"{', '.join(ResultFormat)}."
        )
        raise ApiError(ErrorCode.NOT_ACCEPTABLE, message, HTTPStatus.NOT_ACCEPTABLE)
    return best


def write_page(results: Sequence[ResultWithNulls], format_: ResultFormat) -> bytes:
    """Writes the results in a format."""
    return _WRITERS[format_](results)


def _write_lines(results: Sequence[ResultWithNulls]) -> bytes:
    return b"".join(encode(result) + b"\n" for result in results)


def _write_csv(results: Sequence[ResultWithNulls]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(CSV_COLUMNS)
    for result in results:
        differing = [difference.field for difference in result.differing_fields or ()]
        values = [
            ", ".join(differing) if name == "differing_fields" else getattr(result, name)
            for name in CSV_COLUMNS
        ]
        writer.writerow([protect(_build_cell(value)) for value in values])
    return buffer.getvalue().encode()


def _build_cell(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


_WRITERS: dict[ResultFormat, Callable[[Sequence[ResultWithNulls]], bytes]] = {
    ResultFormat.JSON: encode,
    ResultFormat.CSV: _write_csv,
    ResultFormat.NDJSON: _write_lines,
}
