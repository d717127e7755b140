"""Builds the files results.csv and failed.csv from an upload and the results. No I/O."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from itertools import islice
from pathlib import PurePosixPath
from urllib.parse import quote
from uuid import UUID

import orjson

from services.status.uploads.model import UploadedRow, UploadedRows
from shared.contract.errors import ApiError, ErrorCode
from shared.contract.events import RowResult, RowStatus
from shared.contract.pins import PinSubmission, make_printable
from shared.spreadsheets.columns import MAX_COLUMNS, MAX_NAME_LENGTH, clean_name, find_field
from shared.spreadsheets.result_files import RowWithResult, write_results

MAX_STEM_LENGTH = 100
"""Characters of the upload's name that a file's name repeats."""
MAX_EXAMINED_NAMES = 2 * MAX_COLUMNS
MAX_NAME_CHARACTERS = 2 * MAX_NAME_LENGTH
"""Characters of a name that are compared, as in a header."""
_UNSAFE = re.compile(r"[^\w .-]+")
_NOT_ASCII = re.compile(r"[^A-Za-z0-9_.-]+")
_KNOWN = tuple(PinSubmission.model_fields)


def write_file(
    uploaded: UploadedRows, results: Mapping[int, RowResult], *, only_failed: bool
) -> Iterator[bytes]:
    """Writes the rows of an upload with their results, in chunks."""
    if uploaded.header is None:
        columns = _find_columns(uploaded.rows)
        header: Sequence[str] = list(columns.values())
    else:
        columns, header = {}, uploaded.header

    def build_rows() -> Iterator[RowWithResult]:
        for number, row in enumerate(uploaded.rows, 1):
            result = results.get(number)
            if only_failed and (result is None or result.status is not RowStatus.FAILED):
                continue
            cells = row.cells if uploaded.header is not None else _build_cells(row, columns)
            yield RowWithResult(cells, _build_result_cells(row, result))

    return write_results(header, uploaded.delimiter, build_rows())


def require_permitted(rows: Sequence[UploadedRow], account_ids: Collection[UUID] | None) -> None:
    """Raises ApiError (403) if a row may belong to an account that the API key may not use.

    A key that is limited to some accounts may read ids and errors of every import, but no content
    of other accounts. An account that is given by its name counts as another one.
    """
    if account_ids is None:
        return
    permitted = {str(account_id) for account_id in account_ids}
    for number, row in enumerate(rows, 1):
        account = row.fields.get("account_id") if isinstance(row.fields, dict) else None
        if not isinstance(account, str) or account.strip().lower() not in permitted:
            message = (
                f"Row {number} of this import does not name an account of your API key by its id. "
                "Use a key for all accounts, or give accounts by their ids in your next import."
            )
            raise ApiError(ErrorCode.ACCOUNT_NOT_PERMITTED, message, HTTPStatus.FORBIDDEN)


def build_disposition(filename: str | None, job_id: UUID, kind: str) -> str:
    """Builds the header Content-Disposition with a name from that of the upload (RFC 6266)."""
    stem = _UNSAFE.sub("_", PurePosixPath((filename or "").replace("\\", "/")).stem)
    stem = stem[:MAX_STEM_LENGTH].strip(" ._") or str(job_id)
    name = f"{stem}-{kind}.csv"
    ascii_name = _NOT_ASCII.sub("_", name)
    return f"attachment; filename=\"{ascii_name}\"; filename*=UTF-8''{quote(name)}"


def _find_columns(rows: Sequence[UploadedRow]) -> dict[str, str]:
    """Returns the columns of JSON rows, by field or unknown name: known fields come first.

    Unknown names beyond the limit of a file's columns are left out. Ingest ignores their values.
    """
    names: dict[str, str] = {}
    for row in rows:
        for name in _examine(row):
            if key := _identify(name):
                names.setdefault(key, name)
        if len(names) > MAX_COLUMNS:
            break
    known = {
        field: field
        for field in _KNOWN
        if field in names or any(field in row.fields for row in rows)
    }
    unknown = [(key, name) for key, name in names.items() if key not in known]
    return known | dict(unknown[: MAX_COLUMNS - len(known)])


def _examine(row: UploadedRow) -> Iterator[str]:
    """Yields the names of a row. A hostile row may have half a million."""
    return islice(row.fields, MAX_EXAMINED_NAMES)


def _identify(name: str) -> str:
    """Returns the field that a name stands for. Names that a header can't tell apart are one."""
    return _identify_cut(name[:MAX_NAME_CHARACTERS])


@lru_cache(maxsize=4096)
def _identify_cut(name: str) -> str:
    return find_field(name) or clean_name(name).casefold()


def _build_cells(row: UploadedRow, columns: Mapping[str, str]) -> list[str]:
    fields = row.fields if isinstance(row.fields, dict) else {}
    values = {key: fields[key] for key in columns if fields.get(key) is not None}
    for name in _examine(row):
        key = _identify(name)
        if key in columns and key not in values and fields[name] is not None:
            values[key] = fields[name]
    return [_build_cell(values.get(key)) for key in columns]


def _build_cell(value: object) -> str:
    """Returns a JSON value as the text of a cell. A list of texts becomes one text with commas."""
    match value:
        case None:
            return ""
        case str():
            return value
        case list() if all(isinstance(item, str) and "," not in item for item in value):
            return ", ".join(value)
        case int() if not isinstance(value, bool):
            return str(value)
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # nested too deeply, or half of a surrogate pair
        return _show(value)


def _show(value: object) -> str:
    try:
        return repr(value)
    except RecursionError:
        return make_printable(value)


def _build_result_cells(row: UploadedRow, result: RowResult | None) -> Sequence[str]:
    # The rows of a retry are stored as JSON, and their results have the lines of the first file
    number = row.line if row.line is not None or result is None else result.line
    line = "" if number is None else str(number)
    if result is None:
        return (line, "", "", "", "", "")
    return (
        line,
        result.status.value,
        str(result.pin_id or ""),
        str(result.schedule_id or ""),
        result.error_code or "",
        result.error_message or "",
    )
