"""Reads the records of an import's batch by kind."""

from collections.abc import Iterable

from services.ingest.records import ImportBatch
from shared.contract.events import (
    ImportAccepted,
    ImportRejected,
    RecordKind,
    RowAccepted,
    RowsSettled,
    decode_import,
)
from shared.contract.import_records import kind_prefix
from tests.support.events import parse_event


def select_values(values: Iterable[bytes | None], kind: RecordKind) -> list[bytes]:
    """Returns the values of one kind, in order."""
    return [value for value in values if value and value.startswith(kind_prefix(kind))]


def read_values(batch: ImportBatch, kind: RecordKind) -> list[bytes]:
    """Returns the batch's values of one kind, in order."""
    return select_values((record.value for record in batch.records), kind)


def read_import(batch: ImportBatch) -> ImportAccepted | ImportRejected:
    """Returns the event of the accepted or rejected import."""
    (value,) = read_values(batch, RecordKind.IMPORT)
    return decode_import(value)


def read_rows(batch: ImportBatch) -> list[RowAccepted]:
    """Returns the valid rows."""
    return [parse_event(RowAccepted, value) for value in read_values(batch, RecordKind.ROW)]


def read_results(batch: ImportBatch) -> RowsSettled | None:
    """Returns the results of rows that failed validation; None if all are valid."""
    values = read_values(batch, RecordKind.RESULTS)
    return parse_event(RowsSettled, values[0]) if values else None
