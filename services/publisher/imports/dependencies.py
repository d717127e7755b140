"""The services and limits that the internal routes of imports use."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends

from services.publisher.imports.check import RowChecker
from services.publisher.imports.commands import ImportCommands
from shared.contract.events import MAX_ROWS
from shared.contract.import_limits import (
    CSV_GROWTH,
    JSON_GROWTH,
    MAX_IMPORT_BODY_BYTES,
    MAX_REQUEST_BYTES,
    ROW_OVERHEAD,
)
from shared.http.bodies import BodyReader
from shared.http.dependencies import typed_dependencies
from shared.http.json_reader import JsonReader
from shared.http.write_limit import WriteLimit

MAX_ROWS_BYTES = (
    max(CSV_GROWTH * MAX_IMPORT_BODY_BYTES, JSON_GROWTH * MAX_REQUEST_BYTES)
    + MAX_ROWS * ROW_OVERHEAD
)
"""Size of the rows of the largest import as JSON: 16 MiB."""


def build_reader(body_seconds: float, writes: WriteLimit) -> JsonReader:
    """Builds the reader of all bodies. One of the largest is read at a time, and many usual ones.

    `writes` limits the requests that are processed at once.
    """
    bodies = BodyReader(
        limit_bytes=MAX_ROWS_BYTES,
        timeout_seconds=body_seconds,
        total_bytes=2 * MAX_ROWS_BYTES,
    )
    return JsonReader(bodies, writes)


@dataclass(frozen=True, slots=True)
class ImportDependencies:
    """The objects that create_app builds for the internal routes of imports."""

    commands: ImportCommands
    checker: RowChecker
    reader: JsonReader


STATE_ATTRIBUTE = "import_dependencies"
"""The attribute of the application's state that has the ImportDependencies."""
Imports = Annotated[
    ImportDependencies, Depends(typed_dependencies(ImportDependencies, STATE_ATTRIBUTE))
]
