"""Builds the errors of files that can't be read, and finds the lines that they name."""

from typing import Any

from shared.contract.errors import ApiError, ErrorCode

SAVE_AS_UTF_8 = "Save the spreadsheet as CSV UTF-8."


def count_line_breaks(text: str, end: int | None = None) -> int:
    """Counts the line breaks (LF, CR LF or CR) before `end`."""
    return text.count("\n", 0, end) + text.count("\r", 0, end) - text.count("\r\n", 0, end)


def find_line(data: bytes, position: int, encoding: str) -> int:
    """Returns the number of the line, from 1, in which a byte stands."""
    return count_line_breaks(data[:position].decode(encoding, errors="replace")) + 1


def invalid_encoding(message: str, **details: Any) -> ApiError:
    return ApiError(ErrorCode.INVALID_ENCODING, message, **details)


def invalid_csv(message: str, **details: Any) -> ApiError:
    return ApiError(ErrorCode.INVALID_CSV, message, **details)
