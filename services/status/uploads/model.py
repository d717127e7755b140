"""The types of an upload that SQL and rules share. No I/O."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from shared.contract.events import UploadFormat, UploadParameters
from shared.spreadsheets.table import WrongCellCount


class StoredUpload(NamedTuple):
    """The file or body of an import, as it is stored."""

    format: UploadFormat
    content: bytes
    """Compressed with zstd."""
    parameters: UploadParameters | None
    """The parameters of the import. None if an earlier version stored the upload, and for a request
    by topic, whose document has them.
    """


class UploadedRow(NamedTuple):
    """A row of an upload."""

    line: int | None
    """The row's line in a CSV file."""
    fields: dict[str, Any] | WrongCellCount
    """The row's values by name, as ingest reads them."""
    cells: Sequence[str]
    """The row's cells in a CSV file, without those of result columns. Empty for JSON."""


class UploadedRows(NamedTuple):
    """The rows of an upload, and its form."""

    rows: Sequence[UploadedRow]
    parameters: UploadParameters
    header: Sequence[str] | None = None
    """The header of a CSV file, without result columns. None for JSON."""
    delimiter: str = ","
