"""Reads the file of an import and finds out its format by its name and its beginning."""

import codecs
import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, NoReturn

from deploy.cli.exit_codes import fail
from deploy.cli.tables import printable
from shared.contract.errors import ApiError
from shared.spreadsheets.columns import find_field
from shared.spreadsheets.file_types import refuse_other_types

STDIN = "-"
MAX_EXAMINED_BYTES = 8192
"""Bytes at the beginning of a file from which its format is found out."""
MAX_SHOWN_CHARACTERS = 40
MIN_KNOWN_NAMES = 2
"""Names of columns by which the header of a CSV file is recognized."""
_JSON_BEGINNING = re.compile(r'\s*(?:\[\s*[{\]]|\{\s*["}])').match


class Format(StrEnum):
    JSON = "json"
    CSV = "csv"


_FORMATS = {".json": Format.JSON, ".csv": Format.CSV, ".tsv": Format.CSV}


class SourceFile(NamedTuple):
    name: str
    """The name that the import shows."""
    data: bytes
    format: Format


def read_source_file(file: str, chosen: Format | None) -> SourceFile:
    """Reads a file, or standard input for `-`. Ends the command if its format is not clear.

    A chosen format is never questioned.
    """
    data = _read(file)
    name = "standard input" if file == STDIN else Path(file).name
    detected = chosen or _detect_format(file, name, data)
    return SourceFile(f"stdin.{detected}" if file == STDIN else name, data, detected)


def _read(file: str) -> bytes:
    if file == STDIN:
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        fail(f"Can't read {file}: {error.strerror}. Check the path and its permissions.")


def _detect_format(file: str, name: str, data: bytes) -> Format:
    suffix = "" if file == STDIN else Path(file).suffix.lower()
    beginning = _decode_beginning(data)
    content = _recognize(beginning)
    if content is None and not beginning.lstrip().startswith(("[", "{")):
        _refuse_other_types(name, data)
    named = _FORMATS.get(suffix)
    if named and content and content is not named:
        _fail_for_wrong_name(name, named, content, beginning)
    if named:
        return named
    if content is None or file != STDIN:
        _fail_for_unclear(name)
    return content


def _refuse_other_types(name: str, data: bytes) -> None:
    try:
        refuse_other_types(data)
    except ApiError as error:
        fail(f"{name}: {error.message}")


def _fail_for_unclear(name: str) -> NoReturn:
    fail(
        f"The format of {name} is not clear. Rename the file to end in .json or .csv, or add "
        "--format json or --format csv. (Save a spreadsheet as CSV first.)"
    )


def _fail_for_wrong_name(name: str, named: Format, content: Format, beginning: str) -> NoReturn:
    shown = printable(beginning.lstrip()[:MAX_SHOWN_CHARACTERS])
    fail(
        f"{name} is named as {named.upper()}, but its content is {content.upper()}: it begins with "
        f"{shown} … Rename it to end in .{content}, or add --format {content}. (To send it as "
        f"{named.upper()} nevertheless: --format {named}.)"
    )


def _decode_beginning(data: bytes) -> str:
    beginning = data[:MAX_EXAMINED_BYTES]
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return beginning.decode("utf-16", errors="replace")
    return beginning.decode("utf-8", errors="replace").lstrip("\ufeff")


def _recognize(beginning: str) -> Format | None:
    if _JSON_BEGINNING(beginning):
        return Format.JSON
    first_lines = beginning.lstrip("\r\n,;\t ").splitlines()[:2]  # Excel may write sep=; first
    names = [name.strip(' "') for line in first_lines for name in re.split("[,;\t]", line)]
    known = {field for name in names if (field := find_field(name))}
    return Format.CSV if len(known) >= MIN_KNOWN_NAMES else None
