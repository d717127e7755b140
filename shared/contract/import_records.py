"""Recognizes the kinds of records on the topic `imports` by their first bytes.

An import is one record batch, so publisher and status read the same topic. Each skips the records
of the other. Every value begins with JSON whose first field is the kind, for example
`{"kind":"r",`, so a reader needs only the first bytes to decide. A header or a prefix byte is no
faster (docs/explanation/performance-history.md).
"""

from shared.contract.events import RecordKind

_PREFIX_START = b'{"kind":"'
_STATUS_KINDS = (RecordKind.IMPORT, RecordKind.RESULTS, RecordKind.UPLOAD)


def kind_prefix(kind: RecordKind) -> bytes:
    """Returns the first bytes of every value of this kind."""
    return _PREFIX_START + kind.encode() + b'"'


_STATUS_PREFIXES = tuple(kind_prefix(kind) for kind in _STATUS_KINDS)
_IMPORT_PREFIX = kind_prefix(RecordKind.IMPORT)
_ROW_PREFIX = kind_prefix(RecordKind.ROW)
_UPLOAD_PREFIX = kind_prefix(RecordKind.UPLOAD)
_BATCH_RECORDS = b'"batch_records":'


def is_for_status(value: bytes | None) -> bool:
    """Returns whether status reads the record: an import, results of failed rows, an upload."""
    return value is not None and value.startswith(_STATUS_PREFIXES)


def is_for_publisher(value: bytes | None) -> bool:
    """Returns whether the publisher reads the record: every record that status does not read.

    So each record has exactly one reader, and a record of an unknown kind becomes one dead letter.
    """
    return value is None or not value.startswith(_STATUS_PREFIXES)


def is_row(value: bytes | None) -> bool:
    """Returns whether the value claims to be a RowAccepted."""
    return value is not None and value.startswith(_ROW_PREFIX)


def is_import(value: bytes) -> bool:
    """Returns whether the value is an ImportAccepted or an ImportRejected."""
    return value.startswith(_IMPORT_PREFIX)


def is_upload(value: bytes) -> bool:
    """Returns whether the value is a FileUploaded."""
    return value.startswith(_UPLOAD_PREFIX)


def is_whole_import(first: bytes | None, count: int) -> bool:
    """Returns whether a batch of `count` records that begins with the value `first` is one import.

    The rows of such a batch come last (services/ingest/records.py). MirrorMaker may put several
    imports into one batch; then the count differs.
    """
    if first is None or not first.startswith(_IMPORT_PREFIX):
        return False
    _, separator, rest = first.partition(_BATCH_RECORDS)
    digits = rest[: rest.find(b",")] if separator else b""
    return digits.isdigit() and int(digits) == count
