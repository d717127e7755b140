"""Recognizes files that are no CSV, so that the refusal names what was sent.

They are refused with `invalid_csv`. Text in a Unicode encoding without a byte order mark is refused
with `invalid_encoding`: saved in another encoding it would be a CSV.
"""

import codecs
import re
from collections.abc import Sequence

from shared.contract.errors import ApiError
from shared.spreadsheets.refusals import SAVE_AS_UTF_8, invalid_csv, invalid_encoding

ZIP = b"PK\x03\x04"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
SIGNATURES = {
    b"%PDF-": "a PDF",
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"GIF8": "a picture (GIF)",
    b"RIFF": "a picture or a video",
    b"II*\0": "a picture (TIFF)",
    b"MM\0*": "a picture (TIFF)",
    b"\x1f\x8b": "a compressed file (gzip)",
    b"BZh": "a compressed file (bzip2)",
    b"\xfd7zXZ": "a compressed file (xz)",
    b"(\xb5/\xfd": "a compressed file (zstd)",
    b"7z\xbc\xaf": "a compressed file (7z)",
    b"Rar!": "a compressed file (RAR)",
    b"{\\rtf": "a text document (RTF)",
    b"PAR1": "a Parquet file",
}
HEAD_BYTES = 4096
"""Bytes at the beginning of a file in which its type is looked for."""
MAX_NUL_SHARE = 1 / 16
"""Share of NUL bytes above which text counts as binary data. Below it only their rows fail."""

_JSON = re.compile(rb'[\[{]\s*(?:["{\[\]}]|$)').match
_MARKUP = re.compile(rb"<(?:!doctype|html|table|\?xml|meta)", re.IGNORECASE).match


def refuse_other_types(data: bytes) -> None:
    """Raises ApiError if the file is a workbook, JSON, a picture or another type that is no CSV."""
    head = data[:HEAD_BYTES].removeprefix(codecs.BOM_UTF8).lstrip()
    if _JSON(head):
        raise invalid_csv(
            "The file is JSON, not CSV. Send it to POST /v1/pins/imports/json, or use "
            "`pinflow import --format json`."
        )
    if _MARKUP(head):
        raise _wrong_type("a web page or an XML document")
    if data.startswith(ZIP):
        raise _wrong_type(_name_archive(data[:HEAD_BYTES]))
    if data.startswith(OLE):
        raise _wrong_type("a document of an old Office program, probably an Excel workbook (.xls)")
    for signature, name in SIGNATURES.items():
        if data.startswith(signature):
            raise _wrong_type(name)


def refuse_wide_text(data: bytes) -> None:
    """Raises ApiError if the text is UTF-32, or UTF-16 without a byte order mark."""
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise invalid_encoding(f"The file is UTF-32, which Pinflow does not read. {SAVE_AS_UTF_8}")
    if not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and (
        encoding := find_utf_16(data)
    ):
        raise invalid_encoding(
            f"The file is UTF-16 without a byte order mark. {SAVE_AS_UTF_8} Or send "
            f"?encoding={encoding}.",
            guess=encoding,
        )


def find_utf_16(data: bytes) -> str | None:
    """Returns the encoding of UTF-16 text by its NUL bytes: every second one, as names are ASCII.

    Returns None if the data is something else.
    """
    head = data[:HEAD_BYTES]
    if b"\0" not in head or len(head) < 4:  # noqa: PLR2004
        return None
    even, odd = head[::2], head[1::2]
    if odd.count(0) * 2 > len(odd) and even.count(0) * 16 < len(even):
        return "utf-16-le"
    if even.count(0) * 2 > len(even) and odd.count(0) * 16 < len(odd):
        return "utf-16-be"
    return None


def refuse_binary(text: str, header: Sequence[str]) -> None:
    """Raises ApiError if the header has a NUL, or the text too many of them."""
    if "\0" in "".join(header) or text.count("\0") > len(text) * MAX_NUL_SHARE:
        raise binary_data()


def binary_data() -> ApiError:
    return invalid_csv(f"The file is binary data, not CSV. {SAVE_AS_UTF_8}")


def _name_archive(head: bytes) -> str:
    if b"opendocument" in head:
        return "an OpenDocument file (.ods)"
    if b"word/" in head:
        return "a Word document (.docx)"
    if b"[Content_Types].xml" in head or b"xl/" in head:
        return "an Excel workbook (.xlsx)"
    if b"Index/" in head:
        return "a Numbers document"
    return "a ZIP archive"


def _wrong_type(name: str) -> ApiError:
    return invalid_csv(
        f"The file is {name}, not CSV. Open it in a spreadsheet program and save it as CSV UTF-8."
    )
