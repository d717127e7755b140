"""Reads a stored upload as ingest has read it. No I/O."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import cramjam

from services.status.uploads.model import StoredUpload, UploadedRow, UploadedRows
from shared.contract.events import REQUEST_PARAMETERS, OnExisting, UploadFormat, UploadParameters
from shared.contract.strict_json import parse_json
from shared.spreadsheets.result_files import restore
from shared.spreadsheets.table import read_csv

_DEFAULTS = UploadParameters()


def read_upload(upload: StoredUpload) -> UploadedRows:
    """Reads the rows of an upload. It was accepted, so it can be read again.

    Raises ApiError only for a file that an earlier version has read differently.
    """
    data = bytes(cramjam.zstd.decompress(upload.content))
    if upload.format is UploadFormat.CSV:
        return _read_csv(data, upload.parameters)
    document = parse_json(data)
    if upload.format is UploadFormat.REQUEST:
        parameters = upload.parameters or _read_parameters(document)
        return UploadedRows(_build_rows(document["rows"]), parameters)
    return UploadedRows(_build_rows(document), upload.parameters or _DEFAULTS)


def _read_csv(data: bytes, parameters: UploadParameters | None) -> UploadedRows:
    used = parameters or _DEFAULTS
    # Without the parameters, the import may have named one account for all rows
    has_account = parameters is None or parameters.account is not None
    table = read_csv(
        data,
        encoding=used.encoding,
        keep_unknown=used.strict,
        optional=("account_id",) if has_account else (),
    )
    header, results = table.header, table.header.result_columns
    own_cells: Callable[[Sequence[str]], Sequence[str]] = (
        (lambda cells: _drop_results(cells, results)) if results else (lambda cells: cells)
    )
    rows = [UploadedRow(row.line, row.values, own_cells(row.cells)) for row in table.rows]
    return UploadedRows(rows, used, own_cells(header.cells), header.delimiter)


def _drop_results(cells: Sequence[str], results: Collection[int]) -> list[str]:
    """Returns the cells of the original upload: this one is a file with results itself."""
    return [restore(cell) for index, cell in enumerate(cells) if index not in results]


def _build_rows(rows: list[dict[str, Any]]) -> list[UploadedRow]:
    return [UploadedRow(None, row, ()) for row in rows]


def _read_parameters(document: dict[str, Any]) -> UploadParameters:
    """Reads the parameters of a request by topic. Ingest has validated them."""
    values = {name: document[name] for name in REQUEST_PARAMETERS if document.get(name) is not None}
    values["on_existing"] = OnExisting(document.get("on_existing") or OnExisting.REPORT)
    return UploadParameters(**values)
