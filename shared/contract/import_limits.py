"""Adds up how large one import's record batch can be. Compression is not counted on.

Kafka refuses a batch above its topic's `max.message.bytes`, so an import that passed every limit of
the API has to fit. Everything that must carry a batch follows from MAX_IMPORT_BYTES.
"""

from shared.contract.events import MAX_ROWS

MEBIBYTE = 1024 * 1024

MAX_IMPORT_BODY_BYTES = 5 * MEBIBYTE
"""Bytes of an import's body over HTTP, at most; a setting may lower it."""
MAX_REQUEST_BYTES = 6 * MEBIBYTE + 64 * 1024
"""Bytes of a record on `import-requests`: a whole import of 6 MiB, and its headers."""
JSON_GROWTH = 2
"""JSON escapes a character in two bytes: control characters, which take six, fail their row."""
CSV_GROWTH = 3
"""A byte of Windows-1252 becomes up to three bytes of UTF-8. What is escaped is ASCII: one byte
becomes two."""
ROW_OVERHEAD = 2048
"""Bytes of a row beside its values: the names of all fields, ids, quotes of 50 terms, headers,
framing."""
MAX_RESULTS_BYTES = 2 * MEBIBYTE
"""Bytes of the results of all rows that failed validation. They are cut to fit."""
IMPORT_OVERHEAD = 128 * 1024
"""Bytes of the import's own record, with its file name and warnings, and of the batch."""
UPLOAD_OVERHEAD = 64 * 1024
"""Bytes that compression may add to an upload that does not compress, and of the line before it."""

MAX_IMPORT_BYTES = (
    max((CSV_GROWTH + 1) * MAX_IMPORT_BODY_BYTES, (JSON_GROWTH + 1) * MAX_REQUEST_BYTES)
    + MAX_ROWS * ROW_OVERHEAD
    + MAX_RESULTS_BYTES
    + IMPORT_OVERHEAD
    + UPLOAD_OVERHEAD
)
"""Bytes of an import's batch before compression: its rows, the upload itself, and all that stands
beside them."""
MAX_PACKED_IMPORT_BYTES = MAX_IMPORT_BYTES * 7 // 6 + MEBIBYTE
"""The same after compression, at worst: snappy lets what does not compress grow by a sixth, and
frames it."""
