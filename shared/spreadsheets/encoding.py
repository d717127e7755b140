"""Decodes a file: as the client declared, as its byte order mark says, as UTF-8 or Windows-1252."""

import codecs
import encodings
from encodings.aliases import aliases
from typing import NamedTuple

from shared.contract.errors import ApiError
from shared.contract.events import Notice
from shared.contract.pins import make_printable
from shared.spreadsheets import western_text
from shared.spreadsheets.file_types import (
    binary_data,
    find_utf_16,
    refuse_other_types,
    refuse_wide_text,
)
from shared.spreadsheets.refusals import SAVE_AS_UTF_8, find_line, invalid_encoding

READABLE = frozenset(
    {
        "ascii", "utf_8", "utf_8_sig", "utf_16", "utf_16_le", "utf_16_be",
        "cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257",
        "cp1258", "cp874",
        "latin_1", "iso8859_1", "iso8859_2", "iso8859_3", "iso8859_4", "iso8859_5",
        "iso8859_6", "iso8859_7", "iso8859_8", "iso8859_9", "iso8859_10", "iso8859_11",
        "iso8859_13", "iso8859_14", "iso8859_15", "iso8859_16", "tis_620",
        "cp437", "cp720", "cp737", "cp775", "cp850", "cp852", "cp855", "cp857", "cp858",
        "cp860", "cp861", "cp862", "cp863", "cp864", "cp865", "cp866", "cp869", "cp1125",
        "kz1048", "ptcp154", "koi8_r", "koi8_u", "koi8_t",
        "mac_roman", "mac_latin2", "mac_cyrillic", "mac_greek", "mac_turkish",
        "mac_iceland", "mac_croatian", "mac_romanian",
        "shift_jis", "shift_jis_2004", "shift_jisx0213", "cp932", "euc_jp",
        "euc_jis_2004", "euc_jisx0213", "gb2312", "gbk", "gb18030", "big5", "big5hkscs",
        "cp950", "euc_kr", "cp949", "johab",
    }
)  # fmt: skip
"""Python's names of the encodings in which a program may save a CSV.

Not among them: codecs that are no text encoding (rot13, zip, idna), UTF-7, EBCDIC, and encodings
with escape sequences, in which ASCII bytes have a second meaning.
"""
SUPERSETS = {
    "latin_1": "cp1252",
    "iso8859_1": "cp1252",
    "iso8859_9": "cp1254",
    "iso8859_11": "cp874",
    "tis_620": "cp874",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
}
"""Encodings that are read as the larger one of Windows, as the WHATWG's Encoding Standard says.

Windows programs declare the smaller one.
"""
MAX_NAME_LENGTH = 64
REPLACEMENT = "\ufffd"
"""Stands for a broken sequence in text that Python decoded nevertheless."""

GUESSED_ENCODING = Notice(
    code="guessed_encoding",
    message=(
        "The file is not UTF-8 and was read as Windows-1252. Check letters with accents, or save "
        "the file as UTF-8."
    ),
)


DOUBTFUL_ENCODING = Notice(
    code="doubtful_encoding",
    message=(
        "The file was read in the encoding that was declared, but its bytes are UTF-8 as well. "
        "Check letters with accents. If they are wrong, declare utf-8 or no encoding."
    ),
)


class DecodedText(NamedTuple):
    """A file's text without byte order marks, and Python's name of its encoding."""

    text: str
    encoding: str
    warnings: list[Notice]


def decode(data: bytes, declared: str | None) -> DecodedText:
    """Decodes a file. Raises ApiError for a file of another type and for an unclear encoding."""
    refuse_other_types(data)
    if declared is not None:
        decoded = _decode_as_declared(data, declared)
    elif data.startswith(codecs.BOM_UTF8):
        decoded = DecodedText(_decode_as(data, "utf-8"), "utf-8", [])
    else:
        refuse_wide_text(data)
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            decoded = DecodedText(_decode_as(data, "utf-16"), "utf-16", [])
        else:
            decoded = _decode_unmarked(data)
    # A program that writes a mark on each save may have written several
    return decoded._replace(text=decoded.text.lstrip("\ufeff"))


def _decode_unmarked(data: bytes) -> DecodedText:
    try:
        return DecodedText(data.decode(), "utf-8", [])
    except UnicodeDecodeError as error:
        line = find_line(data, error.start, "utf-8")
    if b"\0" in data:
        raise binary_data()
    if _is_faulty_utf_8(data):
        raise invalid_encoding(
            f"Line {line} has bytes that are not UTF-8; the rest of the file is UTF-8. A program "
            f"may have cut a character. Correct the line. {SAVE_AS_UTF_8}",
            line=line,
            guess="utf-8",
        )
    judgment = western_text.judge(data)
    if not judgment.is_western:
        raise _not_western(line, judgment.guess)
    # Western text may have a byte without a meaning in Windows-1252 as well
    return DecodedText(_decode_as(data, "cp1252"), "cp1252", [GUESSED_ENCODING])


def _not_western(line: int, guess: str | None) -> ApiError:
    looks, name = (
        (f"The file looks like {guess}, which is not certain. ", guess)
        if guess
        else ("Its encoding is unclear. ", "windows-1251")
    )
    example = "" if guess else "for example "
    return invalid_encoding(
        f"Line {line} is not UTF-8. {looks}{SAVE_AS_UTF_8} Or declare its encoding: "
        f"{example}?encoding={name}, or pinflow import --encoding {name}.",
        line=line,
        guess=guess,
    )


def _decode_as_declared(data: bytes, declared: str) -> DecodedText:
    encoding = resolve_encoding(declared)
    if data.startswith(codecs.BOM_UTF8) and encoding not in {"utf_8", "utf_8_sig"}:
        raise invalid_encoding(
            f"The file begins with the byte order mark of UTF-8, but its encoding is declared as "
            f"{make_printable(declared)}. Declare utf-8, or no encoding."
        )
    if encoding == "utf_16" and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = find_utf_16(data) or "utf-16-le"
    text = _decode_as(data, encoding.replace("_", "-"), declared)
    is_doubtful = not encoding.startswith("utf") and not data.isascii() and _is_utf_8(data)
    warnings = [DOUBTFUL_ENCODING] if is_doubtful else []
    return DecodedText(text, encoding.replace("_", "-"), warnings)


def _is_utf_8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def resolve_encoding(name: str) -> str:
    """Returns Python's name of a declared encoding. Raises ApiError if it is not a readable one.

    Compares names with Python's table of aliases. codecs.lookup would keep every unknown name that
    a client sends in memory.
    """
    normalized = encodings.normalize_encoding(name.strip()[:MAX_NAME_LENGTH]).lower()
    if normalized.startswith("windows_"):
        normalized = normalized.replace("windows_", "cp", 1)
    found = aliases.get(normalized, normalized)
    if found not in READABLE:
        raise invalid_encoding(
            f'The encoding "{make_printable(name, MAX_NAME_LENGTH)}" is unknown, or is not used '
            "for CSV files. Declare utf-8, windows-1252, windows-1251 or shift_jis, for example."
        )
    return SUPERSETS.get(found, found)


def _decode_as(data: bytes, encoding: str, declared: str | None = None) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = find_line(data, error.start, encoding)
    raise invalid_encoding(
        f"Line {line} can't be read as {make_printable(declared or encoding)}"
        f"{', the declared encoding' if declared else ''}. {SAVE_AS_UTF_8}",
        line=line,
    )


def _is_faulty_utf_8(data: bytes) -> bool:
    """Returns whether the data is UTF-8 except for some sequences.

    In other encodings a correct sequence is an accident, and most are broken.
    """
    text = data.decode(errors="replace")
    broken = text.count(REPLACEMENT) - data.count(REPLACEMENT.encode())
    correct = len(text) - len(text.encode("ascii", errors="ignore")) - broken
    return broken <= correct
