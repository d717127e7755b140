"""Calculates the maximum size of one import's record batch. Compression is not assumed to help.

Kafka rejects a batch above its topic's `max.message.bytes`, so every import that the API accepts
must fit. The limits of topics, producers and consumers are derived from MAX_IMPORT_BYTES.
"""

from shared.contract.events import MAX_ROWS

MEBIBYTE = 1024 * 1024

MAX_IMPORT_BODY_BYTES = 5 * MEBIBYTE
"""Size of an import's body over HTTP. A setting can lower this limit."""
MAX_REQUEST_BYTES = 6 * MEBIBYTE + 64 * 1024
"""Size of a record on `import-requests`: an import of 6 MiB and its headers."""
JSON_GROWTH = 2
"""Growth of a row's bytes in JSON: an escaped character takes two bytes.

Most control characters would take six, but a row that has one fails validation.
"""
CSV_GROWTH = 3
"""Growth of a CSV file's bytes: one byte of Windows-1252 becomes up to three bytes of UTF-8.

JSON escapes only ASCII characters: their one byte becomes two.
"""
ROW_OVERHEAD = 2048
"""Bytes of a row without its values: field names, ids, quotes of 50 terms, headers, framing."""
MAX_RESULTS_BYTES = 2 * MEBIBYTE
"""Size of the results of all rows that failed validation. They are truncated to fit."""
IMPORT_OVERHEAD = 128 * 1024
"""Bytes of the ImportAccepted record, with file name and warnings, and of the batch header."""
UPLOAD_OVERHEAD = 64 * 1024
"""Bytes that zstd may add to incompressible content, plus the JSON line before the content."""

MAX_IMPORT_BYTES = (
    max((CSV_GROWTH + 1) * MAX_IMPORT_BODY_BYTES, (JSON_GROWTH + 1) * MAX_REQUEST_BYTES)
    + MAX_ROWS * ROW_OVERHEAD
    + MAX_RESULTS_BYTES
    + IMPORT_OVERHEAD
    + UPLOAD_OVERHEAD
)
"""Size of an import's batch before compression: rows, results, upload and overhead."""
MAX_PACKED_IMPORT_BYTES = MAX_IMPORT_BYTES * 7 // 6 + MEBIBYTE
"""Size of the batch after compression in the worst case.

snappy can enlarge incompressible data by a sixth, and adds its framing.
"""
