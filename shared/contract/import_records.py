"""Tells the records of the topic `imports` apart.

An import is one record batch, so publisher and status read the same topic and each skips what the
other owns. Every value is JSON that begins with its kind, `{"kind":"r",`: the first bytes tell a
reader whether the record is its own. A header or a prefix byte is no quicker
(docs/explanation/performance.md).
"""

from shared.contract.events import RecordKind

_OPENING = b'{"kind":"'
_STATUS_KINDS = (RecordKind.IMPORT, RecordKind.RESULTS, RecordKind.UPLOAD)


def kind_prefix(kind: RecordKind) -> bytes:
    """Returns the first bytes of every value of this kind."""
    return _OPENING + kind.encode() + b'"'


_OF_STATUS = tuple(kind_prefix(kind) for kind in _STATUS_KINDS)
_OF_IMPORT = kind_prefix(RecordKind.IMPORT)
_OF_ROW = kind_prefix(RecordKind.ROW)
_OF_UPLOAD = kind_prefix(RecordKind.UPLOAD)
_BATCH_RECORDS = b'"batch_records":'


def is_for_status(value: bytes | None) -> bool:
    """Tells whether status owns the record: an import, results of failed rows, an upload."""
    return value is not None and value.startswith(_OF_STATUS)


def is_for_publisher(value: bytes | None) -> bool:
    """Tells whether the publisher owns the record: a row, or a record of no kind that status owns.

    So every record has exactly one owner, and one of an unknown kind becomes one dead letter.
    """
    return value is None or not value.startswith(_OF_STATUS)


def is_row(value: bytes | None) -> bool:
    """Tells whether the value says that it is a RowAccepted."""
    return value is not None and value.startswith(_OF_ROW)


def is_import(value: bytes) -> bool:
    """Tells whether the value is an ImportAccepted or an ImportRejected."""
    return value.startswith(_OF_IMPORT)


def is_upload(value: bytes) -> bool:
    """Tells whether the value is a FileUploaded."""
    return value.startswith(_OF_UPLOAD)


def is_whole_import(first: bytes | None, count: int) -> bool:
    """Tells whether a batch of `count` records, beginning with the value `first`, is one import.

    Then its rows come last (services/ingest/records.py). A cluster that mirrors topics may put
    several imports into one batch: there the count differs.
    """
    if first is None or not first.startswith(_OF_IMPORT):
        return False
    _, found, rest = first.partition(_BATCH_RECORDS)
    digits = rest[: rest.find(b",")] if found else b""
    return digits.isdigit() and int(digits) == count
